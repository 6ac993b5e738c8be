package mongobus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/zap"

	"foyer/service"
	"foyer/service/adapter/lives"
	"foyer/service/adapter/mongodb"
)

var (
	errSplit = errors.New("what this node inserts does not come back to it")
	errOver  = errors.New("the server has ended the cursor")
	errTests = errors.New("refused")
)

// life is a client with what was said by it.
type life struct {
	lives.Course

	bus    *Bus
	in     *lives.Inbox
	server *mongodb.Server
	coll   *mongo.Collection
	tag    int64
	heard  map[numbers]int64 // owned by hear: the last number of each sender
}

// numbers are those that a sender gives to what it has for one node, or for all.
type numbers struct {
	from int64
	all  bool
}

// maxHeard is how many senders are known; then they are forgotten, and what was lost just then is not counted.
const maxHeard = 4096

// open makes a life. It waits for as long as the server may take to let this node in, to answer and to give something
// back.
func (b *Bus) open(ctx context.Context, in *lives.Inbox) (lives.Life, error) {
	if b.refuse.Load() {
		return nil, errTests
	}
	server, err := mongodb.Open(ctx, b.server)
	if err != nil {
		return nil, err
	}
	if err := b.prepare(ctx, server); err != nil {
		server.Close()
		return nil, mongodb.Judge(err)
	}
	l := &life{bus: b, in: in, server: server, coll: server.Collection(b.name), tag: b.out.begin(), heard: map[numbers]int64{}}
	l.Begin(ctx, 1, errSplit, func(error) { in.Lose(b.out.end()) })
	l.Run(l.write, l.hear, l.probe)
	if err := l.Whole(b.callTimeout); err != nil {
		_ = l.Bury()
		return nil, mongodb.Judge(err)
	}
	b.now.Store(l)
	return l, nil
}

// prepare makes the collection, if it is not there.
func (b *Bus) prepare(ctx context.Context, server *mongodb.Server) error {
	ctx, stop := context.WithTimeout(ctx, b.callTimeout)
	defer stop()
	if err := server.MakeCapped(ctx, b.name, b.bytes); err != nil {
		return err
	}
	is, err := server.Look(ctx, b.name)
	if err == nil && !is.Capped {
		err = &mongodb.Refusal{Err: fmt.Errorf(
			"the collection %s is there and is not capped, so nothing would be taken away from it: drop it, or give the cluster another --cluster-name", b.name)}
	}
	return err
}

// Bury implements lives.Life.
func (l *life) Bury() error {
	err := l.Course.Bury()
	l.server.Close()
	return err
}

// Drained implements lives.Life.
func (l *life) Drained() <-chan struct{} { return l.bus.out.emptied() }

func (l *life) write() error {
	lost, err := l.bus.out.write(l.Context, func(list []pack) error {
		ctx, stop := context.WithTimeout(l.Context, l.bus.callTimeout)
		defer stop()
		documents := make([]any, len(list))
		for i := range list {
			documents[i] = list[i].document(bson.NewObjectID(), l.tag)
		}
		_, err := l.coll.InsertMany(ctx, documents)
		return err
	})
	l.in.Lose(lost)
	return err
}

// hear takes what comes, until this life ends.
func (l *life) hear() error {
	for {
		err := l.follow()
		if !mongodb.Passed(err) || l.Context.Err() != nil {
			return err
		}
		l.bus.log.Warn("frames lost, since this node was behind by more than the collection keeps", zap.String("collection", l.bus.name))
	}
}

// follow takes what comes from now on, until the cursor is lost.
func (l *life) follow() error {
	mark, since, err := l.mark()
	if err != nil {
		return err
	}
	cursor, err := l.server.Tail(l.Context, l.bus.name, bson.D{
		{Key: "at", Value: bson.D{{Key: "$gte", Value: since}}},
		{Key: "$or", Value: bson.A{
			bson.D{{Key: "to", Value: string(l.bus.self)}},
			bson.D{{Key: "to", Value: string(toAll)}, {Key: "from", Value: bson.D{{Key: "$ne", Value: l.tag}}}},
		}},
	})
	if err != nil {
		return err
	}
	defer func() {
		ctx, stop := context.WithTimeout(context.WithoutCancel(l.Context), closeTimeout)
		defer stop()
		_ = cursor.Close(ctx) // the server ends it by itself, too
	}()
	now := false
	for cursor.Next(l.Context) {
		doc := cursor.Current
		if id, ok := doc.Lookup("_id").ObjectIDOK(); ok && id == mark {
			now = true
		}
		if now {
			l.take(doc)
		}
	}
	if err := cursor.Err(); err != nil {
		return err
	}
	return errOver
}

const closeTimeout = 100 * time.Millisecond

// mark inserts a document without frames, and returns the time that it was given.
func (l *life) mark() (id bson.ObjectID, at bson.Timestamp, err error) {
	ctx, stop := context.WithTimeout(l.Context, l.bus.callTimeout)
	defer stop()
	id = bson.NewObjectID()
	p := pack{to: []service.NodeID{l.bus.self}}
	if _, err = l.coll.InsertOne(ctx, p.document(id, l.tag)); err != nil {
		return id, at, err
	}
	doc, err := l.coll.FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Raw()
	at.T, at.I, _ = doc.Lookup("at").TimestampOK()
	return id, at, err
}

// take reads a document. What is for others, or is none of a node, is not kept.
func (l *life) take(doc bson.Raw) {
	from, _ := doc.Lookup("from").Int64OK()
	if from == l.tag {
		l.Echo(0)
		return
	}
	_, frames, _ := doc.Lookup("frames").BinaryOK()
	eachFrame(frames, func(to service.NodeID, number int64, frame []byte) {
		if all := to == toAll; all || to == l.bus.self {
			l.count(numbers{from, all}, number)
			if l.in.Wants(len(frame)) {
				l.in.Put(bytes.Clone(frame))
			}
		}
	})
}

// count sees by a number whether documents of a sender are missing before it.
func (l *life) count(of numbers, n int64) {
	last := l.heard[of]
	if last > 0 && n > last+1 {
		l.in.Lose(int(n - last - 1))
	}
	if len(l.heard) >= maxHeard {
		clear(l.heard)
	}
	l.heard[of] = n
}

// probe inserts something now and then, which is to come back.
func (l *life) probe() error {
	return l.Probe(probeEvery, func(time.Duration) error {
		l.bus.out.probe(l.bus.self)
		return nil
	})
}
