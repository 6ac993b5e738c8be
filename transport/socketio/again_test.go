package socketio

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"foyer/service"
	"foyer/transport/engineio"
)

// again is a link of a real node, in "/other" and about to connect more than once to "/n", and the handler of both.
type again struct {
	t       *testing.T
	node    *service.Node
	handler *service.Handler
	link    *Link
	session *fakeSession
	msgpack bool
	ended   bool
	calls   []uint64 // undecided connects, oldest first
}

func newAgain(t *testing.T, parser string) *again {
	t.Helper()
	node, err := service.New(service.Config{})
	if err != nil {
		t.Fatal(err)
	}
	a := &again{t: t, node: node, msgpack: parser == "msgpack"}
	a.handler, _, err = node.Attach(t.Context(), service.Registration{Namespaces: []string{"/n", "/other"}, DecideConnects: true})
	if err != nil {
		t.Fatal(err)
	}
	a.session = &fakeSession{t: t, note: func(string, ...any) {}, v2: parser == "v2"}
	a.link = newServer(Config{}, node).accept(a.session)
	a.say(service.KindConnect, "/other", "")
	a.told("connect /other")
	a.decide(0, service.Decision{})
	a.told("connected /other")
	a.session.sent = nil
	t.Cleanup(func() {
		a.link.Closed(engineio.ReasonTransportClose, "")
		wantNothingHeld(t, &fakeHall{}, a.link)
		a.handler.Detach()
		node.Close()
	})
	return a
}

// say sends what a client would: an event and an ack have one argument.
func (a *again) say(kind service.Kind, namespace, word string) {
	a.t.Helper()
	p := &service.Packet{Kind: kind, Namespace: namespace, AckID: service.NoAck}
	switch kind {
	case service.KindEvent:
		p.Payload, p.AckID = fmt.Appendf(nil, `[%q]`, word), 5
	case service.KindAck:
		p.Payload, p.AckID = fmt.Appendf(nil, `[%q]`, word), 1
	}
	codec := JSON
	if a.msgpack {
		codec = Msgpack
	}
	f, err := codec.Encode(p)
	if err != nil {
		a.t.Fatal(err)
	}
	text, binaries := wire(a.t, f)
	if a.msgpack {
		a.link.Message(binaries[0], true)
	} else {
		a.link.Message([]byte(text), false)
	}
}

// heard takes what the client was sent: the digit of each packet's type and its namespace.
func (a *again) heard(want ...string) {
	a.t.Helper()
	a.session.mu.Lock()
	sent := a.session.sent
	a.session.sent = nil
	a.session.mu.Unlock()
	var got []string
	for _, m := range sent {
		text, binaries := wire(a.t, m)
		if a.msgpack {
			text = string(binaries[0])
			kind := text[strings.Index(text, "type")+len("type")]
			text = string('0'+rune(kind)) + text[1:]
		}
		namespace := "/n"
		if strings.Contains(text, "/other") {
			namespace = "/other"
		}
		got = append(got, text[:1]+namespace)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		a.t.Error("the client heard (+ is what it should have)", diff)
	}
	if a.session.isClosed() {
		a.t.Fatal("the link was closed")
	}
}

// told takes what the handler was told.
func (a *again) told(want ...string) []service.Notice {
	a.t.Helper()
	var got []string
	notices := a.next()
	for _, n := range notices {
		switch n.Kind {
		case service.NoticeConnect:
			a.calls = append(a.calls, n.CallID)
			got = append(got, "connect "+n.Sockets[0].Namespace)
		case service.NoticeConnected:
			got = append(got, "connected "+n.Sockets[0].Namespace)
		case service.NoticeDisconnected:
			got = append(got, "disconnected "+n.Sockets[0].Namespace+": "+n.Reason.String())
		case service.NoticeEvent:
			got = append(got, "event "+n.From.Namespace()+" "+n.Packet.Event)
		default:
			got = append(got, fmt.Sprint("notice ", n.Kind))
		}
	}
	if diff := cmp.Diff(got, want); diff != "" {
		a.t.Error("the handler was told (+ is what it should have been)", diff)
	}
	return notices
}

