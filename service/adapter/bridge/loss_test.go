package bridge_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/bridge"
	"foyer/service/adapter/membus"
	"foyer/service/adapter/official"
)

// roll is an air that knows who is there.
type roll struct {
	*air
	gone []string
}

func (r *roll) Gone(_ context.Context, _ string, uids []string) (list []string, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, uid := range uids {
		if slices.Contains(r.gone, uid) {
			list = append(list, uid)
		}
	}
	return list, nil
}

// left has so many peers be there from now on.
func (a *air) left(peers int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.peers = peers
}

// asking begins a call, and returns the request that peers were told and what to answer it by.
func (w *world) asking(call func()) (answer func(official.Message), done <-chan struct{}) {
	w.Helper()
	over := make(chan struct{})
	go func() {
		call()
		close(over)
	}()
	said := w.taken()
	if len(said) != 1 || said[0].Request == "" {
		w.Fatalf("peers are told %+v", said)
	}
	return func(m official.Message) {
		m.Namespace, m.Request = "/", said[0].Request
		w.each(&m)
	}, over
}

var every = service.Target{Namespace: "/", All: true}

// TestLossEndsTheWait: a call ends soon after a peer is gone that it waits for, and says that one is missing.
func TestLossEndsTheWait(t *testing.T) {
	inBubble(t, func(w *world) {
		for _, fate := range []struct {
			name         string
			left         int
			took         time.Duration
			listed, lost int
		}{
			{"killed", 1, 2 * time.Second, 1, 1}, // a count is made once a second
			{"frozen", 2, 5 * time.Second, 1, 1}, // it is counted still
		} {
			w.left(2)
			var page service.Page
			began := time.Now()
			answer, done := w.asking(func() { page, _ = w.b.Sockets(w.Context(), every, service.PageRequest{Limit: 10}) })
			answer(official.Message{Kind: official.Sockets, Sockets: []official.Socket{{ID: "zzzzzzzzzzzzzzzzAAAB"}}})
			w.left(fate.left)
			<-done
			if took := time.Since(began); took > fate.took || len(page.Sockets) != fate.listed || page.Coverage.UnreachableUnnamed != fate.lost {
				t.Errorf("%s: %d sockets and %d servers that are missing after %v", fate.name, len(page.Sockets), page.Coverage.UnreachableUnnamed, took)
			}

			w.left(2)
			time.Sleep(time.Second) // the last count is not fresh
			var r service.ServerSideResult
			began = time.Now()
			answer, done = w.asking(func() {
				r, _ = w.b.ServerSideEmit(w.Context(), service.ServerSideEmit{Namespace: "/", Packet: event("/", `["e"]`), WantsReplies: true, Timeout: 5 * time.Second})
			})
			answer(official.Message{Kind: official.Reply, Payload: []byte(`1`)})
			w.left(fate.left)
			<-done
			if took := time.Since(began); took > fate.took || len(r.Replies) != 1 || r.Coverage.UnreachableUnnamed != fate.lost {
				t.Errorf("%s: %d replies and %d servers that are missing after %v", fate.name, len(r.Replies), r.Coverage.UnreachableUnnamed, took)
			}
			time.Sleep(time.Second)
		}
	})
}

// TestLossEndsAcknowledgements: when the only peer is gone, its recipients that have not answered are given up. Those
// of several peers are waited for, where nobody knows whose they are.
func TestLossEndsAcknowledgements(t *testing.T) {
	inBubble(t, func(w *world) {
		for _, peers := range []int{1, 2} {
			w.left(peers)
			var acks *service.Acks
			answer, done := w.asking(func() {
				acks, _ = w.b.CollectAcks(w.Context(), service.Emit{Target: every, Packet: event("/", `["e"]`)}, 0)
			})
			for range peers {
				answer(official.Message{Kind: official.ClientCount, Count: 3})
			}
			<-done
			answer(official.Message{Kind: official.Ack, Payload: []byte(`"yes"`)})
			ctx, stop := context.WithTimeout(w.Context(), 10*time.Second)
			list, err := acks.Next(ctx)
			w.want("the first", fmt.Sprint(len(list), err), "1 <nil>")
			began := time.Now()
			w.left(peers - 1)
			_, err = acks.Next(ctx)
			stop()
			switch took := time.Since(began); peers {
			case 1:
				if err != io.EOF || took > 2*time.Second || acks.Matched != 3 || acks.Coverage().UnreachableUnnamed != 1 { //nolint:errorlint // it is given as it is
					t.Errorf("%v after %v, of %d recipients; %+v", err, took, acks.Matched, acks.Coverage())
				}
			default:
				w.want("with another peer", err, context.DeadlineExceeded)
			}
			acks.Finish()
			time.Sleep(time.Second)
		}
	})
}

// TestLossIsToldOnce: a peer that has not said how many recipients it has is missing from then on. When all are gone,
// it is not counted among those that go with their acknowledgements.
func TestLossIsToldOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		w.left(2)
		var acks *service.Acks
		answer, done := w.asking(func() {
			acks, _ = w.b.CollectAcks(w.Context(), service.Emit{Target: every, Packet: event("/", `["e"]`)}, 0)
		})
		answer(official.Message{Kind: official.ClientCount, Count: 3})
		<-done
		w.left(0)
		_, err := acks.Next(w.Context())
		w.want("the end", err, io.EOF)
		w.want("recipients, and peers that are missing", fmt.Sprint(acks.Matched, acks.Coverage().UnreachableUnnamed), "3 2")
		acks.Finish()
	})
}

