package grpcapi

import (
	"bytes"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service/payload"
)

// attachRequest is what a handler's stream receives into: a valid reply to an event, read where it stands, or any other
// message. What is wrong with a message is found out and told by way of the generated code alone.
type attachRequest struct {
	maxBytes int

	message     *foyerv1.AttachRequest // nil: the reply that follows
	callID      uint64
	json        []byte // checked; a part of buf
	attachments [][]byte
	buf         mem.Buffer // of gRPC; nil: none
}

// read takes an AttachRequest with an EventReply that has its arguments as JSON.
func (r *attachRequest) read(buf mem.Buffer) bool {
	r.release()
	var f wireField
	rest, ok := f.next(buf.ReadOnlyData())
	if !ok || len(rest) > 0 || f.key != 3<<3|bytesField || !r.readReply(f.bytes) {
		*r = attachRequest{maxBytes: r.maxBytes, message: &foyerv1.AttachRequest{}}
		return false
	}
	buf.Ref()
	r.buf = buf
	return true
}

func (r *attachRequest) readReply(b []byte) (ok bool) {
	var f wireField
	found := false
	for len(b) > 0 {
		if b, ok = f.next(b); !ok {
			return false
		}
		switch {
		case f.key == 1<<3|varintField:
			r.callID = f.varint
		case f.key == 2<<3|bytesField && !found:
			if found = true; !r.readArgs(f.bytes) {
				return false
			}
		default:
			return false
		}
	}
	return found
}

func (r *attachRequest) readArgs(b []byte) (ok bool) {
	var f wireField
	for len(b) > 0 {
		if b, ok = f.next(b); !ok {
			return false
		}
		switch {
		case f.key == 1<<3|bytesField && r.json == nil:
			r.json = f.bytes
		case f.key == 3<<3|bytesField && len(r.attachments) < payload.MaxAttachments:
			r.attachments = append(r.attachments, bytes.Clone(f.bytes)) // they stay with the frame
		default:
			return false
		}
	}
	return checkSize(len(r.json), r.attachments, "", r.maxBytes) == nil &&
		payload.Check(r.json, len(r.attachments), payload.Options{Exact: true}) == nil // also that it is UTF-8
}

func (r *attachRequest) other() proto.Message {
	if r.message == nil {
		return nil
	}
	return r.message
}

// release gives the buffer back.
func (r *attachRequest) release() {
	if r.buf != nil {
		r.buf.Free()
	}
	*r = attachRequest{maxBytes: r.maxBytes}
}
