//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

// Of the events of clients, every second one wants to be acknowledged. A handler has no more than chaosInFlight without
// an answer, and a client no more than chaosUnacked: it waits for acknowledgements, for a while since some may be lost.
const (
	chaosInFlight = 16
	chaosUnacked  = 32
	ackPatience   = 4 * time.Second
)

// say emits numbered events until ctx ends or the link does.
func (c *chaosClient) say(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.Lock()
		open := c.said/2 - len(c.acked)
		wait := open > chaosUnacked && time.Since(c.heard) < ackPatience
		c.mu.Unlock()
		if !wait && c.sayOne() != nil {
			return
		}
		select {
		case <-time.After(time.Duration(10+rand.IntN(40)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (c *chaosClient) sayOne() error {
	c.mu.Lock()
	n := c.said
	c.said++
	c.mu.Unlock()
	ack := ""
	if wantsAck(n) {
		ack = strconv.Itoa(n)
	}
	return c.send(fmt.Sprintf(`42%s["said",%d]`, ack, n))
}

func wantsAck(n int) bool { return n%2 == 1 }

// takeAck notes an acknowledgement, which has the number of its event twice: as Socket.IO's id and as its argument.
func (c *chaosClient) takeAck(text string) {
	id, args, _ := strings.Cut(strings.TrimPrefix(text, "43"), "[")
	n, err := strconv.Atoi(id)
	if err != nil || args != id+"]" {
		n = -1 // of none of its events
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.acked == nil {
		c.acked = map[int]int{}
	}
	c.acked[n]++
	c.heard = time.Now()
}

// handlerLife is one stream of a backend.
type handlerLife struct{ node, stream int }

// chaosHandled is an event that a backend got, in the order in which backends got them.
type chaosHandled struct {
	by     handlerLife
	socket string
	number int
}

// handle attaches backends of one group to two nodes, and returns when both are.
func (c *chaos) handle(ctx context.Context, work *sync.WaitGroup) {
	if c.handlers == [2]int{} {
		c.handlers = [2]int{0, len(c.nodes) - 1}
	}
	attached := make(chan struct{})
	for _, at := range c.handlers {
		work.Go(func() { c.serve(ctx, at, attached) })
	}
	for range c.handlers {
		select {
		case <-attached:
		case <-time.After(patience):
			c.t.Fatal("a backend is not attached")
		}
	}
}

// serve handles what clients say, until ctx ends, and attaches again when the stream has ended.
func (c *chaos) serve(ctx context.Context, at int, attached chan<- struct{}) {
	for stream := 0; ctx.Err() == nil; stream++ {
		b := newBackend(c.node(at).conn)
		b.forgetEvents = true
		b.on["said"] = func(e *event) { c.answer(e, handlerLife{at, stream}) }
		register := &foyerv1.Register{Namespaces: []string{"/"}, Group: "chaos", Events: []string{"said"}, MaxInFlight: chaosInFlight}
		err := b.run(ctx, register, func() {
			if stream == 0 {
				attached <- struct{}{}
			}
		})
		if ctx.Err() == nil {
			select {
			case <-time.After(50 * time.Millisecond): // its node may be away
			case <-ctx.Done():
			}
			if stream == 0 {
				c.t.Logf("the backend at %s has to attach again: %v", c.names[at], err)
			}
		}
	}
}

// answer takes note of an event and answers it.
func (c *chaos) answer(e *event, by handlerLife) {
	var args [1]int
	if err := json.Unmarshal([]byte(e.GetPayload().GetJson()), &args); err != nil {
		c.t.Errorf("a backend got %v: %v", e.GetPayload(), err)
	}
	c.mu.Lock()
	c.handled = append(c.handled, chaosHandled{by, e.GetSocket().GetId(), args[0]})
	c.mu.Unlock()
	if e.GetWantsAck() {
		e.echo()
		return
	}
	e.b.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Handled{Handled: &foyerv1.Handled{UpTo: e.GetCallId()}}})
}

// lastAck has each client that is there emit twice more, and waits for the acknowledgement: all that it said before was
// handled before that, or is lost.
func (c *chaos) lastAck(dead []int) {
	for _, client := range c.clients {
		if slices.Contains(dead, client.node) {
			continue
		}
		if client.said%2 == 1 {
			_ = client.sayOne()
		}
		for range 2 {
			if err := client.sayOne(); err != nil {
				c.t.Errorf("a client of %s cannot say more: %v", c.names[client.node], err)
			}
		}
	}
	for _, client := range c.clients {
		if slices.Contains(dead, client.node) {
			continue
		}
		eventually(c.t, func() error {
			client.mu.Lock()
			defer client.mu.Unlock()
			for n := client.said - 3; n < client.said; n++ {
				if wantsAck(n) && client.acked[n] == 0 {
					return fmt.Errorf("a client of %s has no acknowledgement of %d", c.names[client.node], n)
				}
			}
			return nil
		})
	}
}

// apart says how often two nodes have taken each other for lost.
func (c *chaos) apart(i, j int) (n int) {
	if i == j {
		return 0
	}
	for _, pair := range [2][2]int{{i, j}, {j, i}} {
		for _, line := range c.node(pair[0]).log.all() {
			if strings.Contains(line, `"msg":"member lost"`) && strings.Contains(line, `"node":"`+c.names[pair[1]]+`"`) {
				n++
			}
		}
	}
	return n
}

// checkHandled looks at what became of the events of clients. A client of whom no backend's node was lost had each
// event handled once, in order, and was answered what it asked.
//
// Others may miss what was in flight with a node that was lost, and no more: cluster.md, Handlers, "what was taken and
// not answered is lost and counted". It allows two handlers for one event in the same case alone: an event "stays the
// owner's until the handler's node says that its stream took it. When that node is lost, what was not taken goes to the
// next handler", also if it was taken and the word of that did not come.
func (c *chaos) checkHandled(dead []int) {
	t := c.t
	lists := map[string][]chaosHandled{}
	for _, h := range c.handled {
		lists[h.socket] = append(lists[h.socket], h)
	}
	var events, asked int
	var missed, doubled, unanswered int // of those whose backend's node was lost
	most := 0
	for i := range c.nodes {
		for _, at := range c.handlers {
			most += chaosInFlight * c.apart(i, at)
		}
	}
	for _, client := range c.clients {
		if slices.Contains(dead, client.node) {
			continue
		}
		events += client.said
		exposed := slices.ContainsFunc(c.handlers[:], func(at int) bool { return c.apart(client.node, at) > 0 })
		by := map[int][]handlerLife{}
		last, backs := map[handlerLife]int{}, map[handlerLife]int{}
		newest := -1
		for _, h := range lists[client.id] {
			// Where every handler was lost, the next one may be the one that has taken it, once it is back.
			if before, some := last[h.by]; some && before >= h.number {
				backs[h.by]++
			}
			if before := last[h.by]; backs[h.by] > c.apart(client.node, h.by.node) {
				t.Errorf("%d of a client of %s came to the backend of %s after %d", h.number, c.names[client.node], c.names[h.by.node], before)
			}
			if !exposed && h.number != newest+1 {
				t.Errorf("%d of a client of %s was handled after %d", h.number, c.names[client.node], newest)
			}
			last[h.by], newest = h.number, h.number
			by[h.number] = append(by[h.number], h.by)
		}
		for n := range client.said {
			lives := by[n]
			lost := slices.ContainsFunc(lives, func(l handlerLife) bool { return c.apart(client.node, l.node) > 0 })
			switch {
			case len(lives) == 1:
			case len(lives) == 0 && exposed:
				missed++
			case len(lives) == 2 && lost:
				doubled++
			default:
				t.Errorf("%d of a client of %s was handled by %v", n, c.names[client.node], lives)
			}
			acks, want := client.acked[n], 0
			if wantsAck(n) {
				asked++
				want = 1
			}
			switch {
			case acks == want:
			case acks == 0 && (lost || len(lives) == 0 && exposed):
				unanswered++
			default:
				t.Errorf("%d of a client of %s, which was handled by %v, has %d acknowledgements", n, c.names[client.node], lives, acks)
			}
		}
		if client.acked[-1] > 0 {
			t.Errorf("a client of %s has acknowledgements of nothing", c.names[client.node])
		}
	}
	t.Logf("%d events of clients, of which %d wanted an answer; in flight with nodes that were lost: %d never handled, %d handled twice, %d not answered, of at most %d",
		events, asked, missed, doubled, unanswered, most)
	if events == 0 || len(c.handled) == 0 {
		t.Error("nobody has said anything")
	}
	if max(missed, doubled) > most {
		t.Errorf("more were lost or doubled than were in flight")
	}
}
