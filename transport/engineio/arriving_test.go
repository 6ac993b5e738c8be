package engineio

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const largeBytes = 990_000

// longFrame is a masked text frame of any length.
func longFrame(text string) []byte {
	b := append([]byte{finBit | opText, 0x80 | 127}, binary.BigEndian.AppendUint64(nil, uint64(len(text)))...)
	return append(append(b, 0, 0, 0, 0), text...) // masked with nothing
}

// begin makes an admitted session and sends all of a large message but its end, which it returns.
func (h *harness) begin(transport, text string) (c net.Conn, r *recorder, end []byte) {
	h.Helper()
	var all []byte
	if transport == "websocket" {
		p, opened := h.openWebSocket()
		c, r, all = p.conn.NetConn(), opened, longFrame(text)
	} else {
		q, opened := h.openPolling()
		c, r = h.dialRaw(), opened
		all = fmt.Appendf(nil, "POST /socket.io/?%s HTTP/1.1\r\nHost: pipe\r\nContent-Length: %d\r\n\r\n%s", q, len(text), text)
	}
	r.session.Admit()
	go func() { _, _ = io.Copy(io.Discard, c) }()
	_, _ = c.Write(all[:len(all)-100]) // one that is refused meanwhile has an end of its own
	synctest.Wait()
	return c, r, all[len(all)-100:]
}

// TestMessagesThatAreStillArrivingAreCounted: the node's budget has all messages together that have begun and not come
// to their end. A client whose message finds no room is closed, and no other one.
func TestMessagesThatAreStillArrivingAreCounted(t *testing.T) {
	const links, budget = 40, 8 << 20
	for _, transport := range []string{"websocket", "polling"} {
		t.Run(transport, func(t *testing.T) {
			inBubble(t, Config{PingInterval: time.Hour, Inbound: &bodyBudget{left: budget}}, func(h *harness) {
				used := func() int { return h.srv.cfg.Inbound.(*bodyBudget).used(budget) }
				closed := 0
				var conns []net.Conn
				for range links {
					c, r, _ := h.begin(transport, "4"+strings.Repeat("x", largeBytes))
					conns = append(conns, c)
					if r.session.isClosed() {
						closed++
						r.wantClosed(t, ReasonTransportError)
					}
				}
				open := links - closed
				if held := used(); held < open*(largeBytes-arrivingFree) || open == 0 || closed == 0 {
					t.Errorf("%d bytes are held for %d messages, and %d were refused", held, open, closed)
				}
				if n := h.srv.Stats()["post_budget"]; n != uint64(closed) {
					t.Errorf("%d of %d are counted", n, closed)
				}
				for _, c := range conns {
					_ = c.Close()
				}
				time.Sleep(5 * time.Second)
				if got := used(); got != 0 {
					t.Errorf("%d bytes are not given back", got)
				}
			})
		})
	}
}

// Whatever way a message that is arriving goes, what its buffer has of the budget comes back.
func TestArrivingIsGivenBack(t *testing.T) {
	const budget = 1 << 30
	valid := "4" + strings.Repeat("x", largeBytes)
	for _, tc := range []struct {
		name, text string
		end        func(c net.Conn, r *recorder, rest []byte)
		closed     bool
	}{
		{"its end", valid, func(c net.Conn, _ *recorder, rest []byte) { _, _ = c.Write(rest) }, false},
		{"no text", valid + "\xff", func(c net.Conn, _ *recorder, rest []byte) { _, _ = c.Write(rest) }, true},
		{"no packet", "x" + valid, func(c net.Conn, _ *recorder, rest []byte) { _, _ = c.Write(rest) }, true},
		{"its client goes", valid, func(c net.Conn, _ *recorder, _ []byte) { _ = c.Close() }, true},
		{"a close", valid, func(_ net.Conn, r *recorder, _ []byte) { r.session.Close(ReasonForcedClose) }, true},
		{"no rest", valid, func(net.Conn, *recorder, []byte) { time.Sleep(5 * time.Minute) }, true},
		{"a pause", valid, func(c net.Conn, r *recorder, rest []byte) {
			r.session.Pause()
			_, _ = c.Write(rest)
			synctest.Wait()
			r.session.Resume()
		}, false},
	} {
		for _, transport := range []string{"websocket", "polling"} {
			t.Run(tc.name+", "+transport, func(t *testing.T) {
				inBubble(t, Config{Inbound: &bodyBudget{left: budget}}, func(h *harness) {
					used := func() int { return h.srv.cfg.Inbound.(*bodyBudget).used(budget) }
					c, r, rest := h.begin(transport, tc.text)
					defer c.Close()
					if got := used(); got < largeBytes-arrivingFree || got > 1<<20 {
						t.Errorf("%d bytes are held while it arrives", got)
					}
					go func() { // a GET for what a close waits for
						if transport == "polling" {
							_, _ = h.try("GET", "EIO=4&transport=polling&sid="+r.session.sid(), nil)
						}
					}()
					tc.end(c, r, rest)
					time.Sleep(5 * time.Second)
					if got := used(); got != 0 {
						t.Errorf("%d bytes are held after it", got)
					}
					if got := r.session.isClosed(); got != tc.closed {
						t.Errorf("closed %v", got)
					}
				})
			})
		}
	}
}

// A buffer that has grown for one message is counted also while the next one, which has come with its end, is awaited
// in it. Small messages ask for nothing.
func TestBufferStaysCountedBetweenMessages(t *testing.T) {
	const budget = 1 << 30
	inBubble(t, Config{Inbound: &bodyBudget{left: budget}}, func(h *harness) {
		b := h.srv.cfg.Inbound.(*bodyBudget)
		p, r := h.openWebSocket()
		r.session.Admit()
		p.raw(longFrame("4" + strings.Repeat("x", arrivingFree-2)))
		synctest.Wait()
		if b.takes != 0 {
			t.Errorf("the budget is asked %d times for a small message", b.takes)
		}
		frame := longFrame("4" + strings.Repeat("x", largeBytes))
		p.raw(frame[:largeBytes])
		p.raw(append(frame[largeBytes:], frame[:20]...)) // in one read
		synctest.Wait()
		if got := b.used(budget); len(r.got()) != 2 || got < largeBytes-arrivingFree {
			t.Errorf("%d messages, and %d bytes are held", len(r.got()), got)
		}
		p.raw(frame[20:])
		synctest.Wait()
		if got := b.used(budget); len(r.got()) != 3 || got != 0 {
			t.Errorf("%d messages, and %d bytes are held", len(r.got()), got)
		}
	})
}

// A client whose message is refused hears why before its connection goes.
func TestRefusedMessageIsTold(t *testing.T) {
	inBubble(t, Config{Inbound: &bodyBudget{}}, func(h *harness) {
		p, r := h.openWebSocket()
		r.session.Admit()
		go func() { _, _ = p.conn.NetConn().Write(longFrame("4" + strings.Repeat("x", largeBytes))) }()
		p.wantClose(1013)
		r.wantClosed(t, ReasonTransportError)

		q, r := h.openPolling()
		r.session.Admit()
		if res := h.do("POST", q, strings.NewReader("4"+strings.Repeat("x", 100_000))); res.status != 503 {
			t.Errorf("%v", res)
		}
		r.wantClosed(t, ReasonTransportError)
	})
}
