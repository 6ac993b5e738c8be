package adminui

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
	"foyer/service/adapter/membus"
)

// sluggish is an API whose cluster has a node that answers nothing in time, and is heard of all the same.
type sluggish struct {
	grpc.ClientConnInterface
	listed atomic.Int64 // bytes of sockets with all that there is of them
	slow   bool
}

func (s *sluggish) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if s.slow {
		wait := 2 * time.Second
		if method == foyerv1.SocketService_ListSockets_FullMethodName {
			wait *= 2 // it counts first
		}
		if end, ok := ctx.Deadline(); ok {
			wait = min(wait, time.Until(end)-100*time.Millisecond)
		}
		time.Sleep(wait)
	}
	err := s.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
	if list, ok := reply.(*foyerv1.ListSocketsResponse); ok {
		if s.slow {
			list.Coverage = &foyerv1.Coverage{Unreachable: []string{"slow"}}
		}
		if args.(*foyerv1.ListSocketsRequest).GetView() == full {
			s.listed.Add(int64(proto.Size(list)))
		}
	}
	return err
}

// spaces is a node with many namespaces and its house.
func spaces(t *testing.T, api *sluggish) *house {
	t.Helper()
	node, err := service.New(service.Config{NodeID: "node", Namespaces: []service.NamespaceConfig{{Pattern: "/"}, {Pattern: "/n*"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Close)
	return openHouse(t, node, node, func(cfg *Config) {
		api.ClientConnInterface = cfg.API
		cfg.API = api
	})
}

// TestSlowNodeStopsNoPage: a node that is too slow for all that is asked does not keep pages from their numbers, of
// whose servers one that says nothing for 10 s is shown as not healthy.
func TestSlowNodeStopsNoPage(t *testing.T) { synctest.Test(t, testSlowNodeStopsNoPage) }

func testSlowNodeStopsNoPage(t *testing.T) {
	for name, each := range map[string]int{"few": 2, "many": 2 * fewSockets / 8} {
		h := spaces(t, &sluggish{slow: true})
		for n := range 8 {
			h.crowd(fmt.Sprint("/n", n), "a", each)
		}
		page := h.enter()
		last, stats := time.Now(), 0
		for range 120 {
			time.Sleep(time.Second)
			for _, e := range page.take(t) {
				if e.name == "server_stats" {
					last = time.Now()
					stats++
				}
			}
			if since := time.Since(last); since >= 10*time.Second {
				t.Fatalf("%s: nothing is told for %v", name, since)
			}
		}
		if stats < 12 {
			t.Errorf("%s: numbers came %d times", name, stats)
		}
	}
}

// TestNamespacesGiveWay: namespaces that have lost all their sockets do not keep others from being shown.
func TestNamespacesGiveWay(t *testing.T) { synctest.Test(t, testNamespacesGiveWay) }

func testNamespacesGiveWay(t *testing.T) {
	h := spaces(t, &sluggish{})
	page := h.show(h.enter())
	for n := range 3 * maxNamespaces {
		name := fmt.Sprintf("/n%03d", 3*maxNamespaces-n) // each comes before those that were
		l := h.crowd(name, "a", 1)[0]
		page.after(2 * tellEvery)
		if page.sockets[l.id()] == nil {
			t.Fatalf("%s, the %dth namespace, is not shown", name, n+1)
		}
		h.node.End(l.socket, service.ReasonTransportClose, "")
		page.after(2 * tellEvery)
		if page.sockets[l.id()] != nil {
			t.Fatalf("%s is still shown", name)
		}
	}
}

// TestMuchDataOfOthers: of sockets at other nodes, the watch asks for no more data than single sockets may take.
func TestMuchDataOfOthers(t *testing.T) { synctest.Test(t, testMuchDataOfOthers) }

func testMuchDataOfOthers(t *testing.T) {
	net := membus.New()
	one, two := bring(t, net, "aaaa"), bring(t, net, "bbbb")
	time.Sleep(5 * time.Second) // they know each other
	const size = 60_000
	data := []byte(`{"text":"` + strings.Repeat("x", size) + `"}`)
	for _, l := range (&house{TB: t, node: two.Node}).crowd("/", "b", 400) {
		if _, err := two.Node.Update(t.Context(), "/", l.socket.ID(), service.Update{Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	api := &sluggish{}
	h := openHouse(t, one.Node, one, func(cfg *Config) {
		api.ClientConnInterface = cfg.API
		cfg.API = api
	})
	h.crowd("/", "a", 1) // else the namespace is not shown
	page := h.show(h.enter())
	page.after(tellEvery / 2)
	if n := api.listed.Load(); n == 0 || n > fewBytes+maxWhole*(size+1000) {
		t.Errorf("the sockets that are asked for have %d bytes", n)
	}
	page.after(2 * tellEvery)
	if n := len(page.sockets); n == 0 || n > sampleAll || page.count("bbbb", "/") != 400 {
		t.Errorf("the page has %d sockets, and %+v", n, page.servers)
	}
}
