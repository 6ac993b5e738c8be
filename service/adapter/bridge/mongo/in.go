package mongo

import (
	"bytes"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"foyer/service/adapter/official"
)

// came is a message that waits for the bridge.
type came struct {
	message *official.Message
	bytes   int
}

// Types of messages in documents that answer a request, and sessions, which only servers on Node know what to do with.
const (
	socketsType = 8
	replyType   = 10
	countType   = 11
	ackType     = 12
	sessionType = 13
)

// read takes what comes until the life's reader ends.
func (m *Medium) read(l *life) error {
	for {
		doc, err := l.reader.next(l.ctx)
		if err != nil {
			return err
		}
		m.take(doc)
	}
}

// take reads a document as far as it is of use here. It does not wait for the bridge.
func (m *Medium) take(doc bson.Raw) {
	uid, _ := doc.Lookup("uid").StringValueOK()
	namespace, _ := doc.Lookup("nsp").StringValueOK()
	number, _ := doc.Lookup("type").AsInt64OK()
	switch {
	case uid == m.cfg.UID:
		if number == helloType {
			m.beats.Heard(namespace, uid, official.Hello)
		}
		return
	case strings.HasPrefix(uid, m.cfg.Ours), !m.hears(namespace):
		return
	}
	switch number {
	case socketsType, replyType, countType, ackType:
		if request, _ := doc.Lookup("data", "requestId").StringValueOK(); !strings.HasPrefix(request, m.mine) {
			m.beats.Heard(namespace, uid, official.Heartbeat)
			return // to what another server has asked
		}
	case sessionType:
		m.beats.Heard(namespace, uid, official.Heartbeat)
		return
	}
	if len(doc) > m.cfg.MaxBytes {
		m.drop(official.TooLarge.Reason(), namespace, nil)
		return
	}
	message, _, fault := official.ReadDocument(bytes.Clone(doc), m.cfg.MaxBytes)
	if fault != 0 {
		m.drop(fault.Reason(), namespace, nil)
		return
	}
	m.beats.Heard(namespace, uid, message.Kind)
	switch message.Kind {
	case official.Hello, official.Heartbeat:
		return
	}
	if c := (came{message, len(doc) + overhead}); !m.in.Put(c, c.bytes) {
		m.drop("busy", namespace, nil)
	}
}

// deliver gives what came to the bridge, until Close.
func (m *Medium) deliver(each func(*official.Message)) {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.in.Filled():
		}
		for _, c := range m.in.Take() {
			if m.ctx.Err() != nil {
				return
			}
			each(c.message)
			m.in.Done(c.bytes)
		}
	}
}