// next returns the notices that are there. In a bubble nobody else is about to bring one.
func (a *again) next() []service.Notice {
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Millisecond)
	defer cancel()
	notices, err := a.handler.Next(ctx, nil)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		a.t.Fatal(err)
	}
	return notices
}

// decide answers an undecided connect, the oldest being 0.
func (a *again) decide(i int, d service.Decision) {
	call := a.calls[i]
	a.calls = append(a.calls[:i:i], a.calls[i+1:]...)
	a.handler.Decide(call, d)
}

// read asserts that the link is read, or is not.
func (a *again) read(want bool) {
	a.t.Helper()
	synctest.Wait()
	if a.session.Paused() == want {
		a.t.Errorf("the link is read: %v, want %v", !want, want)
	}
}

// connected brings the client into "/n".
func (a *again) connected() {
	a.t.Helper()
	a.say(service.KindConnect, "/n", "")
	a.told("connect /n")
	a.decide(0, service.Decision{})
	a.told("connected /n")
	a.heard("0/n")
}

// works asserts that "/n" has one socket, that events, acks and emits of it and of "/other" go through, and nothing
// else.
func (a *again) works() {
	a.t.Helper()
	for _, namespace := range []string{"/n", "/other"} {
		a.say(service.KindEvent, namespace, "hello")
		notices := a.told("event " + namespace + " hello")
		if len(notices) == 1 {
			a.handler.Reply(notices[0].CallID, []byte(`[]`), nil)
		}
		a.heard("3" + namespace)
		receipt, err := a.node.Emit(a.t.Context(), service.Emit{Target: service.Target{Namespace: namespace, All: true}, Packet: &service.Packet{
			Kind: service.KindEvent, Namespace: namespace, AckID: service.NoAck, Event: "e", Payload: []byte(`["e"]`),
		}})
		if err != nil || receipt.Enqueued != 1 || receipt.Matched != 1 {
			a.t.Errorf("receipt %+v, %v", receipt, err)
		}
		a.heard("2" + namespace)
	}
}

