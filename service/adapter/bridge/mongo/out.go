package mongo

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/zap"

	"foyer/service/adapter/mongodb"
	"foyer/service/adapter/official"
)

const (
	batchBytes = 4 << 20
	batchMost  = 256
	// insertFor is how long the outbox tries to insert something. A caller that waited for it has given up by then.
	insertFor = 10 * time.Second
)

// saying is a document that waits to be inserted.
type saying struct {
	doc bson.Raw
	at  time.Time
	end chan struct{} // closed when all before was inserted or lost; there is no document then
}

func (s *saying) bytes() int {
	if s.end != nil {
		return 0
	}
	return len(s.doc) + overhead
}

// Publish implements bridge.Medium.
func (m *Medium) Publish(message *official.Message, _ string) error {
	l := m.now()
	if l == nil {
		return errAway
	}
	doc, err := official.AppendDocument(nil, message, created(l), official.ObjectID(bson.NewObjectID()))
	switch {
	case err != nil:
		return err
	case len(doc) > maxDocument:
		return official.TooLarge
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.hearingLocked(message.Namespace)
	if h == nil {
		return errMany
	}
	s := saying{doc: doc, at: time.Now()}
	if h.said = s.at; !message.Kind.Answer() && message.Kind != official.Hello && message.Kind != official.Heartbeat {
		h.used = s.at
	}
	if !m.out.Put(s, s.bytes()) {
		return errFull
	}
	return nil
}

// created is the date of a new document; zero: it has none.
func created(l *life) (at time.Time) {
	if l.dated {
		at = time.Now()
	}
	return at
}

// publish inserts what waits, until Close.
func (m *Medium) publish() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.out.Filled():
		}
		for list := m.out.Take(); len(list) > 0; {
			n, bytes := 0, 0
			if end := list[0].end; end != nil {
				close(end)
				list = list[1:]
				continue
			}
			for n < len(list) && list[n].end == nil && n < batchMost && (n == 0 || bytes+list[n].bytes() <= batchBytes) {
				bytes += list[n].bytes()
				n++
			}
			m.insert(list[:n])
			m.out.Done(bytes)
			list = list[n:]
		}
	}
}

// insert inserts documents in their order. When it is not known what became of some, they are inserted again: those
// that are there already, the server finds by their ids.
func (m *Medium) insert(list []saying) {
	for {
		why := errAway
		if l := m.now(); l != nil {
			documents := make([]any, len(list))
			for i := range list {
				documents[i] = list[i].doc
			}
			ctx, stop := context.WithTimeout(m.ctx, m.cfg.callTimeout)
			_, err := l.coll.InsertMany(ctx, documents)
			stop()
			if err == nil {
				return
			}
			if n, ok := mongodb.Repeated(err); ok {
				if list = list[n:]; len(list) == 0 {
					return
				}
				continue
			}
			if n, ok := refusedAt(err); ok { // this one will never be taken
				m.lost(1, err)
				if list = list[n+1:]; len(list) == 0 {
					return
				}
				continue
			}
			why = err
		}
		if time.Since(list[0].at) > insertFor || m.ctx.Err() != nil {
			m.lost(len(list), why)
			return
		}
		select {
		case <-m.ctx.Done():
		case <-time.After(retryWait):
		}
	}
}

// refusedAt says which document the server has refused.
func refusedAt(err error) (n int, ok bool) {
	failed, ok := errors.AsType[mongo.BulkWriteException](err)
	if !ok || len(failed.WriteErrors) != 1 {
		return 0, false
	}
	return failed.WriteErrors[0].Index, true
}

func (m *Medium) lost(n int, why error) {
	if m.ctx.Err() != nil {
		return
	}
	m.count("lost", n)
	m.log.Warn("messages not published: servers on Node do not hear them", zap.Int("messages", n), zap.Error(why))
}
