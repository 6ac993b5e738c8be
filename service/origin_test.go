package service

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
)

// farOrigin is a socket of another node, which writes down what handlers ask of it.
type farOrigin struct {
	id    SocketID
	calls []string
	held  int
	left  []Notice
}

func (o *farOrigin) ID() SocketID      { return o.id }
func (o *farOrigin) Namespace() string { return "/" }
func (o *farOrigin) NodeID() NodeID    { return "far0" }
func (o *farOrigin) Ack(p *Packet) {
	o.calls = append(o.calls, fmt.Sprint("ack ", p.AckID, " ", string(p.Payload)))
}

func (o *farOrigin) Hold(bytes int, _ *Handler, _ Pressure) {
	o.held += bytes
}
func (o *farOrigin) HeldBy(*Handler)   {}
func (o *farOrigin) Release(bytes int) { o.held -= bytes }
func (o *farOrigin) Settled(*Handler)  { o.calls = append(o.calls, "settled") }
func (o *farOrigin) Left(h *Handler) {
	o.calls = append(o.calls, "left")
	o.left = append(o.left, h.Surrender(o)...)
}

func (o *farOrigin) info() *SocketInfo { return &SocketInfo{ID: o.id, Namespace: "/", NodeID: "far0"} }

func (o *farOrigin) event(ack int64, values ...any) Notice {
	p := event("e", values...)
	p.AckID = ack
	return Notice{Kind: NoticeEvent, From: o, Packet: p}
}

// TestHandlerServesOriginsElsewhere: with the same queue, slots, order and bounds as the sockets of its node.
func TestHandlerServesOriginsElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		h := attach(t, n, Registration{MaxInFlight: 1})
		far := &farOrigin{id: "far0AAAAAAAAAAAAAAAA"}
		offer := func(n Notice) {
			t.Helper()
			if !h.Offer(n) {
				t.Fatal("refused")
			}
		}
		offer(Notice{Kind: NoticeConnected, From: far, Sockets: []*SocketInfo{far.info()}})
		offer(far.event(7, 1))
		offer(far.event(NoAck, 2))
		wantEqual(t, "one waits", far.held, len(`["e",2]`))
		first := next(t, h)
		wantEqual(t, "told", []any{len(first), first[1].From.ID()}, []any{2, far.id})
		h.Reply(first[1].CallID, []byte(`["ok"]`), nil)
		wantEqual(t, "answered", far.calls, []string{`ack 7 ["ok"]`})
		second := next(t, h)
		wantEqual(t, "nothing waits", far.held, 0)

		// What waits when the handler goes is given back in its order, and a caller that waits for the last answer hears of
		// it.
		offer(far.event(NoAck, 3))
		offer(far.event(NoAck, 4))
		offer(Notice{Kind: NoticeDisconnected, From: far, Sockets: []*SocketInfo{far.info()}, Reason: ReasonTransportClose})
		h.Drain()
		var kinds []NoticeKind
		for i := range far.left {
			kinds = append(kinds, far.left[i].Kind)
			far.left[i].unhold()
		}
		wantEqual(t, "given back", kinds, []NoticeKind{NoticeEvent, NoticeEvent, NoticeDisconnected})
		wantEqual(t, "its share", far.held, 0)
		if h.Offer(far.event(NoAck, 5)) {
			t.Error("a handler that has gone takes an event")
		}
		h.Handled(second[0].CallID)
		wantEqual(t, "told of the last answer", far.calls, []string{`ack 7 ["ok"]`, "left", "settled"})
		if _, err := h.Next(t.Context(), nil); !errors.Is(err, io.EOF) {
			t.Errorf("the handler ends with %v", err)
		}
	})
}

// TestOriginsElsewhereHaveTheirTurns: a flood of one delays the events of another by one a round.
func TestOriginsElsewhereHaveTheirTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		h := attach(t, n, Registration{MaxInFlight: 1})
		s, _ := connect(t, n, "/")
		far := &farOrigin{id: "far0AAAAAAAAAAAAAAAA"}
		told(t, h)
		h.Offer(far.event(NoAck, "far 0"))
		for i := range 3 {
			h.Offer(far.event(NoAck, fmt.Sprint("far ", i+1)))
			s.emits(fmt.Sprint("near ", i))
		}
		var order []string
		for range 7 {
			notice := next(t, h)[0]
			order = append(order, string(notice.Packet.Payload))
			h.Handled(notice.CallID)
		}
		wantEqual(t, "order", order, []string{
			`["e","far 0"]`, `["e","far 1"]`, `["near 0"]`, `["e","far 2"]`, `["near 1"]`, `["e","far 3"]`, `["near 2"]`,
		})
	})
}

// TestLocalRegistrationTakesNothingFromElsewhere: and all from its own node.
func TestLocalRegistrationTakesNothingFromElsewhere(t *testing.T) {
	n := newNode(t, Config{})
	h := attach(t, n, Registration{Local: true})
	far := &farOrigin{id: "far0AAAAAAAAAAAAAAAA"}
	for _, notice := range []Notice{
		{Kind: NoticeConnected, From: far, Sockets: []*SocketInfo{far.info()}},
		far.event(NoAck, 1),
		{Kind: NoticeDisconnected, From: far, Sockets: []*SocketInfo{far.info()}},
	} {
		if h.Offer(notice) {
			t.Errorf("took a notice of kind %d", notice.Kind)
		}
	}
	s, _ := connect(t, n, "/")
	s.emits("near")
	wantEqual(t, "told", told(t, h), []string{"connected", `event ["near"]`})
}
