package engineio

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// serveParking serves over real sockets that can be parked.
func serveParking(t testing.TB, cfg Config) *harness {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("nothing is parked on this system")
	}
	h := serveTCP(t, cfg)
	h.onMsg = echo
	return h
}

// isParked says whether nobody looks after the session's reading.
func isParked(r *recorder) bool { return r.session.ws.state.Load() == idle }

// clientFrame is a masked text frame.
func clientFrame(text string) []byte {
	b := []byte{finBit | opText, 0x80 | byte(len(text)), 1, 2, 3, 4}
	if len(text) > 125 {
		b = []byte{finBit | opText, 0x80 | 126, byte(len(text) >> 8), byte(len(text)), 1, 2, 3, 4}
	}
	for i := range len(text) {
		b = append(b, text[i]^byte(1+i%4))
	}
	return b
}

func (p *peer) raw(b []byte) {
	p.Helper()
	if _, err := p.conn.NetConn().Write(b); err != nil {
		p.Error(err)
	}
}

// An idle session is parked: no goroutine, no reader; and it wakes.
func TestIdleSessionsAreParked(t *testing.T) {
	h := serveParking(t, Config{})
	h.openWebSocket() // starts the workers
	const n = 50
	before := runtime.NumGoroutine()
	var peers []*peer
	for range n {
		p, r := h.openWebSocket()
		peers = append(peers, p)
		eventually(t, "parked", func() bool { return isParked(r) })
	}
	eventually(t, "no goroutines", func() bool { return runtime.NumGoroutine() < before+n/2 })
	for round := range 3 {
		for i, p := range peers {
			m := fmt.Sprintf("4%d of %d", round, i)
			p.write(m)
			p.want(m)
		}
	}
	for _, r := range h.all {
		eventually(t, "parked again", func() bool { return isParked(r) })
	}
}

// Messages cut anywhere, and many of them in one segment, come out whole and in order.
func TestParkingKeepsOrder(t *testing.T) {
	h := serveParking(t, Config{})
	p, r := h.openWebSocket()
	r.session.Admit()
	rng := rand.New(rand.NewPCG(1, 2))
	var sent []byte
	var want []string
	for i := range 3000 {
		m := fmt.Sprintf("4%d %s", i, strings.Repeat("x", rng.IntN(1+rng.IntN(1+rng.IntN(20_000)))))
		want = append(want, m)
		sent = append(sent, clientFrame(m)...)
	}
	go func() {
		for len(sent) > 0 {
			n := min(len(sent), 1+rng.IntN(1+rng.IntN(40_000)))
			if _, err := p.conn.NetConn().Write(sent[:n]); err != nil {
				return // wanted in vain below
			}
			sent = sent[n:]
			if rng.IntN(4) == 0 {
				runtime.Gosched()
			}
		}
	}()
	p.want(want...)
}

// Who stops in the middle of a message holds a goroutine of his own, and nobody else up.
func TestSlowSendersHoldNobodyUp(t *testing.T) {
	h := serveParking(t, Config{})
	frame := clientFrame("4hello")
	var slow []*peer
	for i := range 40 * runtime.GOMAXPROCS(0) {
		p, _ := h.openWebSocket()
		p.raw(frame[:1+i%(len(frame)-1)])
		slow = append(slow, p)
	}
	p, r := h.openWebSocket()
	for range 10 {
		p.write("4quick")
		p.want("4quick")
	}
	eventually(t, "parked", func() bool { return isParked(r) })
	for i, p := range slow {
		p.raw(frame[1+i%(len(frame)-1):])
		p.want("4hello")
	}
	for _, r := range h.all {
		eventually(t, "parked", func() bool { return isParked(r) })
	}
	lot := h.srv.parkingLot
	eventually(t, "as many workers as before", func() bool { return lot.free.Load() == lot.want })
}

// Who sends without a pause does not keep the workers from the others.
func TestFloodHoldsNobodyUp(t *testing.T) {
	h := serveParking(t, Config{})
	h.onMsg = func(s *Session, data []byte, binary bool) {
		if string(data) == "quick" {
			echo(s, data, binary)
		}
	}
	var flooders []*peer
	var flood sync.WaitGroup
	for range 2*runtime.GOMAXPROCS(0) + 2 { // more than there are workers
		p, r := h.openWebSocket()
		r.session.Admit()
		flooders = append(flooders, p)
		many := bytes.Repeat(clientFrame("4x"), 5000)
		flood.Go(func() {
			for {
				if _, err := p.conn.NetConn().Write(many); err != nil {
					return
				}
			}
		})
	}
	p, _ := h.openWebSocket()
	for range 3 {
		p.write("4quick")
		p.want("4quick")
	}
	for _, f := range flooders { // a write of theirs waits for as long as their rate has them wait
		_ = f.conn.NetConn().Close()
	}
	flood.Wait()
}

func TestParkedSessionEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(p *peer, r *recorder)
		want Reason
		got  int // messages
	}{
		{"half-closed by the peer", func(p *peer, _ *recorder) { _ = p.conn.NetConn().(*net.TCPConn).CloseWrite() }, ReasonTransportClose, 0},
		{"a message and its end at once", func(p *peer, _ *recorder) {
			p.raw(clientFrame("4last"))
			_ = p.conn.NetConn().(*net.TCPConn).CloseWrite()
		}, ReasonTransportClose, 1},
		{"a buffer full and its end at once", func(p *peer, _ *recorder) {
			p.raw(bytes.Repeat(clientFrame("4"+strings.Repeat("x", 57)), readBuffer/64))
			_ = p.conn.NetConn().(*net.TCPConn).CloseWrite()
		}, ReasonTransportClose, readBuffer / 64},
		{"an end in the middle of a message", func(p *peer, _ *recorder) {
			p.raw(clientFrame("4last")[:5])
			_ = p.conn.NetConn().(*net.TCPConn).CloseWrite()
		}, ReasonTransportClose, 0},
		{"reset", func(p *peer, _ *recorder) {
			_ = p.conn.NetConn().(*net.TCPConn).SetLinger(0)
			_ = p.conn.NetConn().Close()
		}, ReasonTransportClose, 0},
		{"closed here, the peer does not answer", func(_ *peer, r *recorder) { r.session.Close(ReasonForcedClose) }, ReasonForcedClose, 0},
		{"slow", func(_ *peer, r *recorder) { r.session.Close(ReasonSlow) }, ReasonSlow, 0},
		{"killed", func(_ *peer, r *recorder) { r.session.kill() }, ReasonShutdown, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := serveParking(t, Config{})
			p, r := h.openWebSocket()
			eventually(t, "parked", func() bool { return isParked(r) })
			tt.do(p, r)
			r.wantClosed(t, tt.want)
			eventually(t, "gone", func() bool { return h.srv.Len() == 0 })
			if got := r.got(); len(got) != tt.got {
				t.Errorf("got %d messages, want %d", len(got), tt.got)
			}
		})
	}
}

func TestParkedPingTimeout(t *testing.T) {
	h := serveParking(t, Config{PingInterval: 20 * time.Millisecond, PingTimeout: 20 * time.Millisecond})
	_, r := h.openWebSocket()
	r.wantClosed(t, ReasonPingTimeout)
	eventually(t, "gone", func() bool { return h.srv.Len() == 0 })
}

// After an upgrade a session is parked too, whatever came in one segment with the upgrade packet.
func TestUpgradedSessionIsParked(t *testing.T) {
	h := serveParking(t, Config{})
	query, r := h.openPolling()
	p := h.probe(query)
	p.write("2probe")
	p.want("3probe")
	p.raw(append(clientFrame("5"), clientFrame("4first")...))
	p.want("4first")
	eventually(t, "parked", func() bool { return r.session.Transport() == "websocket" && isParked(r) })
	p.write("4second")
	p.want("4second")
}

// Without a poller every session has its goroutine, as where there is none.
func TestNoPoller(t *testing.T) {
	h := serveTCP(t, Config{})
	h.srv.newPoller = func() (poller, error) { return nil, errors.ErrUnsupported }
	h.onMsg = echo
	p, r := h.openWebSocket()
	for _, m := range []string{"4short", "4" + strings.Repeat("long", 1000), "4short"} {
		p.write(m)
		p.want(m)
	}
	r.session.Close(ReasonForcedClose)
	p.wantClose(1005)
	r.wantClosed(t, ReasonForcedClose)
}

// Sessions come, talk and go in every way at once, so that descriptors change hands; nothing is left of them.
func TestParkingUnderChurn(t *testing.T) {
	h := serveParking(t, Config{Compression: true})
	stay, _ := h.openWebSocket()
	var churn sync.WaitGroup
	for i := range 8 {
		churn.Go(func() {
			rng := rand.New(rand.NewPCG(3, uint64(i)))
			dialer := websocket.Dialer{EnableCompression: i%2 == 0}
			for range 60 {
				c, _, err := dialer.Dial("ws"+strings.TrimPrefix(h.url, "http")+"/socket.io/?EIO=4&transport=websocket", http.Header{})
				if err != nil {
					t.Error(err)
					return
				}
				_, open, err := c.ReadMessage()
				if err != nil {
					t.Error(err)
					return
				}
				for range rng.IntN(4) {
					m := "4" + strings.Repeat(fmt.Sprint(i), 1+rng.IntN(3000))
					_ = c.WriteMessage(websocket.TextMessage, []byte(m))
					if _, got, err := c.ReadMessage(); err != nil || string(got) != m {
						t.Errorf("got %.20q, %v, want %.20q", got, err, m)
					}
				}
				switch s := h.srv.find(parseOpen(t, string(open)).SID); rng.IntN(4) {
				case 0:
					s.kill()
				case 1:
					s.Close(ReasonForcedClose)
				case 2:
					_ = c.WriteMessage(websocket.TextMessage, []byte("1"))
				}
				_ = c.Close()
			}
		})
	}
	for range 200 {
		stay.write("4stay")
		stay.want("4stay")
	}
	churn.Wait()
	eventually(t, "only one left", func() bool { return h.srv.Len() == 1 })
	lot := h.srv.parkingLot
	lot.mu.Lock()
	left := 0
	for _, c := range lot.conns {
		if c != nil {
			left++
		}
	}
	lot.mu.Unlock()
	if left != 1 {
		t.Errorf("%d in the table", left)
	}
	eventually(t, "as many workers as before", func() bool { return lot.free.Load() == lot.want })
}

