package mongo

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/zap"

	"foyer/service/adapter/mongodb"
)

// CollectionError is why the collection does not do.
type CollectionError struct{ text string }

func (e *CollectionError) Error() string { return e.text }

// life is a client, and the reader that it has.
type life struct {
	server *mongodb.Server
	coll   *mongo.Collection
	reader reader
	dated  bool // documents have the date by whose age the collection gives them up
	ctx    context.Context
	cancel context.CancelFunc
}

// open makes a life, whose reader has begun.
func (m *Medium) open() (*life, error) {
	server, err := mongodb.Open(m.ctx, m.server)
	if err != nil {
		return nil, err
	}
	l := &life{server: server, coll: server.Collection(m.cfg.Collection)}
	l.ctx, l.cancel = context.WithCancel(m.ctx)
	if err := m.prepare(l); err != nil {
		l.cancel()
		server.Close()
		return nil, mongodb.Judge(err)
	}
	return l, nil
}

func (m *Medium) prepare(l *life) error {
	ctx, stop := context.WithTimeout(l.ctx, m.cfg.callTimeout)
	defer stop()
	is, err := l.server.Look(ctx, m.cfg.Collection)
	if err != nil {
		return err
	}
	refuse := func(format string, args ...any) error {
		return &mongodb.Refusal{Err: &CollectionError{fmt.Sprintf(format, args...)}}
	}
	l.dated = is.TTL == "createdAt"
	switch {
	case !is.Exists:
		return refuse("there is no collection %s in the database %s; servers on Node and Foyer share one that their application has made",
			m.cfg.Collection, m.cfg.URL.Database)
	case l.server.Replicas:
		l.reader, err = m.openStream(l)
	case is.Capped:
		l.reader, err = m.openTail(l)
	default:
		return refuse("this MongoDB server is in no replica set, so it has no change streams, and the collection %s is not capped: one of both is needed",
			m.cfg.Collection)
	}
	return err
}

// begin makes a life the one that messages go by.
func (m *Medium) begin(l *life) {
	m.begins.Lock()
	defer m.begins.Unlock()
	m.mu.Lock()
	m.life = l
	var list []string
	for namespace, h := range m.hearings {
		if h.begun {
			list = append(list, namespace)
		}
	}
	m.mu.Unlock()
	for _, namespace := range list {
		m.beats.Begin(namespace)
	}
}

// ends notes that a life is over.
func (m *Medium) ends(l *life) {
	m.mu.Lock()
	m.life = nil
	m.mu.Unlock()
	m.beats.Pause()
	l.reader.close()
	l.cancel()
	l.server.Close()
}

// now is the life that is; nil: there is none.
func (m *Medium) now() *life {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.life
}

// gap notes that documents were missed.
func (m *Medium) gap(why error) {
	m.count("gap", 1)
	m.log.Warn("gap: some of what servers on Node have said was not heard", zap.Error(why))
}
