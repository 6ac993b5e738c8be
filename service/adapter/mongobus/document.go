package mongobus

import (
	"encoding/binary"
	"slices"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"foyer/service"
)

// A document has the fields
//
//	_id     an ObjectId
//	to      the names of the nodes that it is for; "all!" stands for all of them
//	from    the tag of its sender
//	at      the time at the server, which makes it of an empty one
//	frames  frame after frame: the name of its node, its number among the sender's frames for that node, its size, the
//	        frame
const headBytes = nameBytes + 8 + 4

const nameBytes = 4

// toAll is no name of a node, and as long as one.
const toAll service.NodeID = "all!"

// pack is what is about to be a document.
type pack struct {
	to     []service.NodeID // each once
	frames []byte
	count  int // of frames that have bytes
}

func (p *pack) add(to service.NodeID, number int64, frame []byte) {
	if !slices.Contains(p.to, to) {
		p.to = append(p.to, to)
	}
	p.frames = append(p.frames, to...)
	p.frames = binary.LittleEndian.AppendUint64(p.frames, uint64(number))
	p.frames = binary.LittleEndian.AppendUint32(p.frames, uint32(len(frame)))
	p.frames = append(p.frames, frame...)
	if len(frame) > 0 {
		p.count++
	}
}

// document makes the document.
func (p *pack) document(id bson.ObjectID, tag int64) bson.Raw {
	start, doc := bsoncore.AppendDocumentStart(make([]byte, 0, len(p.frames)+documentBytes))
	doc = bsoncore.AppendObjectIDElement(doc, "_id", id)
	list, doc := bsoncore.AppendArrayElementStart(doc, "to")
	for i, name := range p.to {
		doc = bsoncore.AppendStringElement(doc, strconv.Itoa(i), string(name))
	}
	doc, _ = bsoncore.AppendArrayEnd(doc, list) // it is no longer than 2 GiB
	doc = bsoncore.AppendInt64Element(doc, "from", tag)
	doc = bsoncore.AppendTimestampElement(doc, "at", 0, 0)
	doc = bsoncore.AppendBinaryElement(doc, "frames", 0, p.frames)
	doc, _ = bsoncore.AppendDocumentEnd(doc, start)
	return doc
}

// documentBytes is about how much a document takes beside its frames.
const documentBytes = 128

// eachFrame calls a function for each frame of a document's bytes, until they end or are none.
func eachFrame(b []byte, do func(to service.NodeID, number int64, frame []byte)) {
	for len(b) >= headBytes {
		to := service.NodeID(b[:nameBytes])
		number := int64(binary.LittleEndian.Uint64(b[nameBytes:]))
		size := int64(binary.LittleEndian.Uint32(b[nameBytes+8:]))
		if b = b[headBytes:]; size > int64(len(b)) {
			return
		}
		do(to, number, b[:size])
		b = b[size:]
	}
}