// rawWebSocket opens a session without a client library, so that next to nothing is on the client's side.
func (h *harness) rawWebSocket() net.Conn {
	h.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		h.Fatal(err)
	}
	if _, err := io.WriteString(c, upgradeRequest("EIO=4&transport=websocket")); err != nil {
		h.Fatal(err)
	}
	var b [512]byte
	for n := 0; !bytes.HasSuffix(b[:n], []byte("}")); { // of the open packet
		m, err := c.Read(b[n:])
		if n += m; err != nil {
			h.Fatal(err)
		}
	}
	return c
}

// TestIdleSessionRetains bounds what an idle session keeps on heap and stacks. The client's net.Conn, about 500 bytes,
// and what net has for the server's, as much again, are in it; the kernel's share is not. Measured: 1.9 KiB.
func TestIdleSessionRetains(t *testing.T) {
	const n, budget = 1000, 3 << 10
	h := serveParking(t, Config{})
	first := h.rawWebSocket() // starts the workers
	defer first.Close()
	held := func() uint64 {
		var m runtime.MemStats
		for range 3 { // pools are emptied in two rounds
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	conns := make([]net.Conn, 0, n)
	before := held()
	for range n {
		conns = append(conns, h.rawWebSocket())
	}
	h.mu.Lock()
	all := slices.Clone(h.all)
	h.mu.Unlock()
	for _, r := range all {
		eventually(t, "parked", func() bool { return isParked(r) })
	}
	each := (int64(held()) - int64(before)) / n
	t.Logf("%d bytes per session", each)
	if each > budget {
		t.Errorf("an idle session keeps %d bytes, at most %d were meant", each, budget)
	}
	for _, c := range conns {
		_ = c.Close()
	}
}

// A compressed message may have more to come when its deflate stream is over (RFC 7692 section 7.2.3.4): until then its
// reader is nobody else's, whose messages would be taken for the rest of it.
func TestDeflateStreamThatEndsBeforeItsMessage(t *testing.T) {
	h := serveParking(t, Config{Compression: true})
	h.dialer.EnableCompression = true
	var z bytes.Buffer
	w, err := flate.NewWriter(&z, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte("4hello"))
	_ = w.Close()
	frame := func(first byte, n int, payload []byte) []byte {
		return append([]byte{first, 0x80 | byte(n), 0, 0, 0, 0}, payload...) // masked with zeroes
	}
	for _, message := range []struct{ first, rest []byte }{
		{frame(finBit|opText|rsv1Bit, z.Len()+1, z.Bytes()), []byte{0}},
		{frame(opText|rsv1Bit, z.Len(), z.Bytes()), frame(finBit, 1, []byte{0})},
	} {
		for range 10 {
			strange, _ := h.openWebSocket()
			strange.raw(message.first)
			strange.want("4hello")
			for range 4 {
				p, _ := h.openWebSocket()
				p.write("4mine")
				p.want("4mine")
			}
			strange.raw(message.rest)
			strange.raw(clientFrame("4next"))
			strange.want("4next")
			strange.raw(clientFrame("4parked"))
			strange.want("4parked")
		}
	}
	for _, r := range h.all {
		eventually(t, "parked", func() bool { return isParked(r) })
	}
}

// Who sends control frames without a pause, or a message of nothing but frames, holds nobody up either.
func TestFloodsHoldNobodyUp(t *testing.T) {
	ping := []byte{finBit | 0x9, 0x80, 0, 0, 0, 0}
	for name, flood := range map[string]struct{ first, then []byte }{
		"pings":           {nil, ping},
		"empty fragments": {[]byte{opText, 0x80, 0, 0, 0, 0}, []byte{0, 0x80, 0, 0, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			h := serveParking(t, Config{})
			quick, _ := h.openWebSocket()
			var wg, flooding sync.WaitGroup
			defer wg.Wait()
			for range 4 * runtime.GOMAXPROCS(0) {
				p, _ := h.openWebSocket()
				conn := p.conn.NetConn()
				defer conn.Close()
				wg.Go(func() { _, _ = io.Copy(io.Discard, conn) })
				flooding.Add(1)
				underWay := sync.OnceFunc(flooding.Done)
				wg.Go(func() {
					defer underWay()
					_, err := conn.Write(flood.first)
					many := bytes.Repeat(flood.then, 10_000)
					for n := 0; err == nil; n++ {
						_, err = conn.Write(many)
						if n == 20 {
							underWay()
						}
					}
				})
			}
			flooding.Wait()
			_ = quick.conn.SetReadDeadline(time.Now().Add(time.Minute)) // for ever, if floods hold it up; the machine may be busy
			for range 3 {
				quick.write("4quick")
				quick.want("4quick")
			}
		})
	}
}
