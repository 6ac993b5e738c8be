package engineio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// kernel is the server's end of a connection whose peer takes bytes when the test says so. What it holds for the peer
// is bounded, and like a real one it tells a writer that waits of new room only when a third is free.
type kernel struct {
	net.Conn // what the peer sends, and deadlines that nobody needs
	limit    int

	mu     sync.Mutex
	held   []byte // not taken by the peer
	in     int    // ever accepted
	freed  chan struct{}
	closed bool
}

func (k *kernel) accept(p []byte) int {
	n := min(len(p), k.limit-len(k.held))
	k.held = append(k.held, p[:n]...)
	k.in += n
	return n
}

func (k *kernel) tryWrite(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return 0, net.ErrClosed
	}
	return k.accept(p), nil
}

func (k *kernel) unsent() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.held)
}

func (k *kernel) close() {}

func (k *kernel) Write(p []byte) (int, error) {
	done := 0
	for {
		k.mu.Lock()
		if k.closed {
			k.mu.Unlock()
			return done, net.ErrClosed
		}
		if done += k.accept(p[done:]); done == len(p) {
			k.mu.Unlock()
			return done, nil
		}
		if k.freed == nil {
			k.freed = make(chan struct{})
		}
		freed := k.freed
		k.mu.Unlock()
		<-freed
	}
}

func (k *kernel) wakeLocked() {
	if k.freed != nil {
		close(k.freed)
		k.freed = nil
	}
}

func (k *kernel) Close() error {
	k.mu.Lock()
	k.closed = true
	k.wakeLocked()
	k.mu.Unlock()
	return k.Conn.Close()
}

func (*kernel) SetDeadline(time.Time) error      { return nil }
func (*kernel) SetWriteDeadline(time.Time) error { return nil }

// take is the peer: it reads at most n bytes.
func (k *kernel) take(n int) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	n = min(n, len(k.held))
	got := bytes.Clone(k.held[:n])
	k.held = k.held[n:]
	if k.limit-len(k.held) >= k.limit/3 {
		k.wakeLocked()
	}
	return got
}

// accepted is how much was ever accepted.
func (k *kernel) accepted() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.in
}

// kernelLink is a websocket session over a kernel, with its peer.
type kernelLink struct {
	*harness
	kernel *kernel
	client net.Conn
	r      *recorder
	rest   []byte // of a frame that is not whole
	got    []string
}

// openKernel makes the server, and a session whose open packet has been taken. It and its end belong into a bubble.
func openKernel(t testing.TB, cfg Config, limit int) (*kernelLink, func()) {
	t.Helper()
	h := newHarness(t, cfg)
	h.srv.newTryWriter = func(c net.Conn, _ *rawWriter) tryWriter { return c.(*kernel) }
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	hs := &http.Server{Handler: h.srv}
	served := make(chan struct{})
	go func() { defer close(served); _ = hs.Serve(l) }()
	server, client := net.Pipe()
	k := &kernel{Conn: server, limit: 1 << 20}
	l.conns <- k
	if _, err := io.WriteString(client, upgradeRequest("EIO=4&transport=websocket")); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	k.limit = limit
	link := &kernelLink{harness: h, kernel: k, client: client, r: h.last()}
	head := k.take(1 << 20)
	_, after, ok := bytes.Cut(head, []byte("\r\n\r\n"))
	if !ok {
		t.Fatalf("got %q", head)
	}
	link.parse(after)
	link.got = nil
	return link, func() {
		go io.Copy(io.Discard, client) // until the server closes it
		_ = k.Close()
		h.srv.Close()
		_ = hs.Close()
		_ = client.Close()
		<-served
	}
}

// parse takes frames apart.
func (l *kernelLink) parse(b []byte) {
	l.rest = append(l.rest, b...)
	for len(l.rest) >= 2 {
		head, n := 2, int(l.rest[1])
		switch n {
		case 126:
			head = 4
		case 127:
			head = 10
		}
		if len(l.rest) < head {
			return
		}
		switch n {
		case 126:
			n = int(binary.BigEndian.Uint16(l.rest[2:]))
		case 127:
			n = int(binary.BigEndian.Uint64(l.rest[2:]))
		}
		if len(l.rest) < head+n {
			return
		}
		l.got = append(l.got, string(l.rest[head:head+n]))
		l.rest = l.rest[head+n:]
	}
}

