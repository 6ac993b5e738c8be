package streams

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"foyer/service/adapter/official"
)

const (
	readMost  = 100             // entries that are read at once, as the official adapter does
	readBytes = 4 << 20         // of those, so many bytes at most when they are as large as the last ones
	blockFor  = 3 * time.Second // for which the server waits for an entry
)

// reader reads one stream. All but namespaces is owned by its goroutine.
//
// It knows how many entries there have been in the stream up to the one that it has read last. Where the server has
// trimmed that one, it asks how many there have been before the first one that is left: so it knows exactly how many it
// has missed. That is looked at whenever the stream may have run ahead of it: when it gets as many entries as it reads
// at once, and when the connection was away. Less than that means that nothing was trimmed which it has not read, as
// long as servers keep more entries than it reads at once.
type reader struct {
	medium *Medium
	stream string

	at     id    // of the entry that was read last
	added  int64 // entries that there were up to it; -1: the server does not know (before Redis 7)
	most   int   // entries that are read at once
	behind bool  // the stream may have run ahead

	namespaces int // that are followed. Guarded by Medium.mu
}

// readFrom has one more namespace of a stream be heard: what is appended to it from now on.
func (m *Medium) readFrom(stream string) error {
	m.mu.Lock()
	r := m.readers[stream]
	if r != nil {
		r.namespaces++
	}
	m.mu.Unlock()
	if r != nil {
		return nil
	}
	ctx, stop := context.WithTimeout(m.ctx, m.cfg.callTimeout)
	defer stop()
	r = &reader{medium: m, stream: stream, namespaces: 1, most: readMost}
	is, err := r.look(ctx)
	if err != nil {
		return err
	}
	r.at, r.added = is.last, is.added
	m.mu.Lock()
	m.readers[stream] = r
	m.mu.Unlock()
	m.ended.Go(r.run)
	return nil
}

// run reads until no namespace of the stream is followed any more.
func (r *reader) run() {
	m := r.medium
	var wait retry
	for away := false; r.wanted(); {
		err := r.step()
		switch {
		case err == nil:
			if away {
				m.log.Info("stream is read again", zap.String("stream", r.stream))
			}
			away, wait = false, retry{}
			continue
		case m.ctx.Err() != nil:
			return
		case !away:
			away = true
			m.log.Warn("stream not read: what servers on Node and emitters say comes late", zap.String("stream", r.stream), zap.NamedError("err", err))
		}
		r.behind = true
		m.lookAgain(m.ctx)
		wait.pause(m.ctx)
	}
}

// wanted forgets the reader when nobody wants it: the next one to follow a namespace of the stream makes a new one. As
// long as somebody does it is known, at the end of the medium too, where a namespace may still be given back.
func (r *reader) wanted() bool {
	r.medium.mu.Lock()
	defer r.medium.mu.Unlock()
	if r.namespaces == 0 {
		delete(r.medium.readers, r.stream)
	}
	return r.namespaces > 0 && r.medium.ctx.Err() == nil
}

// step reads what comes next, and waits for it.
func (r *reader) step() error {
	ctx, stop := context.WithTimeout(r.medium.ctx, blockFor+r.medium.cfg.callTimeout)
	defer stop()
	at, err := server(ctx, r.medium.reading(), r.stream)
	if err != nil {
		return err
	}
	if r.behind {
		return r.catchUp(ctx, at)
	}
	answer, err := at.XRead(ctx, &redis.XReadArgs{Streams: []string{r.stream, r.at.String()}, Count: int64(r.most), Block: blockFor}).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return nil
	case err != nil:
		return err
	case len(answer) == 0:
		return nil
	case len(answer[0].Messages) >= r.most:
		r.behind = true
		return nil
	}
	r.take(answer[0].Messages)
	return nil
}

// catchUp reads from the last entry on, which is there or was trimmed.
func (r *reader) catchUp(ctx context.Context, at redis.Cmdable) error {
	list, err := at.XRangeN(ctx, r.stream, r.at.String(), "+", int64(r.most+1)).Result()
	if err != nil {
		return err
	}
	more := len(list) > r.most
	if len(list) > 0 && list[0].ID == r.at.String() {
		list = list[1:]
	} else if list, err = r.missed(ctx, list); err != nil {
		return err
	}
	r.behind = more
	r.take(list)
	return nil
}

