package engineio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

func TestWebSocketEcho(t *testing.T) {
	for _, compression := range []bool{false, true} {
		t.Run(fmt.Sprintf("compression %v", compression), func(t *testing.T) {
			h := serveTCP(t, Config{Compression: compression})
			h.onMsg = echo
			h.dialer.EnableCompression = true
			p, r := h.openWebSocket()
			r.session.Admit()
			long := strings.Repeat("hello ", 1<<15)
			for _, m := range []string{"4hello", "4", "4€", "4" + long} {
				p.write(m)
				p.want(m)
			}
			if err := p.conn.WriteMessage(websocket.BinaryMessage, []byte(long)); err != nil {
				t.Fatal(err)
			}
			p.want("b:" + long)
			p.write("bAQIDBA==")
			p.want("b:\x01\x02\x03\x04")
			for _, ignored := range []string{"0x", "5", "6", "3"} {
				p.write(ignored)
			}
			m := NewMessage([]byte(`2["e",{"_placeholder":true,"num":0}]`), [][]byte{bytes.Repeat([]byte{7}, 5000)})
			if r.session.Send(m, 0) == QueuedFlush {
				r.session.Flush()
			}
			p.want(`42["e",{"_placeholder":true,"num":0}]`, "b:"+strings.Repeat("\x07", 5000))
			p.conn.SetPongHandler(func(s string) error { return fmt.Errorf("pong %s", s) })
			_ = p.conn.WriteControl(websocket.PingMessage, []byte("abc"), noDeadline)
			if _, _, err := p.conn.ReadMessage(); err == nil || err.Error() != "pong abc" {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestWebSocketCloses(t *testing.T) {
	bomb := func(p *peer) {
		p.conn.EnableWriteCompression(true)
		_ = p.conn.WriteMessage(websocket.TextMessage, bytes.Repeat([]byte("4"), 64<<20))
	}
	raw := func(b ...byte) func(*peer) { return func(p *peer) { _, _ = p.conn.NetConn().Write(b) } }
	text := func(s string) func(*peer) { return func(p *peer) { p.write(s) } }
	for _, tt := range []struct {
		name  string
		do    func(p *peer)
		want  Reason
		code  int
		count string
	}{
		{"close packet", text("1"), ReasonTransportClose, 1005, ""},
		{"client ping", text("2"), ReasonTransportError, 1005, ""},
		{"unknown type", text("abc"), ReasonParseError, 1005, "parse_error"},
		{"empty text", text(""), ReasonParseError, 1005, "parse_error"},
		{"over the limit before Admit", text("4" + strings.Repeat("x", 16<<10)), ReasonTransportError, 1009, "oversize"},
		{"over any limit", text("4" + strings.Repeat("x", 3<<20)), ReasonTransportError, 1009, "oversize"},
		{"deflate bomb", bomb, ReasonTransportError, 1009, "oversize"},
		{"broken deflate", raw(0xc1, 0x83, 0, 0, 0, 0, 0xff, 0xff, 0xff), ReasonTransportError, 1007, "protocol_error"},
		{"invalid UTF-8", text("4\xff"), ReasonTransportError, 1007, "invalid_utf8"},
		{"unmasked", raw(0x81, 1, '4'), ReasonTransportError, 1002, "protocol_error"},
		{"reserved bit", raw(0xa1, 0x81, 0, 0, 0, 0, '4'), ReasonTransportError, 1002, "protocol_error"},
		{"bad opcode", raw(0x83, 0x80, 0, 0, 0, 0), ReasonTransportError, 1002, "protocol_error"},
		{"continuation of nothing", raw(0x80, 0x80, 0, 0, 0, 0), ReasonTransportError, 1002, "protocol_error"},
		{"length of 2^63", raw(0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), ReasonTransportError, 1009, "oversize"},
		{"peer closes", func(p *peer) {
			_ = p.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1001, ""), noDeadline)
		}, ReasonTransportClose, 1001, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := serveTCP(t, Config{Compression: true})
			h.dialer.EnableCompression = true
			p, r := h.openWebSocket()
			tt.do(p)
			p.wantClose(tt.code)
			r.wantClosed(t, tt.want)
			eventually(t, "gone", func() bool { return h.srv.Len() == 0 })
			if tt.count != "" && h.srv.Stats()[tt.count] != 1 {
				t.Errorf("%s not counted: %v", tt.count, h.srv.Stats())
			}
			if len(r.got()) != 0 {
				t.Errorf("delivered %.100q", r.got())
			}
		})
	}
}

func TestWebSocketDropped(t *testing.T) {
	h := serveTCP(t, Config{})
	p, r := h.openWebSocket()
	_ = p.conn.NetConn().(*net.TCPConn).SetLinger(0)
	_ = p.conn.Close()
	r.wantClosed(t, ReasonTransportClose)
}

// A graceful close writes what is queued, then a close frame without a code.
func TestWebSocketServerClose(t *testing.T) {
	h := serveTCP(t, Config{})
	p, r := h.openWebSocket()
	r.session.Admit()
	for i := range 100 {
		r.session.Send(NewMessage([]byte(fmt.Sprint(i)), nil), 0)
	}
	r.session.Close(ReasonForcedClose)
	r.session.Close(ReasonShutdown)
	for i := range 100 {
		p.want(fmt.Sprint("4", i))
	}
	p.wantClose(1005)
	r.wantClosed(t, ReasonForcedClose)
	eventually(t, "gone", func() bool { return h.srv.Len() == 0 })
}

// A client that stops reading fills the kernel, then the queue, and is cut when its time is over; nobody waits for it.
func TestWebSocketSlow(t *testing.T) {
	h := serveTCP(t, Config{QueueBytes: 256 << 10, SlowAfter: 100 * time.Millisecond})
	_, r := h.openWebSocket()
	r.session.Admit()
	m := NewBinary(make([]byte, 64<<10))
	eventually(t, "closed", func() bool {
		o := r.session.Send(m, 0)
		if o == QueuedFlush {
			r.session.Flush()
		}
		return o == Closed
	})
	r.wantClosed(t, ReasonSlow)
	eventually(t, "gone", func() bool { return h.srv.Len() == 0 })
	if h.srv.Stats()["slow"] != 1 {
		t.Error("not counted")
	}
}

// The kernel takes little at a time: the descriptor writer, the hand-over and the way back keep every byte in order.
func TestWebSocketSmallSendBuffer(t *testing.T) {
	h := serveTCP(t, Config{QueueBytes: 64 << 20})
	h.srv.newTryWriter = func(c net.Conn, _ *rawWriter) tryWriter {
		_ = c.(*net.TCPConn).SetWriteBuffer(4 << 10)
		return newRawWriter(c, new(rawWriter))
	}
	p, r := h.openWebSocket()
	r.session.Admit()
	const senders, each = 4, 500
	var wg sync.WaitGroup
	for g := range senders {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				b := make([]byte, 8+(i*37)%3000)
				binary.BigEndian.PutUint32(b, uint32(g))
				binary.BigEndian.PutUint32(b[4:], uint32(i))
				if r.session.Send(NewBinary(b), 0) == QueuedFlush {
					r.session.Flush()
				}
			}
		}()
	}
	var next [senders]uint32
	for range senders * each {
		b := []byte(p.read())[2:]
		g, i := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		if i != next[g] || len(b) != 8+int(i*37)%3000 {
			t.Fatalf("sender %d: message %d of %d bytes, want %d", g, i, len(b), next[g])
		}
		next[g]++
	}
	wg.Wait()
	eventually(t, "token free, account even", func() bool {
		r.session.mu.Lock()
		defer r.session.mu.Unlock()
		return !r.session.token && r.session.pending == 0
	})
}