// say sends a text of the client's.
func (l *kernelLink) say(text string) {
	if _, err := l.client.Write(clientFrame(text)); err != nil {
		l.Error(err)
	}
}

// pendingNow is the session's account.
func (s *Session) pendingNow() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending
}

// TestQueueModel drives one link's queue at random: it keeps the order, loses nothing but what it has refused, never
// holds more than its bound but for what is owed and for one message alone, refuses only what does not fit, and is
// closed as slow when its peer has taken nothing for SlowAfter since something was refused, and only then.
func TestQueueModel(t *testing.T) {
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) { queueModel(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func queueModel(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	const limit, slowAfter = 100 << 10, 10 * time.Second
	budget := &testBudget{limit: 1 << 30}
	if seed%3 == 0 {
		budget.limit = 2 * budgetStep // so that it is met
	}
	l, end := openKernel(t, Config{QueueBytes: limit, SlowAfter: slowAfter, PingInterval: 1000 * time.Hour, Budget: budget}, 4<<10<<rng.IntN(6))
	defer end()
	s := l.r.session
	s.Admit()

	type message struct {
		text  string
		bytes int // on the wire, with all before it
	}
	var (
		sent     []message
		wire     int
		base     = l.kernel.accepted()
		progress = time.Now() // when the peer last took something, or had all
		refused  bool         // since then
		owed     bool         // something went over the bound, and it has not been half empty since
		rooms    = map[<-chan struct{}]int{}
	)
	isClosed := func() bool {
		select {
		case <-l.r.done:
			return true
		default:
			return false
		}
	}
	isPaused := func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.pauses > 0 }
	step := func(what string) bool {
		synctest.Wait()
		if isClosed() {
			l.r.wantClosed(t, ReasonSlow)
			if d := time.Since(progress); d < slowAfter || !refused && !owed && len(rooms) == 0 {
				t.Errorf("%s: closed %v after the last progress, refused %v", what, d, refused)
			}
			for room := range rooms {
				<-room
			}
			return false
		}
		if d := time.Since(progress); (refused || owed) && d >= 2*slowAfter {
			t.Errorf("%s: not closed %v after the last progress", what, d)
		}
		// The account: what the kernel has not accepted, and less than a chunk of what it has.
		least, slack, accepted := 0, 0, l.kernel.accepted()-base
		for _, m := range sent {
			if m.bytes > accepted {
				least += len(m.text) + itemOverhead
			} else if m.bytes > accepted-joinBytes {
				slack += len(m.text) + itemOverhead
			}
		}
		pending := s.pendingNow()
		if pending < least || pending > least+slack || least == 0 && len(s.queue) == 0 && pending != 0 {
			t.Errorf("%s: %d pending, between %d and %d more are not accepted", what, pending, least, slack)
		}
		if pending <= limit/2 {
			owed = false
		}
		if owed != isPaused() {
			t.Errorf("%s: paused %v with %d pending", what, !owed, pending)
		}
		for room, bytes := range rooms {
			at := max(limit-max(bytes+itemOverhead, limit/8), 0)
			select {
			case <-room:
				delete(rooms, room)
			default:
				if pending <= at && budget.refused == 0 {
					t.Errorf("%s: no room told for %d with %d pending", what, bytes, pending)
				}
			}
		}
		if want := max(pending-freeBytes, 0); budget.used() < want || budget.used() > want+3*budgetStep {
			t.Errorf("%s: %d of the budget taken for %d pending", what, budget.used(), pending)
		}
		return true
	}
	took := func(before int) {
		if l.kernel.accepted() > before {
			progress, refused = time.Now(), false
		}
	}
	for i := range 300 {
		var what string
		switch p := rng.IntN(20); {
		case p < 10:
			size := []int{10, 300, 5 << 10, 40 << 10, 150 << 10}[rng.IntN(5)] + rng.IntN(100)
			flags := Flags(0)
			switch rng.IntN(8) {
			case 0:
				flags, size = Owed, size%(20<<10)
			case 1:
				flags = Relayed
			}
			text := fmt.Sprintf("%d %s", i, strings.Repeat("x", size))
			pending, refusals := s.pendingNow(), budget.refused
			m := NewMessage([]byte(text), nil)
			probed, state := s.Probe(m.size, flags)
			out := s.Send(m, flags)
			if same := probed == out || probed == Full && flags&Owed != 0 && out != Full; !same || state.Waiting != pending {
				t.Errorf("%d: %d bytes, flags %d: probed %v behind %d, sent %v behind %d", i, size, flags, probed, state.Waiting, out, pending)
			}
			fits := pending == 0 || pending+len(text)+1+itemOverhead <= limit
			wide := flags&Relayed != 0 && pending+len(text)+1 <= relayedQueues*limit
			what = fmt.Sprintf("%d: send %d bytes, flags %d: %v", i, size, flags, out)
			switch out {
			case Queued, QueuedFlush:
				if !fits && !wide && flags&Owed == 0 {
					t.Errorf("%s: queued behind %d", what, pending)
				}
				if !fits || budget.refused > refusals {
					owed, refused = owed || flags&Owed != 0, true
				}
				wire += frameHeaderLen(len(text)+1) + len(text) + 1
				sent = append(sent, message{"4" + text, wire})
			case Full:
				if (fits || wide) && budget.refused == refusals {
					t.Errorf("%s: refused behind %d", what, pending)
				}
				refused = true
			case DroppedVolatile, Closed:
				if out != Closed || !isClosed() {
					t.Error(what)
				}
			}
			if refused || rng.IntN(2) == 0 { // the sender that was refused offers what there is
				before := l.kernel.accepted()
				s.Flush()
				synctest.Wait()
				took(before)
			}
		case p < 12:
			what = fmt.Sprint(i, ": flush")
			before := l.kernel.accepted()
			s.Flush()
			synctest.Wait()
			took(before)
		case p < 17:
			before := l.kernel.accepted()
			n := 1 + rng.IntN(64<<10)>>rng.IntN(8)
			got := l.kernel.take(n)
			what = fmt.Sprintf("%d: the peer takes %d", i, len(got))
			if len(got) > 0 {
				progress, refused = time.Now(), refused && l.kernel.accepted() == before
			}
			l.parse(got)
			synctest.Wait()
			took(before)
		case p < 18:
			bytes := rng.IntN(60 << 10)
			what = fmt.Sprintf("%d: room for %d", i, bytes)
			room, _ := s.Room(bytes)
			rooms[room] = max(rooms[room], bytes)
		default:
			d := time.Duration(rng.IntN(7000)) * time.Millisecond
			what = fmt.Sprintf("%d: %v", i, d)
			time.Sleep(d)
		}
		if !step(what) {
			break
		}
		if t.Failed() {
			return
		}
	}
	if !isClosed() { // then nothing is lost
		s.Flush()
		for len(l.got) < len(sent) && !isClosed() {
			l.parse(l.kernel.take(1 << 20))
			synctest.Wait()
		}
		if n := s.pendingNow(); n != 0 || budget.used() != 0 {
			t.Errorf("at the end %d bytes pending, %d of the budget taken", n, budget.used())
		}
		if len(l.got) != len(sent) {
			t.Errorf("%d of %d messages arrived", len(l.got), len(sent))
		}
	} else if budget.used() != 0 {
		t.Errorf("after its end %d of the budget are taken", budget.used())
	}
	for i, text := range l.got {
		if i >= len(sent) || text != sent[i].text {
			t.Fatalf("message %d is %.40q", i, text)
		}
	}
}

// testBudget is a Budget for one goroutine at a time.
type testBudget struct {
	mu      sync.Mutex
	limit   int
	taken   int
	refused int
}

func (b *testBudget) Take(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taken+n > b.limit {
		b.refused++
		return false
	}
	b.taken += n
	return true
}

func (b *testBudget) Fits(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.taken+n <= b.limit
}
func (b *testBudget) Force(n int) { b.mu.Lock(); b.taken += n; b.mu.Unlock() }
func (b *testBudget) Give(n int)  { b.mu.Lock(); b.taken -= n; b.mu.Unlock() }
func (b *testBudget) used() int   { b.mu.Lock(); defer b.mu.Unlock(); return b.taken }
