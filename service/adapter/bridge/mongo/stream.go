package mongo

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"foyer/service/adapter/mongodb"
	"foyer/service/adapter/official"
)

// reader gives the documents that are inserted, in the order of the collection.
type reader interface {
	// next waits for the next one, which is good until the next call. An error ends it, as does the end of ctx.
	next(ctx context.Context) (bson.Raw, error)
	close()
}

// place is how far was read: behind a token of the change stream, or behind a document.
type place struct {
	token bson.Raw
	last  bson.RawValue
}

var (
	errOver    = errors.New("the server has ended the cursor")
	errTrimmed = errors.New("the collection has no more what was read last")
)

const closeTimeout = 100 * time.Millisecond

// others are the documents that this node is to see: what servers on Node and emitters say, and its own words of this
// kind.
func (m *Medium) others(prefix string) bson.D {
	ours := bson.D{{Key: prefix + "uid", Value: bson.D{{Key: "$not", Value: bson.Regex{Pattern: "^" + regexp.QuoteMeta(m.cfg.Ours)}}}}}
	own := bson.D{{Key: prefix + "uid", Value: m.cfg.UID}, {Key: prefix + "type", Value: bson.D{{Key: "$in", Value: bson.A{helloType, beatType}}}}}
	return bson.D{{Key: "$or", Value: bson.A{ours, own}}}
}

// Types of messages that stand in documents.
const (
	helloType = 1
	beatType  = 2
)

// stream reads by a change stream.
type stream struct {
	*mongo.ChangeStream
	m *Medium
}

// openStream begins behind what was read, or at the present.
func (m *Medium) openStream(l *life) (reader, error) {
	coll := l.server.Collection(m.cfg.Collection, options.Collection().SetReadConcern(readconcern.Majority()))
	match := append(bson.D{{Key: "operationType", Value: "insert"}}, m.others("fullDocument.")...)
	pipeline := mongo.Pipeline{{{Key: "$match", Value: match}}}
	o := options.ChangeStream().SetMaxAwaitTime(mongodb.Await)
	if m.place.token != nil {
		o.SetResumeAfter(m.place.token)
	}
	s, err := coll.Watch(l.ctx, pipeline, o)
	if err != nil && m.place.token != nil && forgotten(err) {
		m.lose(err)
		s, err = coll.Watch(l.ctx, pipeline, options.ChangeStream().SetMaxAwaitTime(mongodb.Await))
	}
	if err != nil {
		return nil, err
	}
	m.place.token = s.ResumeToken()
	return &stream{s, m}, nil
}

// lose forgets how far was read, since the server does not know that place any more.
func (m *Medium) lose(why error) {
	m.place = place{}
	m.gap(why)
}

// forgotten says whether a server will not go on from where this node was.
func forgotten(err error) bool {
	answer, ok := errors.AsType[mongo.CommandError](err)
	return ok && answer.Code != 0 && !answer.HasErrorLabel("NetworkError") && !answer.HasErrorLabel("ResumableChangeStreamError")
}

func (s *stream) next(ctx context.Context) (bson.Raw, error) {
	for s.Next(ctx) {
		s.m.place.token = s.ResumeToken()
		if doc, ok := s.Current.Lookup("fullDocument").DocumentOK(); ok {
			return doc, nil
		}
	}
	err := s.Err()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err == nil:
		return nil, errOver
	case forgotten(err): // also where the next document is too large to be given out
		s.m.lose(err)
	default:
		s.m.place.token = s.ResumeToken() // it grows while nothing comes, too
	}
	return nil, err
}

func (s *stream) close() {
	ctx, stop := context.WithTimeout(context.Background(), closeTimeout)
	defer stop()
	_ = s.Close(ctx) // the server ends it by itself, too
}

// tail reads a capped collection.
type tail struct {
	*mongo.Cursor
	m     *Medium
	after bson.RawValue // documents up to this one are passed over
	mark  bson.RawValue // or up to this one, which this node has inserted later
	now   bool          // nothing is passed over any more
}

// markNamespace has no sockets, so no server looks at what is said there.
const markNamespace = "/foyer.mark"

// openTail begins behind what was read, if that is still there, or at the present.
func (m *Medium) openTail(l *life) (reader, error) {
	ctx, stop := context.WithTimeout(l.ctx, m.cfg.callTimeout)
	defer stop()
	t := &tail{m: m, after: m.place.last}
	id := bson.NewObjectID()
	mark := &official.Message{Kind: official.Heartbeat, UID: m.cfg.UID, Namespace: markNamespace}
	doc, err := official.AppendDocument(nil, mark, created(l), official.ObjectID(id))
	if err != nil {
		return nil, err
	}
	if _, err := l.coll.InsertOne(ctx, bson.Raw(doc)); err != nil {
		return nil, err
	}
	t.mark = bson.Raw(doc).Lookup("_id")
	if !t.after.IsZero() {
		err := l.coll.FindOne(ctx, bson.D{{Key: "_id", Value: t.after}}).Err()
		switch {
		case errors.Is(err, mongo.ErrNoDocuments):
			t.after = bson.RawValue{}
			m.lose(errTrimmed)
		case err != nil:
			return nil, err
		}
	}
	t.Cursor, err = l.server.Tail(l.ctx, m.cfg.Collection, m.others(""))
	return t, err
}

func (t *tail) next(ctx context.Context) (bson.Raw, error) {
	for t.Next(ctx) {
		id := t.Current.Lookup("_id")
		if t.now {
			t.keep(id)
			return t.Current, nil
		}
		t.now = same(id, t.after) || same(id, t.mark)
		if t.now {
			if len(t.after.Value) > 0 && !same(id, t.after) {
				t.m.lose(errTrimmed)
			}
			t.keep(id)
		}
	}
	err := t.Err()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err == nil:
		return nil, errOver
	case mongodb.Passed(err):
		t.m.lose(err)
	}
	return nil, err
}

// keep notes how far was read.
func (t *tail) keep(id bson.RawValue) {
	t.m.place.last = bson.RawValue{Type: id.Type, Value: bytes.Clone(id.Value)}
}

func same(a, b bson.RawValue) bool {
	return len(a.Value) > 0 && a.Type == b.Type && bytes.Equal(a.Value, b.Value)
}

func (t *tail) close() {
	ctx, stop := context.WithTimeout(context.Background(), closeTimeout)
	defer stop()
	_ = t.Close(ctx) // the server ends it by itself, too
}