// state is that of a stream.
type state struct {
	there       bool
	first, last id    // of what is in it; last may have been deleted
	length      int64 // entries that are in it
	added       int64 // entries that ever were; -1: the server does not know
}

// look asks for the state of the stream.
func (r *reader) look(ctx context.Context) (is state, err error) {
	at, err := server(ctx, r.medium.client(), r.stream)
	if err != nil {
		return is, err
	}
	info, err := at.XInfoStream(ctx, r.stream).Result()
	switch {
	case err != nil && strings.HasPrefix(err.Error(), "ERR no such key"):
		return state{}, nil
	case err != nil:
		return is, err
	}
	is = state{there: true, length: info.Length, added: info.EntriesAdded}
	if info.EntriesAdded < info.Length {
		is.added = -1
	}
	is.first, _ = parseID(info.FirstEntry.ID)
	last, ok := parseID(info.LastGeneratedID)
	if is.last = last; !ok {
		return is, errors.New("the server names no last entry of the stream")
	}
	return is, nil
}

// missed finds out what was trimmed before it was read, and returns the entries of a list that are still to be read.
func (r *reader) missed(ctx context.Context, list []redis.XMessage) ([]redis.XMessage, error) {
	is, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	before := is.added - is.length // entries before the first one that is left
	switch {
	case !is.there:
		if r.at != (id{}) {
			r.tell("the stream is gone", 0)
		}
		r.at, r.added = id{}, 0
		return nil, nil
	case is.last.less(r.at): // a server whose clock or whose data is behind; it is not known what of it was read
		r.tell("the stream has gone back", 0)
		r.at, r.added = is.last, is.added
		return nil, nil
	case is.length == 0:
		before = is.added
		defer func() { r.at = is.last }()
	case !r.at.less(is.first): // somebody has deleted the entry that was read last, and no other
		return list, nil
	}
	switch {
	case is.added < 0 || r.added < 0:
		if r.at != (id{}) {
			r.tell("entries may have been trimmed before they were read", 0)
		}
		r.added = -1
	case before > r.added:
		r.tell("entries were trimmed before they were read", before-r.added)
		r.added = before
	}
	for len(list) > 0 {
		if at, _ := parseID(list[0].ID); !at.less(is.first) {
			return list, nil
		}
		list = list[1:] // it was trimmed meanwhile, and is counted
	}
	if is.length > 0 {
		r.at = is.first.before()
	}
	return nil, nil
}

// tell says that something was missed, and how much if that is known.
func (r *reader) tell(what string, entries int64) {
	r.medium.count("trimmed", max(1, entries))
	r.medium.log.Warn("messages missed: "+what, zap.String("reason", "trimmed"), zap.String("stream", r.stream), zap.Int64("messages", entries))
}

// take has the bridge do what entries say.
func (r *reader) take(list []redis.XMessage) {
	bytes := 0
	for _, m := range list {
		if r.medium.ctx.Err() != nil {
			return
		}
		if at, ok := parseID(m.ID); ok {
			r.at = at
		}
		if r.added >= 0 {
			r.added++
		}
		e := entryOf(m.Values)
		bytes += len(e.Data)
		r.medium.heard(e, r.stream)
	}
	switch {
	case bytes > readBytes:
		r.most = max(1, r.most/2)
	case bytes < readBytes/4:
		r.most = min(readMost, 2*r.most)
	}
}

// heard has the bridge do what an entry says. What nodes of this cluster say comes by their trunks, and a stream has
// namespaces of which this node has nothing.
func (m *Medium) heard(e official.Entry, stream string) {
	if strings.HasPrefix(e.UID, m.cfg.Ours) {
		return
	}
	m.mu.Lock()
	space := m.spaces[e.NSP]
	followed := space != nil && space.is
	m.mu.Unlock()
	if !followed {
		return
	}
	message, fault := official.ReadEntry(e, m.cfg.MaxBytes)
	if fault != 0 {
		m.drop(fault.Reason(), stream)
		return
	}
	m.give(message)
}