func TestTLSHandsOver(t *testing.T) {
	h := serveTCP(t, Config{})
	h.srv.newTryWriter = func(net.Conn, *rawWriter) tryWriter { return nil } // as for a *tls.Conn
	h.onMsg = echo
	p, r := h.openWebSocket()
	r.session.Admit()
	for i := range 200 {
		p.write(fmt.Sprint("4", i))
	}
	for i := range 200 {
		p.want(fmt.Sprint("4", i))
	}
	r.session.Close(ReasonForcedClose)
	p.wantClose(1005)
	r.wantClosed(t, ReasonForcedClose)
}

func TestServerCloseEndsAll(t *testing.T) {
	h := serveTCP(t, Config{})
	q, r1 := h.openPolling()
	get := h.pending(q, r1)
	p, r2 := h.openWebSocket()
	q3, r3 := h.openPolling()
	probe := h.probe(q3)
	probe.write("2probe")
	probe.want("3probe")
	h.srv.Close()
	h.wantBody(get, "1")
	p.wantClose(1005)
	for _, r := range []*recorder{r1, r2, r3} {
		r.wantClosed(t, ReasonShutdown)
	}
	if h.srv.Len() != 0 {
		t.Errorf("%d left", h.srv.Len())
	}
	if res := h.do("GET", "EIO=4&transport=polling", nil); res.status != 503 {
		t.Errorf("%v", res)
	}
}

// FuzzWebSocketRead feeds arbitrary bytes to the reading side, with and without deflate: no panic, no message over the
// limit.
func FuzzWebSocketRead(f *testing.F) {
	frame := func(op byte, payload string) []byte {
		return append([]byte{op, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
	}
	f.Add(frame(0x81, "4hello"))
	f.Add(append(frame(0x01, "4"), frame(0x80, "x")...))
	f.Add(frame(0xc1, "\x32\xc9\x48\xcd\xc9\xc9\x07\x00"))
	f.Add(frame(0x88, "\x03\xe8"))
	f.Add([]byte{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0})
	srv, err := New(Config{Compression: true, MaxPayload: 100}, func(*Session) Receiver { return nil })
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := srv.borrow(&wsConn{conn: pipedConn{r: bytes.NewReader(b)}, deflate: true}, nil)
		for {
			typ, data, err := r.readMessage()
			if err != nil {
				return
			}
			if len(data) > probeLimit || typ != websocket.TextMessage && typ != websocket.BinaryMessage {
				t.Fatalf("type %d, %d bytes", typ, len(data))
			}
			_, _ = decodePacket(data)
		}
	})
}

func TestReadAll(t *testing.T) {
	for _, n := range []int{0, 1, 4095, 4096, 4097, 20000} {
		for _, limit := range []int{n - 1, n, n + 1} {
			if limit < 1 {
				continue
			}
			r := &reader{scratch: make([]byte, 4096)}
			got, err := r.readAll(io.LimitReader(zeros{}, int64(n)), limit)
			if ok := err == nil && len(got) == n; ok != (n <= limit) {
				t.Errorf("%d bytes, limit %d: %d, %v", n, limit, len(got), err)
			}
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestDeflatedFormIsShared(t *testing.T) {
	m := NewMessage(bytes.Repeat([]byte("ab"), 1000), nil)
	a, b := m.frames(eio4, true), m.frames(eio4, true)
	if &a[0] != &b[0] || a[0] != 0xc1 || len(a) > 200 {
		t.Errorf("first byte %x, %d bytes", a[0], len(a))
	}
	if diff := cmp.Diff(m.frames(eio4, false)[0], byte(0x81)); diff != "" {
		t.Error(diff)
	}
}