// TestLossIsKnownByUID: where answers have UIDs, a peer that is gone after it has answered is not taken for the one
// that has not, and what it has left open is given up while the recipients of others are waited for.
func TestLossIsKnownByUID(t *testing.T) {
	inRoll(t, func(w *world, r *roll) {
		goes := func(uid string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.gone, r.peers = append(r.gone, uid), r.peers-1
		}
		w.left(2)
		var page service.Page
		answer, done := w.asking(func() { page, _ = w.b.Sockets(w.Context(), every, service.PageRequest{Limit: 10}) })
		answer(official.Message{Kind: official.Sockets, UID: "aaaa", Sockets: []official.Socket{{ID: "zzzzzzzzzzzzzzzzAAAA"}}})
		goes("aaaa")
		time.Sleep(3 * time.Second)
		answer(official.Message{Kind: official.Sockets, UID: "bbbb", Sockets: []official.Socket{{ID: "zzzzzzzzzzzzzzzzBBBB"}}})
		<-done
		w.want("listed, and missing", fmt.Sprint(len(page.Sockets), page.Coverage.UnreachableUnnamed), "2 0")

		w.left(2)
		time.Sleep(time.Second)
		var acks *service.Acks
		answer, done = w.asking(func() {
			acks, _ = w.b.CollectAcks(w.Context(), service.Emit{Target: every, Packet: event("/", `["e"]`)}, 0)
		})
		answer(official.Message{Kind: official.ClientCount, UID: "cccc", Count: 3})
		answer(official.Message{Kind: official.ClientCount, UID: "dddd", Count: 1})
		<-done
		ctx, stop := context.WithTimeout(w.Context(), 20*time.Second)
		defer stop()
		answer(official.Message{Kind: official.Ack, UID: "cccc", Payload: []byte(`"c"`)})
		_, _ = acks.Next(ctx)
		goes("cccc")
		time.Sleep(3 * time.Second)
		w.want("missing", acks.Coverage().UnreachableUnnamed, 1)
		answer(official.Message{Kind: official.Ack, UID: "dddd", Payload: []byte(`"d"`)})
		list, err := acks.Next(ctx)
		w.want("the other's", fmt.Sprint(len(list), err), "1 <nil>")
		_, err = acks.Next(ctx)
		w.want("nobody is waited for", err, io.EOF)
		acks.Finish()
	})
}

// TestWatchCountsPeers: what a watch does not speak for are the peers of its own namespace, and those of no other.
func TestWatchCountsPeers(t *testing.T) {
	inBubble(t, func(w *world) {
		w.left(3)
		_, c := w.b.Tellers("/")
		w.want("before they are counted", c.UncountedNodes, 1)
		w.b.Follow("/", true)
		w.taken()
		_, c = w.b.Tellers("/")
		w.want("of this namespace", c.UncountedNodes, 3)
		w.left(0)
		_, _ = w.b.Tellers("/other")
		w.taken()
		_, c = w.b.Tellers("/other")
		w.want("of another", c.UncountedNodes, 0)
	})
}

// TestHandlersForThisNodeAlone: a handler that has registered for its own node hears no events of other servers.
func TestHandlersForThisNodeAlone(t *testing.T) {
	inBubble(t, func(w *world) {
		w.connect("/")
		attach := func(group string, local bool) *service.Handler {
			h, _, err := w.b.Attach(w.Context(), service.Registration{Namespaces: []string{"/"}, Group: group, Observer: true, ServerSideEvents: true, Local: local})
			if err != nil {
				w.Fatal(err)
			}
			return h
		}
		own, all := attach("own", true), attach("all", false)
		news := func(h *service.Handler) (events []string) {
			ctx, stop := context.WithTimeout(w.Context(), time.Millisecond)
			defer stop()
			for {
				list, err := h.Next(ctx, nil)
				for _, n := range list {
					if n.Kind == service.NoticeServerSide {
						events = append(events, n.Packet.Event)
					}
				}
				if err != nil {
					return events
				}
			}
		}
		w.each(&official.Message{Kind: official.ServerSideEmit, UID: "peer", Namespace: "/", Payload: []byte(`["theirs"]`), Event: "theirs"})
		ours := &service.Packet{Kind: service.KindEvent, Namespace: "/", AckID: service.NoAck, Payload: []byte(`["ours"]`), Event: "ours"}
		if _, err := w.b.ServerSideEmit(w.Context(), service.ServerSideEmit{Namespace: "/", Packet: ours}); err != nil {
			w.Fatal(err)
		}
		w.want("for its node alone", news(own), []string{"ours"})
		w.want("for all", news(all), []string{"theirs", "ours"})
		own.Detach()
		all.Detach()
	})
}

// inRoll is inBubble on a medium that knows who is there.
func inRoll(t *testing.T, test func(w *world, r *roll)) {
	synctest.Test(t, func(t *testing.T) {
		heard := make(chan struct{})
		close(heard)
		r := &roll{air: &air{peers: 1, heard: heard}}
		cluster, err := adapter.NewCluster(adapter.Config{Self: service.NewIncarnation("AAAA")}, membus.New().Open("AAAA"), zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t, r.air, bridge.New(cluster, "c", "AAAA", r, zap.NewNop())}
		w.start(cluster, func() { test(w, r) })
	})
}
