package engineio

import (
	"strings"
	"testing"
)

// Joined messages come as themselves, in order, whatever carries them.
func TestJoinedMessages(t *testing.T) {
	large := strings.Repeat("large ", compressFrom)
	joined := func() *Message {
		return JoinMessages([]*Message{
			NewMessage([]byte("one"), nil),
			NewMessage([]byte("51-two"), [][]byte{{1, 2, 3}}),
			NewBinary([]byte{0xff}),
			NewMessage([]byte(large), nil),
		})
	}
	want := []string{"4one", "451-two", "b:\x01\x02\x03", "b:\xff", "4" + large, "4last"}
	send := func(r *recorder) {
		r.session.Admit()
		if out := r.session.Send(joined(), 0); out != QueuedFlush && out != Queued {
			t.Errorf("joined: %v", out)
		}
		r.session.Send(NewMessage([]byte("last"), nil), 0)
		r.session.Flush()
	}
	empty := func(r *recorder) {
		eventually(t, "an even account", func() bool {
			r.session.mu.Lock()
			defer r.session.mu.Unlock()
			return r.session.pending == 0
		})
	}
	for name, compression := range map[string]bool{"websocket": false, "websocket with deflate": true} {
		t.Run(name, func(t *testing.T) {
			h := serveTCP(t, Config{Compression: compression})
			h.dialer.EnableCompression = compression
			p, r := h.openWebSocket()
			send(r)
			p.want(want...)
			empty(r)
		})
	}
	t.Run("polling", func(t *testing.T) {
		h := serveTCP(t, Config{})
		query, r := h.openPolling()
		send(r)
		body := h.do("GET", query, nil).body
		if want := "4one\x1e451-two\x1ebAQID\x1eb/w==\x1e4" + large + "\x1e4last"; body != want {
			t.Errorf("got %.80q", body)
		}
		empty(r)
	})
	t.Run("version 3", func(t *testing.T) {
		h := serveTCP(t, withEIO3)
		p := h.dial("EIO=3&transport=websocket")
		parseOpen(t, p.read())
		r := h.last()
		send(r)
		p.want("4one", "451-two", "b:\x04\x01\x02\x03", "b:\x04\xff", "4"+large, "4last")
		empty(r)
	})
}

// What does not fit is refused as a whole, as one message of that size would be.
func TestJoinedMessagesAreBounded(t *testing.T) {
	h := serveTCP(t, Config{QueueBytes: 1000})
	query, r := h.openPolling()
	r.session.Admit()
	r.session.Send(NewMessage([]byte("first"), nil), 0)
	part := NewMessage([]byte(strings.Repeat("x", 400)), nil)
	if out := r.session.Send(JoinMessages([]*Message{part, part, part}), 0); out != Full {
		t.Errorf("got %v", out)
	}
	if res := h.do("GET", query, nil); res.body != "4first" {
		t.Errorf("got %v", res)
	}
}

// Where they are queued one by one, each has its place.
func TestJoinedMessagesCountAsItems(t *testing.T) {
	part := NewMessage([]byte("part"), nil)
	joined := JoinMessages([]*Message{part, part, part})
	h := serveTCP(t, Config{QueueBytes: 4 * (itemOverhead + 5)})
	for before, want := range map[int]Outcome{1: Queued, 2: Full} {
		_, r := h.openPolling()
		r.session.Admit()
		for range before {
			r.session.Send(part, 0)
		}
		if out := r.session.Send(joined, 0); out != want {
			t.Errorf("behind %d: %v, want %v", before, out, want)
		}
	}
}