// TestConnectAgain: a client asks for a namespace again, before or after the answer. Its newest CONNECT counts, the
// handler hears of each socket's begin and end once and of no other, and what else lives on the link goes on.
func TestConnectAgain(t *testing.T) {
	refusal := service.Decision{Reject: &service.Refusal{Message: "no"}}
	const left = "disconnected /n: client namespace disconnect"
	for _, tc := range []struct {
		name string
		run  func(a *again)
	}{
		{"undecided", func(a *again) {
			for range 3 {
				a.say(service.KindConnect, "/n", "")
				a.told("connect /n")
			}
			a.say(service.KindEvent, "/n", "early") // as if it had been let in meanwhile
			a.decide(0, service.Decision{})
			a.decide(0, refusal)
			a.told()
			a.heard()
			a.decide(0, service.Decision{})
			a.told("connected /n")
			a.heard("0/n")
		}},
		{"undecided, before the handler has taken any of it", func(a *again) {
			for range 3 {
				a.say(service.KindConnect, "/n", "")
			}
			a.told("connect /n") // what was withdrawn was never asked
			a.decide(0, service.Decision{})
			a.told("connected /n")
			a.heard("0/n")
		}},
		{"undecided, then the newest is decided first", func(a *again) {
			for range 2 {
				a.say(service.KindConnect, "/n", "")
				a.told("connect /n")
			}
			a.decide(1, service.Decision{})
			a.decide(0, service.Decision{})
			a.told("connected /n")
			a.heard("0/n")
		}},
		{"undecided, then taken back", func(a *again) {
			for range 2 {
				a.say(service.KindConnect, "/n", "")
				a.told("connect /n")
			}
			a.say(service.KindDisconnect, "/n", "")
			a.decide(0, service.Decision{})
			a.decide(0, service.Decision{})
			a.told()
			a.heard()
			a.connected()
		}},
		{"accepted", func(a *again) {
			a.connected()
			a.say(service.KindEvent, "/n", "before")
			event := a.told("event /n before")
			acks, err := a.node.CollectAcks(t.Context(), service.Emit{Target: service.Target{Namespace: "/n", All: true}, Packet: &service.Packet{
				Kind: service.KindEvent, Namespace: "/n", AckID: service.NoAck, Event: "q", Payload: []byte(`["q"]`),
			}}, 0)
			if err != nil {
				a.t.Fatal(err)
			}
			a.heard("2/n")
			a.say(service.KindConnect, "/n", "")
			a.told(left, "connect /n")
			a.say(service.KindAck, "/n", "late")
			if out, err := acks.Next(a.t.Context()); err != nil || len(out) != 1 || out[0].Failure != service.AckDisconnected {
				a.t.Errorf("ack outcomes %+v, %v", out, err)
			}
			a.handler.Reply(event[0].CallID, []byte(`[]`), nil)
			a.decide(0, service.Decision{})
			a.told("connected /n")
			a.heard("0/n")
		}},
		{"accepted, and events follow before the second answer", func(a *again) {
			a.connected()
			a.say(service.KindConnect, "/n", "")
			a.told(left, "connect /n")
			a.say(service.KindEvent, "/n", "buffered")
			a.read(false)
			a.told()
			a.decide(0, service.Decision{})
			a.heard("0/n")
			a.read(true)
			if notices := a.told("connected /n", "event /n buffered"); len(notices) == 2 {
				a.handler.Reply(notices[1].CallID, []byte(`[]`), nil)
				a.heard("3/n")
			}
		}},
		{"accepted, and the link ends with an event held", func(a *again) {
			a.connected()
			a.say(service.KindConnect, "/n", "")
			a.told(left, "connect /n")
			a.say(service.KindEvent, "/n", "buffered")
			a.link.Dismiss()
			a.read(true)
			a.decide(0, service.Decision{})
			a.told("disconnected /other: server namespace disconnect")
			a.ended = true
		}},
		{"accepted, then refused", func(a *again) {
			a.connected()
			a.say(service.KindConnect, "/n", "")
			a.told(left, "connect /n")
			a.say(service.KindEvent, "/n", "crossed")
			a.read(false)
			a.decide(0, refusal)
			a.read(true)
			a.heard("4/n")
			a.say(service.KindEvent, "/n", "crossed")
			a.say(service.KindDisconnect, "/n", "")
			a.told()
			a.connected()
		}},
		{"just refused", func(a *again) {
			a.say(service.KindConnect, "/n", "")
			a.told("connect /n")
			a.decide(0, refusal)
			a.say(service.KindConnect, "/n", "")
			a.told("connect /n")
			a.heard("4/n")
			a.decide(0, service.Decision{})
			a.told("connected /n")
			a.heard("0/n")
		}},
		{"being disconnected by the server", func(a *again) {
			a.connected()
			if n, _, err := a.node.Disconnect(a.t.Context(), service.Target{Namespace: "/n", All: true}, service.DisconnectNamespace); n != 1 || err != nil {
				a.t.Errorf("disconnected %d, %v", n, err)
			}
			a.say(service.KindConnect, "/n", "")
			a.told("disconnected /n: server namespace disconnect", "connect /n")
			a.say(service.KindEvent, "/n", "crossed")
			a.say(service.KindConnect, "/n", "")
			a.told("connect /n")
			a.decide(0, service.Decision{})
			a.decide(0, service.Decision{})
			a.told("connected /n")
			a.heard("1/n", "0/n")
		}},
	} {
		for _, parser := range []string{"json", "msgpack", "v2"} {
			t.Run(tc.name+"/"+parser, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					a := newAgain(t, parser)
					tc.run(a)
					if !a.ended {
						a.works()
					}
				})
			})
		}
	}
}

