package socketio

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"foyer/service"
	"foyer/transport/engineio"
)

// fakeSession records what a link does to its session.
type fakeSession struct {
	t    testing.TB
	note func(format string, args ...any)
	v2   bool

	handshake engineio.Handshake

	mu       sync.Mutex
	sent     []*engineio.Message
	unsent   int // since the last flush
	pauses   int
	charged  int
	admitted bool
	closed   engineio.Reason
	outcome  engineio.Outcome // of Send, while open
}

func (s *fakeSession) Handshake() *engineio.Handshake { return &s.handshake }
func (s *fakeSession) Handle() string                 { return "handle" }
func (s *fakeSession) Transport() string              { return "websocket" }

func (s *fakeSession) Protocol() int {
	if s.v2 {
		return 3
	}
	return 4
}

func (s *fakeSession) Admit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admitted = true
}

func (s *fakeSession) Send(m *engineio.Message, _ engineio.Flags) engineio.Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != "" {
		return engineio.Closed
	}
	if s.outcome != 0 {
		return s.outcome
	}
	s.sent = append(s.sent, m)
	s.unsent++
	text, binaries := wire(s.t, m)
	if binaries == nil {
		s.note("sent %s", text)
	} else {
		s.note("sent %s%x", text, binaries)
	}
	return engineio.QueuedFlush
}

func (s *fakeSession) Room(int) (<-chan struct{}, time.Time) { return nil, time.Time{} }

func (s *fakeSession) Probe(int, engineio.Flags) (engineio.Outcome, engineio.QueueState) {
	return s.outcome, engineio.QueueState{}
}

func (s *fakeSession) Pause()  { s.mu.Lock(); s.pauses++; s.mu.Unlock() }
func (s *fakeSession) Resume() { s.mu.Lock(); s.pauses--; s.mu.Unlock() }

// Paused says whether there are pauses.
func (s *fakeSession) Paused() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.pauses > 0 }

// Charge takes tokens.
func (s *fakeSession) Charge(n int) { s.mu.Lock(); s.charged += n; s.mu.Unlock() }

func (s *fakeSession) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsent = 0
}

func (s *fakeSession) Close(r engineio.Reason) (first bool) {
	s.mu.Lock()
	first = s.closed == ""
	if first {
		s.closed = r
	}
	s.mu.Unlock()
	if first {
		s.note("session closed: %s", r)
	}
	return first
}

func (s *fakeSession) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed != ""
}

// fakeHall records what a link asks of the service, and answers when it is told to.
type fakeHall struct {
	note   func(format string, args ...any)
	accept func(namespace string) bool // at once

	mu       sync.Mutex
	pending  map[string]service.Connect
	sockets  map[string]*service.Socket
	names    map[*service.Socket]string
	closes   map[*service.Socket]int
	received []*service.Packet
	cancels  int
}

func (h *fakeHall) Connect(c service.Connect) func() {
	h.note("connect %s%s", c.Namespace, c.Auth)
	h.mu.Lock()
	h.pending[c.Namespace] = c
	h.mu.Unlock()
	if h.accept != nil && h.accept(c.Namespace) {
		h.bind(c.Namespace)
	}
	return func() {
		h.mu.Lock()
		_, pending := h.pending[c.Namespace]
		delete(h.pending, c.Namespace)
		if pending {
			h.cancels++
		}
		h.mu.Unlock()
		if pending {
			h.note("cancel %s", c.Namespace)
		}
	}
}

func (h *fakeHall) take(namespace string) service.Connect {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.pending[namespace]
	delete(h.pending, namespace)
	return c
}

// bind lets the link into a namespace, as the service does.
func (h *fakeHall) bind(namespace string) bool {
	c := h.take(namespace)
	if c.Bind == nil {
		h.note("nothing pending")
		return false
	}
	s := new(service.Socket)
	h.mu.Lock()
	h.sockets[namespace], h.names[s] = s, namespace
	h.mu.Unlock()
	if !c.Bind(s) {
		h.note("bind %s: link has ended", namespace)
		return false
	}
	f, err := c.Conn.Codec().Encode(&service.Packet{Kind: service.KindConnect, Namespace: namespace, AckID: service.NoAck, Payload: []byte(`{"sid":"S"}`)})
	if err != nil {
		panic(err)
	}
	c.Conn.Send(f, 0)
	c.Conn.Flush()
	return true
}

func (h *fakeHall) Receive(s *service.Socket, p *service.Packet) {
	h.mu.Lock()
	h.received = append(h.received, p)
	name := h.names[s]
	h.mu.Unlock()
	kind := "event"
	if p.Kind == service.KindAck {
		kind = "ack"
	}
	line := fmt.Sprintf("%s %s id=%d %s", kind, name, p.AckID, p.Payload)
	if p.Kind == service.KindEvent {
		line += fmt.Sprintf(" name=%q", p.Event)
	}
	if p.Namespace != name {
		line += " namespace=" + p.Namespace
	}
	for _, a := range p.Attachments {
		line += " " + hex.EncodeToString(a)
	}
	h.note("%s", line)
}

