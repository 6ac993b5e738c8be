package engineio

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"unsafe"
)

// The structs of our own that an idle websocket session keeps, without the handshake's strings. Grow the budget
// only with a reason: each 100 bytes are 10 MB at the default MaxSessions.
func TestIdleSessionSize(t *testing.T) {
	const budget = 600 // with what pauses, the rate and room to wait for need
	got := unsafe.Sizeof(Session{}) + unsafe.Sizeof(wsConn{}) + unsafe.Sizeof(Handshake{})
	if got > budget {
		t.Errorf("%d bytes, budget %d (session %d, conn %d)", got, budget, unsafe.Sizeof(Session{}), unsafe.Sizeof(wsConn{}))
	}
}

// discardTry takes everything.
type discardTry struct{ n atomic.Int64 }

func (d *discardTry) tryWrite(p []byte) (int, error) { d.n.Add(int64(len(p))); return len(p), nil }

func (*discardTry) unsent() int { return -1 }

func (*discardTry) close() {}

func TestSendAllocatesNothing(t *testing.T) {
	h := serveTCP(t, Config{})
	d := &discardTry{}
	_, r := h.openWebSocket()
	s := r.session
	s.waitToken() // the flush of the open packet may not have returned yet
	s.mu.Lock()
	s.ws.try = d
	s.mu.Unlock()
	m := NewMessage([]byte("hello"), nil)
	if n := testing.AllocsPerRun(1000, func() {
		for range 3 {
			s.Send(m, 0)
		}
		s.Flush()
	}); n != 0 {
		t.Errorf("%v allocations for three Sends and a Flush", n)
	}
	if n := d.n.Load(); n != 1001*3*8 {
		t.Errorf("%d bytes written", n)
	}
}

func BenchmarkSendFlush(b *testing.B) {
	for _, batch := range []int{1, 8} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			h := serveTCP(b, Config{})
			p, r := h.openWebSocket()
			s := r.session
			s.Admit()
			conn := p.conn.NetConn()
			read := make(chan struct{})
			go func() {
				defer close(read)
				buf := make([]byte, 64<<10)
				_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, buf)
			}()
			m := NewMessage(bytes.Repeat([]byte("x"), 100), nil)
			b.ReportAllocs()
			for b.Loop() {
				for range batch {
					for s.Send(m, 0) == Full {
						room, _ := s.Room(m.Len())
						<-room
					}
				}
				s.Flush()
			}
			b.StopTimer()
			h.srv.Close()
			<-read
		})
	}
}

func BenchmarkForms(b *testing.B) {
	text := bytes.Repeat([]byte(`{"a":1},`), 20)
	big := bytes.Repeat([]byte(`{"a":1},`), 500)
	for name, f := range map[string]func(){
		"plain":   func() { NewMessage(text, nil).frames(eio4, false) },
		"polling": func() { NewMessage(text, [][]byte{text}).payload() },
		"deflate": func() { NewMessage(big, nil).frames(eio4, true) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}

// The real non-blocking write: it takes what fits and says so, whatever the amount.
func TestRawWriter(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	_ = c.(*net.TCPConn).SetWriteBuffer(4 << 10)
	w := newRawWriter(c, new(rawWriter))
	if w == nil {
		t.Skip("no non-blocking write here")
	}
	data := bytes.Repeat([]byte("0123456789"), 1<<20)
	sent := 0
	for refused := false; !refused && sent < len(data); {
		n, err := w.tryWrite(data[sent:])
		if err != nil {
			t.Fatal(err)
		}
		sent += n
		refused = n == 0
	}
	if sent == 0 || sent == len(data) {
		t.Fatalf("%d of %d bytes taken by a peer that does not read", sent, len(data))
	}
	got := make([]byte, sent)
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, data[:sent]) {
		t.Errorf("bytes differ, %v", err)
	}
	peer.Close()
	eventually(t, "an error once the peer is gone", func() bool { _, err := w.tryWrite(data); return err != nil })
	w.close()
	if _, err := w.tryWrite(data); err == nil {
		t.Error("a closed connection is written to")
	}
}