// TestNothingOfTheOldSocketFollowsTheAnswer: a client connects again and again, by 40 and by 41 and 40, while it is
// emitted to, acked and disconnected by the server. After each answer to a CONNECT all that it hears is of the socket
// that it names.
func TestNothingOfTheOldSocketFollowsTheAnswer(t *testing.T) {
	node, err := service.New(service.Config{Namespaces: []service.NamespaceConfig{{Pattern: "/n"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	handler, _, err := node.Attach(t.Context(), service.Registration{Namespaces: []string{"/n"}})
	if err != nil {
		t.Fatal(err)
	}
	defer handler.Detach()
	session := &fakeSession{t: t, note: func(string, ...any) {}}
	link := newServer(Config{}, node).accept(session)

	ctx, cancel := context.WithCancel(t.Context())
	var helpers sync.WaitGroup
	emit := func(id service.SocketID) {
		_, _ = node.Emit(ctx, service.Emit{Target: service.Target{Namespace: "/n", Rooms: []string{string(id)}}, Packet: &service.Packet{
			Kind: service.KindEvent, Namespace: "/n", AckID: service.NoAck, Event: "e", Payload: []byte(`["e","` + string(id) + `"]`),
		}})
	}
	ids := make(chan service.SocketID, 1)
	helpers.Go(func() { // a backend that answers each event with its socket's id, a little late
		for {
			notices, err := handler.Next(ctx, nil)
			if err != nil {
				return
			}
			for _, n := range notices {
				switch n.Kind {
				case service.NoticeConnected:
					select {
					case ids <- n.Sockets[0].ID:
					default:
					}
				case service.NoticeEvent:
					handler.Reply(n.CallID, []byte(`["`+string(n.From.ID())+`"]`), nil)
				}
			}
		}
	})
	helpers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case id := <-ids:
				emit(id)
				if i%3 == 0 {
					_, _, _ = node.Disconnect(ctx, service.Target{Namespace: "/n", Rooms: []string{string(id)}}, service.DisconnectNamespace)
				}
				emit(id)
			}
		}
	})
	for i := range 2000 {
		if i%5 == 4 {
			link.Message([]byte("1/n,"), false)
		}
		link.Message([]byte("0/n,"), false)
		link.Message([]byte(`2/n,1["x"]`), false)
	}
	cancel()
	helpers.Wait()
	link.Closed(engineio.ReasonTransportClose, "")

	current, answers := "", 0
	for _, m := range session.sent {
		text, _ := wire(t, m)
		switch text[0] {
		case '0':
			_, current, _ = strings.Cut(text, `"sid":"`)
			current = strings.TrimSuffix(current, `"}`)
			answers++
		case '1':
			if current == "" {
				t.Fatalf("a DISCONNECT of a socket that was replaced, after %d answers", answers)
			}
			current = ""
		default:
			if current == "" || !strings.Contains(text, current) {
				t.Fatalf("%s came while the client was %q", text, current)
			}
		}
	}
	if session.isClosed() || answers != 2000 {
		t.Errorf("closed %v, %d answers", session.isClosed(), answers)
	}
}

// TestHeldEventTakesFromTheBudget: an event that waits for its namespace's second answer counts for the node, and is
// given back however the wait ends.
func TestHeldEventTakesFromTheBudget(t *testing.T) {
	const size = 500 << 10
	for name, end := range map[string]func(h *fakeHall, l *Link){
		"accepted":          func(h *fakeHall, _ *Link) { h.bind("/") },
		"refused":           func(h *fakeHall, _ *Link) { h.take("/").Refuse(service.Refusal{Message: "no"}) },
		"the session's end": func(_ *fakeHall, l *Link) { l.Closed(engineio.ReasonTransportClose, "") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				budget := service.NewBudget(1 << 20)
				h, l, s := joinedLink(t, Config{Budget: budget})
				h.accept = nil
				l.Message([]byte("0"), false)
				l.Message([]byte(`2["`+strings.Repeat("x", size)+`"]`), false)
				if got := budget.UsedBy(service.UseInbound); got < size-freeJoiningBytes || got > size || !s.Paused() {
					t.Errorf("%d bytes taken, paused %v", got, s.Paused())
				}
				end(h, l)
				synctest.Wait()
				if budget.Used() != 0 || s.Paused() || len(h.received) == 1 != (name == "accepted") {
					t.Errorf("%d bytes were not given back, paused %v, %d received", budget.Used(), s.Paused(), len(h.received))
				}
				l.Closed(engineio.ReasonTransportClose, "")
			})
		})
	}
	t.Run("no more is left", func(t *testing.T) {
		budget := service.NewBudget(100 << 10)
		h, l, s := joinedLink(t, Config{Budget: budget})
		h.accept = nil
		l.Message([]byte("0"), false)
		l.Message([]byte(`2["`+strings.Repeat("x", size)+`"]`), false)
		if !s.isClosed() || l.server.counters[faultMemory].Load() != 1 || budget.Used() != 0 {
			t.Errorf("closed %v, counters %v, %d bytes taken", s.isClosed(), l.server.Counters(), budget.Used())
		}
	})
}
