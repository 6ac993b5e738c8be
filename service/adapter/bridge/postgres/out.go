package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"foyer/service/adapter/official"
	"foyer/service/adapter/pgdial"
)

// saying is what waits to be published. Without a channel it only wakes.
type saying struct {
	channel string
	text    []byte           // nil: it is in the row
	row     []byte           // of the table of attachments
	head    official.Message // whose kind and UID stand in the notification of a row
	heard   <-chan struct{}  // closed when answers would be heard; nil: there are none
	bytes   int
}

// Publish implements bridge.Medium.
func (m *Medium) Publish(message *official.Message, _ string) error {
	s := saying{channel: m.channel(message.Namespace)}
	if s.channel == "" {
		m.count("channel_too_long", 1) // Follow has said so in the log
		return nil
	}
	var err error
	if s.text, s.row, err = official.NewNotification(message, 0); err != nil {
		return err
	}
	s.head = official.Message{Kind: message.Kind, UID: message.UID}
	s.bytes = len(s.text) + len(s.row) + overhead
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life == nil {
		return errAway
	}
	switch message.Kind {
	case official.Hello, official.Heartbeat, official.Goodbye:
	default:
		h := m.usedLocked(message.Namespace)
		if h == nil {
			return errMany
		}
		s.heard = h.heard
	}
	if !m.out.Put(s, s.bytes) {
		return errFull
	}
	return nil
}

// publish publishes what waits.
func (l *life) publish() error {
	m := l.medium
	var x pgdial.Batch
	for {
		select {
		case <-l.over:
			return errOver
		case <-m.out.Filled():
		}
		for list := m.out.Take(); len(list) > 0; {
			n, err := l.batch(&x, list)
			if err != nil {
				m.lose(list)
				return err
			}
			for i := range list[:n] {
				m.out.Done(list[i].bytes)
			}
			list = list[n:]
		}
		if l.closing.Load() {
			close(l.quiet)
			<-l.over
			return errOver
		}
	}
}

// lose counts what was not published when a life ends, or may not have been.
func (m *Medium) lose(list []saying) {
	lost := 0
	for i := range list {
		if m.out.Done(list[i].bytes); list[i].bytes > 0 { // no probe
			lost++
		}
	}
	if lost > 0 {
		m.count("lost", lost)
		m.log.Warn("messages not published: servers on Node do not hear them", zap.Int("messages", lost))
	}
}

// batch publishes some of a list, and returns how many. An error ends the life, and what became of them is not known.
func (l *life) batch(x *pgdial.Batch, list []saying) (n int, err error) {
	rows := 0
	for n < len(list) && n < batchMost && rows < rowsBytes {
		if s := &list[n]; s.heard != nil && !isClosed(s.heard) {
			if n > 0 {
				break // what was said before does not wait
			}
			l.await(s.heard)
		}
		rows += len(list[n].row)
		n++
	}
	list = list[:n]
	ctx, stop := context.WithTimeout(l.ctx, l.medium.cfg.callTimeout)
	defer stop()
	if rows > 0 {
		if err := l.attach(ctx, list); err != nil {
			return n, err
		}
	}
	for begin := 0; begin < n; {
		end := fill(x, list[begin:]) + begin
		err := l.pub.Notify(ctx, x)
		if answer, ok := errors.AsType[*pgconn.PgError](err); ok && !l.pub.IsClosed() {
			// Nothing of it was published; one of them may be at fault.
			err = l.oneByOne(ctx, x, list[begin:end], answer)
		}
		if err != nil {
			return n, err
		}
		begin = end
	}
	return n, nil
}

// fill puts what goes by one statement into a batch, and returns how much of the list that is. An equal notification
// gets spaces behind it.
func fill(x *pgdial.Batch, list []saying) (n int) {
	x.Reset()
	type notice struct{ channel, text string }
	var seen map[notice]int
	if len(list) > 1 {
		seen = make(map[notice]int, len(list))
	}
	for n < len(list) && x.Bytes() < batchBytes {
		s := &list[n]
		if s.text == nil { // it only wakes, or its row could not be made
			n++
			continue
		}
		spaces := 0
		if seen != nil {
			key := notice{s.channel, string(s.text)}
			spaces = seen[key]
			seen[key]++
		}
		if spaces > maxSpaces || len(s.text)+spaces > maxNotification {
			break // another statement
		}
		text := append(x.Add(s.channel, "", len(s.text)+spaces), s.text...)
		for range spaces {
			text = append(text, ' ')
		}
		x.Done(text)
		n++
	}
	return n
}

const (
	maxSpaces       = 64
	maxNotification = 7999
)

// oneByOne publishes a batch that was refused, but for what is at fault.
func (l *life) oneByOne(ctx context.Context, x *pgdial.Batch, list []saying, why error) error {
	for i := range list {
		if len(list) > 1 {
			if list[i].text == nil {
				continue
			}
			fill(x, list[i:i+1])
			if why = l.pub.Notify(ctx, x); why == nil {
				continue
			}
			if state(why) == "" || l.pub.IsClosed() {
				return why
			}
		}
		l.medium.drop("refused", list[i].channel, why)
	}
	return nil
}

// attach makes the rows of those that have one, and their notifications.
func (l *life) attach(ctx context.Context, list []saying) error {
	var rows pgconn.Batch
	var with []*saying
	for i := range list {
		if s := &list[i]; s.row != nil {
			rows.ExecPrepared(insertStatement, [][]byte{s.row}, binaryFormat, binaryFormat)
			with = append(with, s)
		}
	}
	results, err := l.pub.ExecBatch(ctx, &rows).ReadAll()
	if state(err) != "" && !l.pub.IsClosed() { // none was made
		l.medium.count("refused", len(with))
		l.medium.log.Warn("messages with attachments not published", zap.Int("messages", len(with)), zap.Error(err))
		return nil
	}
	if err != nil {
		return err
	}
	for i, r := range results {
		if i < len(with) && r.Err == nil && len(r.Rows) == 1 && len(r.Rows[0][0]) == 8 {
			with[i].text = official.AppendAttached(nil, &with[i].head, int64(binary.BigEndian.Uint64(r.Rows[0][0])))
		}
	}
	return nil
}

// await waits until answers would be heard, or for a while.
func (l *life) await(heard <-chan struct{}) {
	late := time.NewTimer(l.medium.cfg.listenWait)
	defer late.Stop()
	select {
	case <-heard:
	case <-late.C:
	case <-l.over:
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
