package service

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// groupView is what the handlers of one group were told together, socket by socket.
type groupView struct {
	mu     sync.Mutex
	known  map[SocketID]bool
	last   map[SocketID]int // number of the newest event
	gone   map[SocketID]bool
	events int
	wrong  []string
}

func (v *groupView) note(notices []Notice) {
	v.mu.Lock()
	defer v.mu.Unlock()
	complain := func(what string, id SocketID) { v.wrong = append(v.wrong, what+" "+string(id)) }
	for _, n := range notices {
		switch n.Kind {
		case NoticeConnected, NoticeAssigned:
			for _, s := range n.Sockets {
				if n.Kind == NoticeConnected && v.known[s.ID] {
					complain("connected twice", s.ID)
				}
				v.known[s.ID] = true
			}
		case NoticeEvent:
			var number int
			_, _ = fmt.Sscanf(string(n.Packet.Payload), `["e",%d]`, &number)
			id := n.From.ID()
			switch {
			case !v.known[id]:
				complain("event of an unknown socket", id)
			case v.gone[id]:
				complain("event after the end", id)
			case number <= v.last[id]:
				complain(fmt.Sprint("event ", number, " after ", v.last[id]), id)
			}
			v.last[id] = number
			v.events++
		case NoticeDisconnected:
			id := n.From.ID()
			if !v.known[id] || v.gone[id] {
				complain("end of an unknown socket, or a second one", id)
			}
			v.gone[id] = true
		}
	}
}

// TestEverythingAtOnce lets links, handlers, watchers and callers come and go as they like. Each group sees every
// socket's events in order and once, and its end last and once; when all have left, nothing is left of them: every
// event of the owners has come or was counted, every pause has its resume, and nothing is taken of the budget.
func TestEverythingAtOnce(t *testing.T) {
	n := newNode(t, Config{HandlerWait: 50 * time.Millisecond, MaxQueuedEvents: 3, MaxHandlerQueue: 100})
	var sent, held atomic.Int64
	var conns sync.Map
	groups := map[string]*groupView{}
	for _, name := range []string{"owner", "observer"} {
		groups[name] = &groupView{known: map[SocketID]bool{}, last: map[SocketID]int{}, gone: map[SocketID]bool{}}
	}
	busy, stop := context.WithCancel(t.Context())
	var backends, links sync.WaitGroup
	for i := range 4 {
		name := []string{"owner", "observer"}[i%2]
		backends.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for busy.Err() == nil {
				h, _, err := n.Attach(t.Context(), Registration{Namespaces: []string{"/"}, Group: name, Observer: name == "observer", MaxInFlight: 8})
				if err != nil {
					t.Error(err)
					return
				}
				life, end := context.WithTimeout(busy, time.Duration(rng.IntN(20))*time.Millisecond)
				for {
					notices, err := h.Next(life, nil)
					if err != nil {
						break
					}
					groups[name].note(notices)
					for _, notice := range notices {
						if notice.Kind == NoticeEvent {
							h.Reply(notice.CallID, nil, nil)
						}
					}
				}
				end()
				h.Detach()
			}
		})
	}
	backends.Go(func() {
		for busy.Err() == nil {
			w, err := n.Watch(t.Context(), Scope{Namespace: "/", All: true}, "")
			if err != nil {
				t.Error(err)
				return
			}
			life, end := context.WithTimeout(busy, 5*time.Millisecond)
			for err == nil {
				_, err = w.Next(life)
			}
			end()
			w.Close()
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
	for i := range 8 {
		links.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 2))
			for range 150 {
				c := &nullConn{codec: nullCodec{}}
				conns.Store(c, true)
				r := c.request("/")
				r.Conn = c
				n.Connect(r)
				s := c.sockets[0]
				target := Target{Namespace: "/", Rooms: []string{string(s.ID())}}
				for number := 1; number <= rng.IntN(20); number++ {
					s.receive(event("e", number))
					sent.Add(1)
					_, _, _ = n.Join(t.Context(), target, []string{fmt.Sprint(rng.IntN(3))})
					_, _ = n.Emit(t.Context(), Emit{Target: Target{Namespace: "/", Rooms: []string{"0", "1"}}, Packet: event("x")})
				}
				if rng.IntN(2) == 0 {
					_, _, _ = n.Disconnect(t.Context(), target, DisconnectNamespace)
				}
				s.leave(ReasonTransportClose, "", nil)
			}
		})
	}
	links.Wait()
	stop()
	backends.Wait()
	for name, v := range groups {
		if len(v.wrong) > 0 || v.events == 0 {
			t.Errorf("%s: %d events, wrong: %q", name, v.events, v.wrong[:min(5, len(v.wrong))])
		}
	}
	hs, cs := n.handlers, &n.connects
	if raised := n.Info().Dropped["handler_paused"]; raised == 0 {
		t.Error("nobody was paused")
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-look.C { // what is parked has its time
		hs.parking.mu.Lock()
		left := []int{len(hs.parking.sockets), hs.parking.events, hs.parking.bytes, hs.parking.ends}
		hs.parking.mu.Unlock()
		cs.mu.Lock()
		left = append(left, cs.pendings, cs.waiting.Len())
		cs.mu.Unlock()
		hs.mu.Lock()
		left = append(left, len(hs.attached), len(hs.groups), len(n.all()))
		hs.mu.Unlock()
		held.Store(0)
		conns.Range(func(c, _ any) bool {
			held.Add(c.(*nullConn).held.Load())
			return true
		})
		left = append(left, int(held.Load()), int(n.cfg.Budget.UsedBy(UseInbound)+n.cfg.Budget.UsedBy(UseNotices)))
		if sum := total(left); sum == 0 {
			d := n.Info().Dropped
			came := int64(groups["owner"].events) + d["handler_absent"] + d["after_disconnect"]
			if came != sent.Load() {
				t.Errorf("%d events of %d came or were counted: %v", came, sent.Load(), d)
			}
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("left behind: %v", left)
		}
	}
}

func total(list []int) int {
	sum := 0
	for _, v := range list {
		sum += v
	}
	return sum
}
