package adminui

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"foyer/service"
)

// shown is what a page knows by what it is told, by the rules of the official one.
type shown struct {
	testing.TB
	page    *link
	sockets map[string]map[string]bool // rooms by the ids of sockets, but for those of operators
	from    map[string]string          // their addresses
	servers map[string]stats
	wholes  int // how often it was told all
}

func (h *house) show(page *link) *shown {
	return &shown{TB: h, page: page, sockets: map[string]map[string]bool{}, from: map[string]string{}, servers: map[string]stats{}}
}

// after takes what is told within a time, and returns the news of sockets in their order.
func (v *shown) after(d time.Duration) (news []string) {
	v.Helper()
	time.Sleep(d)
	read := func(raw json.RawMessage, to any) {
		if err := json.Unmarshal(raw, to); err != nil {
			v.Fatal(err)
		}
	}
	for _, e := range v.page.take(v) {
		id := e.text(1)
		switch e.name {
		case "all_sockets":
			var list []socketObject
			read(e.args[0], &list)
			v.wholes++
			clear(v.sockets)
			for i := range list {
				if list[i].Namespace != Namespace {
					v.add(&list[i])
				}
			}
		case "server_stats":
			var s stats
			read(e.args[0], &s)
			v.servers[s.ServerID] = s
		case "socket_connected":
			var o socketObject
			if read(e.args[0], &o); o.Namespace != Namespace {
				v.add(&o)
				news = append(news, "connected "+o.ID)
			}
		case "room_joined", "room_left":
			id = e.text(2)
			if v.sockets[id] != nil {
				v.sockets[id][e.text(1)] = true
			}
			if e.name == "room_left" {
				delete(v.sockets[id], e.text(1))
			}
			news = append(news, fmt.Sprintf("%s %s %s", e.name, id, e.text(1)))
		case "socket_updated":
			var o socketObject
			read(e.args[0], &o)
			if o.Handshake.Address != "" {
				v.from[o.ID] = o.Handshake.Address
			}
			news = append(news, fmt.Sprintf("updated %s %v", o.ID, o.Data))
		case "socket_disconnected":
			delete(v.sockets, id)
			news = append(news, fmt.Sprintf("disconnected %s %s", id, e.text(2)))
		}
	}
	return news
}

func (v *shown) add(o *socketObject) {
	v.sockets[o.ID], v.from[o.ID] = map[string]bool{}, o.Handshake.Address
	for _, room := range o.Rooms {
		v.sockets[o.ID][room] = true
	}
}

// count is how many sockets of a namespace a node has, as the page has it.
func (v *shown) count(node, namespace string) int {
	for _, n := range v.servers[node].Namespaces {
		if n.Name == namespace {
			return n.Sockets
		}
	}
	return -1
}

// TestCrowd: what a page is told when the sockets become many, of whom it is shown a sample, and few again.
func TestCrowd(t *testing.T) { synctest.Test(t, testCrowd) }