func (h *fakeHall) End(s *service.Socket, r service.Reason, detail string) {
	h.mu.Lock()
	h.closes[s]++
	again := h.closes[s] > 1
	name := h.names[s]
	h.mu.Unlock()
	if detail != "" {
		detail = " (" + detail + ")"
	}
	h.note("socket closed %s: %s%s", name, r, detail)
	if again {
		h.note("SOCKET CLOSED TWICE")
	}
}

func newLink(t testing.TB, cfg Config, note func(string, ...any)) (*fakeHall, *Link, *fakeSession) {
	t.Helper()
	return newLinkOf(t, cfg, note, false)
}

func newLinkOf(t testing.TB, cfg Config, note func(string, ...any), v2 bool) (*fakeHall, *Link, *fakeSession) {
	t.Helper()
	if note == nil {
		note = func(string, ...any) {}
	}
	h := &fakeHall{
		note: note, pending: map[string]service.Connect{}, sockets: map[string]*service.Socket{},
		names: map[*service.Socket]string{}, closes: map[*service.Socket]int{},
	}
	s := &fakeSession{t: t, note: note, v2: v2}
	return h, newServer(cfg, h).accept(s), s
}

// joinedLink is a link of the JSON parser that is in "/". Every further CONNECT is accepted at once.
func joinedLink(t testing.TB, cfg Config) (*fakeHall, *Link, *fakeSession) {
	t.Helper()
	h, l, s := newLink(t, cfg, nil)
	h.accept = func(string) bool { return true }
	l.Message([]byte("0"), false)
	if len(h.sockets) != 1 || s.isClosed() || !s.admitted {
		t.Fatal("not joined")
	}
	return h, l, s
}

// wantNothingHeld asserts that an ended link keeps nothing, and that everything it had was ended exactly once.
func wantNothingHeld(t testing.TB, h *fakeHall, l *Link) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first != (place{}) || l.more != nil || l.pending != 0 || l.timer != nil || l.waiting != nil || !l.ended.Load() {
		t.Errorf("an ended link holds something: %+v %+v, auth %d, timer %v, waiting %v", l.first, l.more, l.pending, l.timer, l.waiting)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.pending) != 0 {
		t.Errorf("connects are pending: %v", h.pending)
	}
	for s, name := range h.names {
		if h.closes[s] != 1 {
			t.Errorf("socket of %s was closed %d times", name, h.closes[s])
		}
	}
}

// play runs a transcript: of its lines it does what begins with > or !, and returns them with what happened in between.
//
//	> text       the client sends a text       >b hex     a binary
//	# v2         at first: a client of Socket.IO v2
//	! accept N   the service accepts           ! refuse N json    refuses; flags close, unless-shared before the message
//	! forget N   ends the socket               ! dismiss, ! close reason, ! gone reason, ! wait duration
func play(t testing.TB, script string) string {
	t.Helper()
	var out strings.Builder
	var mu sync.Mutex
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&out, "  "+format+"\n", args...)
	}
	cfg := Config{MaxNamespaces: 3, MaxPayload: 200, MaxPacketBytes: 200}
	h, l, s := newLinkOf(t, cfg, note, strings.Contains("\n"+script, "\n# v2"))
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "  ") {
			continue
		}
		mu.Lock()
		out.WriteString(line + "\n")
		mu.Unlock()
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case ">":
			l.Message([]byte(rest), false)
		case ">b":
			l.Message(unhex(t, rest), true)
		case "!":
			act(t, h, l, rest)
		}
		s.mu.Lock()
		if s.unsent > 0 && s.closed == "" {
			note("NOT FLUSHED")
		}
		s.mu.Unlock()
	}
	l.Closed(engineio.ReasonTransportClose, "")
	wantNothingHeld(t, h, l)
	counted := l.server.Counters()
	var lines []string
	for reason, n := range counted {
		if n > 0 {
			lines = append(lines, fmt.Sprintf(" %s %d", reason, n))
		}
	}
	slices.Sort(lines)
	note("counters:%s", strings.Join(lines, ","))
	return out.String()
}

func act(t testing.TB, h *fakeHall, l *Link, line string) {
	t.Helper()
	what, rest, _ := strings.Cut(line, " ")
	name, rest, _ := strings.Cut(rest, " ")
	switch what {
	case "accept":
		h.bind(name)
	case "auto":
		h.accept = func(string) bool { return true }
	case "refuse":
		var r service.Refusal
		for r.Message == "" {
			word, tail, _ := strings.Cut(rest, " ")
			switch word {
			case "close":
				r.CloseLink = true
			case "unless-shared":
				r.UnlessShared = true
			default:
				r.Message, r.Data = word, []byte(tail)
			}
			rest = tail
		}
		h.take(name).Refuse(r)
	case "forget":
		l.Forget(h.sockets[name])
		h.End(h.sockets[name], service.ReasonServerDisconnect, "")
	case "dismiss":
		l.Dismiss()
	case "close":
		l.Close(service.ReasonShutdown)
	case "gone":
		l.Closed(engineio.Reason(strings.TrimSpace(name+" "+rest)), "")
	case "wait":
		d, err := time.ParseDuration(name)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(d) // in a bubble
		synctest.Wait()
	default:
		t.Fatalf("unknown action %q", line)
	}
}
