package mongodb

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Await is how long a server holds a question for what comes next.
const Await = time.Second

// Collection is what a server says of one.
type Collection struct {
	Exists bool
	Capped bool
	TTL    string // the date by whose age documents are removed; "": there is none
}

// Look asks what a collection is like.
func (s *Server) Look(ctx context.Context, name string) (c Collection, err error) {
	list, err := s.ListCollections(ctx, bson.D{{Key: "name", Value: name}})
	if err != nil {
		return c, err
	}
	var found []struct {
		Options struct {
			Capped bool `bson:"capped"`
		} `bson:"options"`
	}
	if err := list.All(ctx, &found); err != nil || len(found) == 0 {
		return c, err
	}
	c.Exists, c.Capped = true, found[0].Options.Capped
	indexes, err := s.Collection(name).Indexes().List(ctx)
	if err != nil {
		return c, err
	}
	for indexes.Next(ctx) {
		if _, err := indexes.Current.LookupErr("expireAfterSeconds"); err != nil {
			continue
		}
		if key, ok := indexes.Current.Lookup("key").DocumentOK(); ok {
			if fields, err := key.Elements(); err == nil && len(fields) == 1 {
				c.TTL = fields[0].Key()
			}
		}
	}
	return c, errors.Join(indexes.Err(), indexes.Close(ctx))
}

// MakeCapped makes a collection of this size that keeps what came last, unless it is there.
func (s *Server) MakeCapped(ctx context.Context, name string, bytes int64) error {
	err := s.CreateCollection(ctx, name, options.CreateCollection().SetCapped(true).SetSizeInBytes(bytes))
	var answer mongo.ServerError
	if errors.As(err, &answer) && answer.HasErrorCode(codeExists) {
		return nil
	}
	return err
}

// Tail follows a capped collection from its oldest document on. Next waits for the next one, until ctx ends.
func (s *Server) Tail(ctx context.Context, name string, filter bson.D) (*mongo.Cursor, error) {
	o := options.Find().SetCursorType(options.TailableAwait).SetMaxAwaitTime(Await).SetBatchSize(batchSize)
	return s.Collection(name).Find(ctx, filter, o)
}

const batchSize = 1000

// Passed says whether a cursor has ended since the collection keeps no more what would have come next.
func Passed(err error) bool {
	var answer mongo.ServerError
	return errors.As(err, &answer) && answer.HasErrorCode(codePositionLost)
}

// Repeated says how many of some documents, written in order, are there when one of them was there before; false: the
// error is another one.
func Repeated(err error) (n int, ok bool) {
	failed, ok := errors.AsType[mongo.BulkWriteException](err)
	if !ok || failed.WriteConcernError != nil || len(failed.WriteErrors) != 1 || failed.WriteErrors[0].Code != codeDuplicate {
		return 0, false
	}
	return failed.WriteErrors[0].Index + 1, true
}