func testCrowd(t *testing.T) {
	var links atomic.Pointer[Links]
	links.Store(&Links{})
	h := loneWith(t, func(cfg *Config) { cfg.Links = func() Links { return *links.Load() } })
	all := h.crowd("/", "a", fewSockets-50)
	page := h.show(h.enter())
	page.after(2 * tellEvery)
	if len(page.sockets) != len(all) || page.count("node", "/") != len(all) {
		t.Fatalf("of %d sockets the page has %d, and counts %d", len(all), len(page.sockets), page.count("node", "/"))
	}
	one := h.crowd("/", "b", 1)[0]
	all = append(all, one)
	if news := page.after(tellEvery); !slices.Equal(news, []string{"connected " + one.id()}) {
		t.Errorf("one comes while there are few: %q", news)
	}

	// More than a few: numbers of all, and some of them.
	all = append(all, h.crowd("/", "c", 600)...)
	chat := h.crowd("/chat", "d", 30)
	links.Store(&Links{Open: 2000, Polling: 7, Opened: 2100, PacketsIn: 5, BytesOut: 9})
	page.after(2 * tellEvery)
	if len(page.sockets) != sampleSize+len(chat) {
		t.Fatalf("of many sockets the page has %d", len(page.sockets))
	}
	s := page.servers["node"]
	if page.count("node", "/") != len(all) || page.count("node", "/chat") != len(chat) || s.Clients != 2000 || s.Polling != 7 || s.Hostname != "host" {
		t.Errorf("the numbers are %+v", s)
	}
	// The first sample is of those that came first; before long it is spread over all, and then stays.
	for range 8 { // two walks, at the most
		page.after(tellEvery)
	}
	index := map[string]int{}
	for i, l := range all {
		index[l.id()] = i
	}
	late := 0
	for id := range page.sockets {
		if index[id] > len(all)/2 {
			late++
		}
	}
	if late < sampleSize/3 || late > sampleSize*2/3 {
		t.Errorf("of the sample %d are of the later half", late)
	}
	wholes := page.wholes
	if news := page.after(sampleEvery); len(news) != 0 || page.wholes != wholes {
		t.Errorf("nothing happens, and the page is told %q and all of it %d times", news, page.wholes-wholes)
	}

	// The page is told what the sockets of the sample do, and nothing of the others.
	var in, out []*link
	for _, l := range all {
		if page.sockets[l.id()] != nil {
			in = append(in, l)
		} else {
			out = append(out, l)
		}
	}
	ctx := t.Context()
	target := func(l *link) service.Target { return service.Target{Namespace: "/", Rooms: []string{l.id()}} }
	for _, l := range []*link{in[0], out[0]} {
		_, _, err := h.node.Join(ctx, target(l), []string{"red"})
		if err == nil {
			_, err = h.node.Update(ctx, "/", l.socket.ID(), service.Update{Data: []byte(`{"n":1}`)})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"room_joined " + in[0].id() + " red", "updated " + in[0].id() + " map[n:1]"}
	if news := page.after(dataEvery * tellEvery); !slices.Equal(news, want) {
		t.Errorf("joined and changed: %q, want %q", news, want)
	}
	for _, l := range []*link{in[0], out[0]} {
		if _, _, err := h.node.Leave(ctx, target(l), []string{"red"}); err != nil {
			t.Fatal(err)
		}
	}
	if news := page.after(tellEvery); !slices.Equal(news, []string{"room_left " + in[0].id() + " red"}) {
		t.Errorf("left: %q", news)
	}
	h.node.End(out[0].socket, service.ReasonPingTimeout, "")
	h.node.End(in[0].socket, service.ReasonPingTimeout, "")
	h.crowd("/", "e", 2)
	if news := page.after(tellEvery); !slices.Equal(news, []string{"disconnected " + in[0].id() + " ping timeout", "room_left " + in[0].id() + " " + in[0].id()}) {
		t.Errorf("two went and two came: %q", news)
	}
	if page.sockets[in[0].id()] != nil || page.count("node", "/") != len(all) {
		t.Errorf("the page has %d sockets, and counts %d", len(page.sockets), page.count("node", "/"))
	}
	// Others take the places of those that went, and those that are there stay.
	stay := maps.Clone(page.sockets)
	for range 8 { // two walks, at the most
		page.after(tellEvery)
	}
	for id := range stay {
		if page.sockets[id] == nil {
			t.Errorf("%s is shown no longer", id)
		}
	}
	if len(page.sockets) != sampleSize+len(chat) {
		t.Errorf("the page has %d sockets", len(page.sockets))
	}
	// Buttons work on what is shown.
	page.page.emit("_disconnect", "/", false, in[1].id())
	if news := page.after(tellEvery); len(news) == 0 || news[0] != "disconnected "+in[1].id()+" server namespace disconnect" {
		t.Errorf("disconnected by hand: %q", news)
	}

	// A little less than many is many still; few are shown all again.
	left := slices.DeleteFunc(all, func(l *link) bool { return l == in[0] || l == in[1] || l == out[0] })
	for len(left) > fewSockets*9/10 {
		h.node.End(left[0].socket, service.ReasonTransportClose, "")
		left = left[1:]
	}
	page.after(2 * tellEvery)
	if n := len(page.sockets); n > sampleSize+len(chat) {
		t.Errorf("between many and few the page has %d sockets", n)
	}
	for len(left) > 700 {
		h.node.End(left[0].socket, service.ReasonTransportClose, "")
		left = left[1:]
	}
	page.after(2 * tellEvery)
	if n := len(page.sockets); n != page.count("node", "/")+len(chat) || n < 700 {
		t.Errorf("of few sockets the page has %d, and counts %d", n, page.count("node", "/"))
	}
	h.node.End(left[0].socket, service.ReasonClientDisconnect, "")
	if news := page.after(time.Millisecond); len(news) == 0 || news[0] != "disconnected "+left[0].id()+" client namespace disconnect" {
		t.Errorf("one of few goes: %q", news)
	}
}

// TestBursts: more changes than a few have a page shown a sample, until it has been calm for a while.
func TestBursts(t *testing.T) { synctest.Test(t, testBursts) }

func testBursts(t *testing.T) {
	h := lone(t)
	all := h.crowd("/", "a", sampleSize+50)
	page := h.show(h.enter())
	page.after(2 * tellEvery)
	told := 0
	for range 3 {
		for i := range 2 * fewChanges / len(all) {
			for _, l := range all {
				_, _, _ = h.node.Join(t.Context(), service.Target{Namespace: "/", Rooms: []string{l.id()}}, []string{fmt.Sprint("r", i)})
				_, _, _ = h.node.Leave(t.Context(), service.Target{Namespace: "/", Rooms: []string{l.id()}}, []string{fmt.Sprint("r", i)})
			}
		}
		told += len(page.after(tellEvery))
	}
	if told > 3*fewChanges {
		t.Errorf("the page was told %d changes", told)
	}
	if len(page.sockets) != sampleSize {
		t.Errorf("amid the burst the page has %d sockets", len(page.sockets))
	}
	page.after(15 * tellEvery)
	if len(page.sockets) != len(all) {
		t.Errorf("when it is calm again the page has %d sockets", len(page.sockets))
	}
}

// TestWatchIsBounded: what is known of any number of sockets, in any number of namespaces, has bounds; and so has what
// is known of few sockets that have much to be known.
func TestWatchIsBounded(t *testing.T) { synctest.Test(t, testWatchIsBounded) }

func testWatchIsBounded(t *testing.T) {
	spaces := []service.NamespaceConfig{{Pattern: "/"}, {Pattern: "/n*"}}
	for name, sockets := range map[string]struct {
		namespaces, each, data int
		few                    bool
	}{
		"many of one namespace":   {1, 1050, 10, false},
		"many namespaces":         {34, 32, 10, false},
		"few with much to know":   {1, 100, 50_000, false},
		"few with little to know": {2, 50, 1000, true},
	} {
		node, err := service.New(service.Config{NodeID: "node", Namespaces: spaces})
		if err != nil {
			t.Fatal(err)
		}
		h := &house{TB: t, node: node}
		for n := range sockets.namespaces {
			for i, l := range h.crowd(fmt.Sprint("/n", n), "a", sockets.each) {
				if sockets.data < 100 && i > 0 {
					break
				}
				data := fmt.Sprintf(`{"text":"%*d"}`, sockets.data, 1)
				if _, err := node.Update(t.Context(), l.socket.Namespace(), l.socket.ID(), service.Update{Data: []byte(data)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		told := make(chan said)
		w := begin(t.Context(), Config{API: serveMemory(t, node), Namespaces: node.Namespaces, Links: func() Links { return Links{} }}, told)
		until, whole := time.After(sampleEvery+2*tellEvery), 0
		for open := true; open; {
			select {
			case s := <-told:
				if list, ok := s.args[0].([]socketObject); ok {
					whole = len(list)
				}
			case <-until:
				open = false
			}
		}
		w.end(told)
		bytes, most, mostBytes := 0, sampleAll, sampleBytes
		for _, o := range w.sockets {
			bytes += o.bytes()
		}
		if sockets.few {
			most, mostBytes = 2*fewSockets, fewBytes
		}
		if w.few != sockets.few || len(w.sockets) > most || bytes > mostBytes || bytes != w.bytes || whole != len(w.sockets) || whole == 0 {
			t.Errorf("%s: few %v, %d sockets with %d bytes (%d), and %d are told", name, w.few, len(w.sockets), bytes, w.bytes, whole)
		}
		if len(w.followed) > maxNamespaces || !w.few && len(w.followed) > 0 {
			t.Errorf("%s: %d namespaces are followed", name, len(w.followed))
		}
		for _, k := range w.sample.walks {
			if len(k.picked) > 2*sampleSize {
				t.Errorf("%s: a walk has picked %d", name, len(k.picked))
			}
		}
		node.Close()
	}
}
