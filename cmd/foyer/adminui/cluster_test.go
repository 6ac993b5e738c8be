package adminui

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/membus"
)

// bring brings a node to a cluster.
func bring(t testing.TB, net *membus.Network, name service.NodeID) *adapter.Cluster {
	t.Helper()
	self := service.Incarnation{Node: name, Run: uint64(time.Now().UnixMilli()) << 20}
	c, err := adapter.NewCluster(adapter.Config{Self: self}, net.Open(name), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	node, err := service.New(service.Config{
		NodeID: string(name), Run: self.Run, Remote: c, Version: "v1", Namespaces: []service.NamespaceConfig{{Pattern: "/"}, {Pattern: "/chat"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		node.Close()
		_ = c.Close(context.Background())
	})
	if err := c.Start(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	return c
}

// deaf is an API whose lists fail as long as it is shut.
type deaf struct {
	grpc.ClientConnInterface
	shut atomic.Bool
}

func (d *deaf) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if d.shut.Load() && method == foyerv1.SocketService_ListSockets_FullMethodName {
		return status.Error(codes.Unavailable, "shut")
	}
	return d.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
}

// TestHandshakesOfOthers: what a snapshot does not have of sockets at another node is asked for, and again when that
// brings nothing; the page is told what came late.
func TestHandshakesOfOthers(t *testing.T) { synctest.Test(t, testHandshakesOfOthers) }

func testHandshakesOfOthers(t *testing.T) {
	net := membus.New()
	one, two := bring(t, net, "aaaa"), bring(t, net, "bbbb")
	time.Sleep(5 * time.Second) // they know each other
	api := &deaf{}
	api.shut.Store(true)
	h := openHouse(t, one.Node, one, func(cfg *Config) {
		api.ClientConnInterface = cfg.API
		cfg.API = api
	})
	h.crowd("/", "a", 1) // else the namespace is not shown
	there := (&house{TB: t, node: two.Node}).crowd("/", "b", 1)
	time.Sleep(time.Second)
	page := h.show(h.enter())
	page.after(3 * tellEvery)
	if id := there[0].id(); page.sockets[id] == nil || page.from[id] != "" {
		t.Errorf("before: %v, address %q", page.sockets[id], page.from[id])
	}
	api.shut.Store(false)
	page.after(4 * tellEvery)
	if got := page.from[there[0].id()]; got != "10.1.0.1" {
		t.Errorf("the address is %q", got)
	}
	if news := page.after(4 * tellEvery); len(news) > 0 {
		t.Errorf("it is told again: %q", news)
	}
}

// TestPageOfTwoNodes: a page shows the servers, sockets and rooms of all nodes, and its buttons work on those of each.
func TestPageOfTwoNodes(t *testing.T) { synctest.Test(t, testPageOfTwoNodes) }

func testPageOfTwoNodes(t *testing.T) {
	net := membus.New()
	one, two := bring(t, net, "aaaa"), bring(t, net, "bbbb")
	time.Sleep(5 * time.Second) // they know each other
	h := openHouse(t, one.Node, one, nil)
	other := &house{TB: t, node: two.Node}
	here, there := h.crowd("/", "a", 3), other.crowd("/", "b", 5)
	page := h.show(h.enter())
	page.after(3 * tellEvery)
	if len(page.sockets) != 8 || page.count("aaaa", "/") != 3 || page.count("bbbb", "/") != 5 {
		t.Fatalf("the page has %d sockets, and %+v", len(page.sockets), page.servers)
	}
	for id := range page.sockets {
		if page.from[id] != "10.1.0.1" {
			t.Errorf("%s has the address %q", id, page.from[id])
		}
	}
	s := page.servers["bbbb"]
	if s.Clients != 5 || s.Uptime < 5 || s.Uptime > 60 {
		t.Errorf("the other node is %+v", s)
	}

	near, far := here[0], there[0]
	page.page.emit("join", "/", "red", far.id())
	page.page.emit("join", "/", "red", near.id())
	news := page.after(tellEvery)
	slices.Sort(news)
	want := []string{"room_joined " + near.id() + " red", "room_joined " + far.id() + " red"}
	if slices.Sort(want); !slices.Equal(news, want) {
		t.Errorf("joined: %q", news)
	}
	if size, _, err := one.Room(t.Context(), "/", "red"); err != nil || size != 2 {
		t.Errorf("%d are in the room, %v", size, err)
	}
	page.page.emit("leave", "/", "red", far.id())
	if news := page.after(tellEvery); !slices.Equal(news, []string{"room_left " + far.id() + " red"}) {
		t.Errorf("left: %q", news)
	}
	page.page.emit("join", "/", "red") // all of them
	page.after(tellEvery)
	page.page.emit("leave", "/", "red") // clears the room
	page.after(tellEvery)
	for id, rooms := range page.sockets {
		if rooms["red"] {
			t.Errorf("%s is in the room still", id)
		}
	}
	page.page.emit("_disconnect", "/", false, far.id())
	if news := page.after(tellEvery); len(news) == 0 || news[0] != "disconnected "+far.id()+" server namespace disconnect" {
		t.Errorf("disconnected: %q", news)
	}
	page.page.emit("_disconnect", "/", true, there[1].id())
	page.after(2 * tellEvery)
	if !there[1].isClosed() || page.sockets[there[1].id()] != nil || page.count("bbbb", "/") != 3 {
		t.Errorf("the link is closed: %v, and the other node has %d", there[1].isClosed(), page.count("bbbb", "/"))
	}

	// Of many sockets, too.
	there = append(there[2:], other.crowd("/", "c", fewSockets)...)
	for range 8 {
		page.after(tellEvery)
	}
	if page.count("aaaa", "/") != len(here) || page.count("bbbb", "/") != len(there) || len(page.sockets) > sampleSize {
		t.Errorf("of many the page has %d, and %+v", len(page.sockets), page.servers)
	}
	if s := page.servers["bbbb"]; s.Clients != len(there) {
		t.Errorf("the other node has %d clients", s.Clients)
	}
	i := slices.IndexFunc(there, func(l *link) bool { return page.sockets[l.id()] != nil })
	page.page.emit("join", "/", "blue", there[i].id())
	if news := page.after(tellEvery); !slices.Equal(news, []string{"room_joined " + there[i].id() + " blue"}) {
		t.Errorf("of many, joined: %q", news)
	}
	page.page.emit("_disconnect", "/", false, there[i].id())
	if news := page.after(tellEvery); len(news) == 0 || news[0] != "disconnected "+there[i].id()+" server namespace disconnect" {
		t.Errorf("of many, disconnected: %q", news)
	}
}
