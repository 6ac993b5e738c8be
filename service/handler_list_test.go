package service

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// handlersOf lists all handlers by pages of a size.
func handlersOf(t testing.TB, n *Node, limit int) (list []HandlerInfo) {
	t.Helper()
	r := HandlersRequest{Limit: limit}
	for {
		page, err := n.Handlers(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Handlers) > max(limit, 1) {
			t.Fatalf("%d handlers on a page of %d", len(page.Handlers), limit)
		}
		if list = append(list, page.Handlers...); page.Next == (Place{}) {
			return list
		}
		r.Place = page.Next
	}
}

// TestHandlersAreListed: what each has to do, and all of them together what the measures say.
func TestHandlersAreListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{Namespaces: []NamespaceConfig{{Pattern: "/", Connect: ConnectOpen}}})
		chat := attach(t, n, Registration{Group: "chat", ID: "c1", MaxInFlight: 2, Address: "10.0.0.7", Events: []string{"say"}})
		time.Sleep(time.Minute)
		rest := attach(t, n, Registration{Group: "rest", ID: "r1", Observer: true})
		decides := attach(t, n, Registration{Namespaces: []string{"/shop"}, Group: "door", ID: "d1", DecideConnects: true})
		all := []*Socket{}
		for range 3 {
			s, _ := connect(t, n, "/")
			all = append(all, s)
		}
		told(t, chat)
		told(t, rest)
		for i := range 5 {
			all[0].emits("say")
			if i < 2 {
				time.Sleep(time.Second)
			}
		}
		if got, err := chat.Next(t.Context(), nil); err != nil || len(got) != 2 {
			t.Fatalf("%d, %v", len(got), err)
		}
		time.Sleep(10 * time.Second)
		n.Connect(newConn().request("/shop"))
		list := handlersOf(t, n, 100)
		wantEqual(t, "in order", []string{list[0].Registration.ID, list[1].Registration.ID, list[2].Registration.ID}, []string{"c1", "r1", "d1"})
		c := list[0]
		wantEqual(t, "chat", []any{c.Node, c.Registration.Group, c.Registration.Address, c.Registration.MaxInFlight, c.Registration.Events, time.Since(c.Since), c.Oldest, c.Draining},
			[]any{n.ID(), "chat", "10.0.0.7", 2, []string{"say"}, time.Minute + 12*time.Second, 12 * time.Second, false})
		wantEqual(t, "what it has to do", c.HandlerLoad, HandlerLoad{Sockets: 3, Queued: 3, Bytes: 3 * len(`["say"]`), InFlight: 2})
		wantEqual(t, "copies", list[1].InFlight, 5)
		wantEqual(t, "the door", []any{list[2].Connects, list[2].Oldest}, []any{1, time.Duration(-1)})
		agree(t, n)

		decides.Drain()
		wantEqual(t, "draining", handlersOf(t, n, 100)[2].Draining, true)
		decides.Detach()
		wantEqual(t, "gone", len(handlersOf(t, n, 100)), 2)
		agree(t, n)
	})
}

// agree compares the list with the measures.
func agree(t testing.TB, n *Node) {
	t.Helper()
	var sum HandlerLoad
	list := handlersOf(t, n, 3)
	for i := range list {
		sum.add(list[i].HandlerLoad)
	}
	m := n.Measure().Handlers
	wantEqual(t, "attached", len(list), m.Attached)
	wantEqual(t, "load", sum, m.HandlerLoad)
	wantEqual(t, "told by Info", n.Info().Handlers, m.Attached)
}

// TestHandlersByPages: a handler that is attached throughout is listed once, whatever others come and go meanwhile; a
// page is bounded in bytes.
func TestHandlersByPages(t *testing.T) {
	n := newNode(t, Config{})
	var all []*Handler
	come := func() {
		all = append(all, attach(t, n, Registration{Namespaces: []string{fmt.Sprint("/", len(all))}, Group: fmt.Sprint(len(all))}))
	}
	for range 25 {
		come()
	}
	seen := map[string]int{}
	r := HandlersRequest{Limit: 4}
	for i := 0; ; i++ {
		page, err := n.Handlers(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range page.Handlers {
			seen[h.Registration.ID]++
		}
		if page.Next == (Place{}) {
			break
		}
		r.Place = page.Next
		if i < 3 {
			come()
			all[3*i+1].Detach() // some of those that were listed, and of those that were not
			all[20+i].Detach()
		}
	}
	for i, h := range all {
		throughout := i < 20 && !slices.Contains([]int{1, 4, 7}, i) || i > 22
		if count := seen[h.ID()]; count > 1 || throughout && count != 1 {
			t.Errorf("handler %d was listed %d times", i, count)
		}
	}
	page, err := n.Handlers(t.Context(), HandlersRequest{Limit: 100, Bytes: 1000})
	size := 0
	for i := range page.Handlers {
		size += page.Handlers[i].Size()
	}
	if err != nil || size > 1000 || len(page.Handlers) == 0 || page.Next == (Place{}) {
		t.Errorf("%d handlers of %d bytes, %v", len(page.Handlers), size, err)
	}
	if _, err := n.Handlers(t.Context(), HandlersRequest{Place: Place{Incarnation{"else", 1}, 1}, Limit: 1}); err != ErrToken { //nolint:errorlint // it is given as it is
		t.Errorf("a place of another node: %v", err)
	}
	page, err = n.Handlers(t.Context(), HandlersRequest{Place: Place{Incarnation{n.ID(), 1}, 1 << 40}, Limit: 1})
	if err != nil || len(page.Handlers) != 1 {
		t.Errorf("a place of an earlier run: %d, %v", len(page.Handlers), err)
	}
}
