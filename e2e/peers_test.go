//go:build e2e

package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	foyerv1 "foyer/gen/foyer/v1"
)

// peer is a Socket.IO server on Node with an official adapter, see js/peer.js.
type peer struct {
	*process
	t    testing.TB
	url  string
	read int // lines of its output
}

func startPeer(t testing.TB, m *medium, url string) *peer {
	t.Helper()
	p := &peer{process: start(t, "node", nil, "js/peer.js", m.name, url, cmp.Or(m.options, "{}")), t: t}
	t.Cleanup(p.kill)
	p.url = "http://127.0.0.1:" + p.answer()
	return p
}

// run evaluates JavaScript in it and returns the value as JSON.
func (p *peer) run(code string) string {
	p.t.Helper()
	if _, err := p.stdin.Write([]byte(strings.ReplaceAll(code, "\n", " ") + "\n")); err != nil {
		p.t.Fatal(err)
	}
	return p.answer()
}

func (p *peer) answer() string {
	p.t.Helper()
	line, at, err := p.out.await(p.read, patience, func(string) bool { return true })
	if err != nil {
		p.t.Fatalf("the server on Node says nothing: %v\n%s", err, p.tail(20))
	}
	p.read = at + 1
	var answer struct {
		Value json.RawMessage
		Err   string
	}
	if err := json.Unmarshal([]byte(line), &answer); err != nil || answer.Err != "" {
		p.t.Fatalf("the server on Node says %s (%v)", line, err)
	}
	return string(answer.Value)
}

// medium is what the servers of a mixed cluster share.
type medium struct {
	name    string                    // in js/peer.js
	options string                    // of the adapter on Node, JSON; "": none
	serve   func(t testing.TB) string // starts what it needs, and returns the URL that all are given
	flags   func(url string) []string // of a node
	emitter bool                      // there is an official one that its adapter hears
	oneWay  bool                      // all messages go one way, in order; a server on Node changes its own sockets when it hears itself
	// joined waits until so many servers hear a room, where one on Node does not wait for that itself; nil: they all do at
	// once.
	joined func(t testing.TB, url, nsp, room string, servers int64)
	beats  bool // whoever has said something counts as a server for a while, and what one on Node says has no order
	strict bool // answers with a member called __proto__ can not be said: its adapter reads none
}

// member is the name of a member of an object, or another one that the adapter reads.
func (on *medium) member(name string) string {
	if on.strict {
		return "strict"
	}
	return name
}

// classic is Redis with the adapter that most have.
var classic = &medium{
	name: "redis", emitter: true, oneWay: true,
	serve: func(t testing.TB) string {
		port := freePort(t)
		redisServer(t, port)
		return "redis://127.0.0.1:" + port
	},
	flags: func(url string) []string {
		return []string{"--cluster=redis", "--cluster-url=" + url, "--cluster-prefix=socket.io"}
	},
}

// mixed is one server on Node and two nodes of Foyer on one medium, with a client and an API at each node.
type mixed struct {
	*medium
	t       *testing.T
	url     string
	peer    *peer
	nodes   []*foyer
	apis    []*backend
	puppets *puppets
	heard   chan string // what the one backend, which is at the second node, was told by servers
}

func startMixed(t *testing.T, on *medium) *mixed {
	t.Helper()
	m := &mixed{medium: on, t: t, url: on.serve(t), puppets: startPuppets(t), heard: make(chan string, 10)}
	m.peer = startPeer(t, on, m.url)
	for _, name := range nodeNames[1:3] {
		m.nodes = append(m.nodes, startFoyer(t, append([]string{"--node-id=" + name, "--cluster-lease=3s"}, on.flags(m.url)...)...))
	}
	awaitUp(t, m.nodes, nodeNames[1:3]...)
	for _, f := range m.nodes {
		m.apis = append(m.apis, api(t, f.api))
	}
	attach(t, m.nodes[1].api, &foyerv1.Register{Namespaces: []string{"/", "/chat"}, ServerSideEvents: true}, func(b *backend) {
		b.onServerSide = func(e *event) {
			m.heard <- e.GetPayload().GetEvent() + e.GetPayload().GetJson()
			if e.GetCallId() != 0 {
				e.reply("heard at Foyer")
			}
		}
	})
	return m
}

// clients connects one client at each server: on Node first.
func (m *mixed) clients(nsp string, o opts) (list []*client, ids []string) {
	m.t.Helper()
	for _, url := range []string{m.peer.url, m.nodes[0].url(), m.nodes[1].url()} {
		c, id := m.puppets.connect(m.t, url, nsp, o)
		list, ids = append(list, c), append(ids, id)
	}
	return list, ids
}

// exactly wants each of some clients to get an event once, and the others not.
func (m *mixed) exactly(all []*client, event string, who ...int) {
	m.t.Helper()
	for _, i := range who {
		all[i].event(event)
	}
	for _, c := range all {
		c.settle() // what was sent before has come
	}
	for i, c := range all {
		want := 0
		if slices.Contains(who, i) {
			want = 1
		}
		if got := c.count(event); got != want {
			m.t.Errorf("client %d got %q %d times, want %d", i, event, got, want)
		}
	}
}

// TestPeersOnNode: servers on Node with the classic Redis adapter, official emitters and nodes of Foyer are one: each call
// of the one side does at the other what it does at its own.
func TestPeersOnNode(t *testing.T) { testPeers(t, classic) }

func testPeers(t *testing.T, on *medium) {
	m := startMixed(t, on)
	for _, nsp := range []string{"/", "/chat"} {
		t.Run("namespace "+nsp, func(t *testing.T) { m.t, m.peer.t = t, t; m.calls(nsp) })
	}
	t.Run("servers", func(t *testing.T) { m.t, m.peer.t = t, t; m.servers() })
	t.Run("a server on Node dies", func(t *testing.T) { m.t, m.peer.t = t, t; m.dies() })
}

func (m *mixed) calls(nsp string) {
	t, near := m.t, m.apis[0]
	all, ids := m.clients(nsp, opts{})
	for _, c := range all {
		t.Cleanup(func() { c.op("disconnect") })
	}
	node := func(code string, args ...any) string {
		t.Helper()
		return m.peer.run(fmt.Sprintf(`((io) => %s)(io.of(%q))`, fmt.Sprintf(code, args...), nsp))
	}
	every := &foyerv1.Target{Namespace: nsp, All: true}
	room := func(names ...string) *foyerv1.Target { return &foyerv1.Target{Namespace: nsp, Rooms: names} }
	emit := func(to *foyerv1.Target, payload *foyerv1.Payload) *foyerv1.EmitResponse {
		t.Helper()
		r, err := near.emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: to, Payload: payload})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}

	// Rooms, changed by both kinds. The next call of the one who changed them finds them so.
	node(`io.in(%q).socketsJoin(["r1", "r2"])`, ids[1])
	if m.joined != nil {
		m.joined(t, m.url, nsp, "r1", 1)
	}
	if m.beats {
		eventually(t, func() error {
			r, err := near.rooms.GetRoom(t.Context(), &foyerv1.GetRoomRequest{Namespace: nsp, Room: "r1"})
			if err == nil && r.GetRoom().GetSize() != 1 {
				err = fmt.Errorf("the room is %v", r)
			}
			return err
		})
	}
	node(`io.to("r1").emit("a room of Node")`)
	m.exactly(all, "a room of Node", 1)
	if _, err := near.rooms.JoinRooms(t.Context(), &foyerv1.JoinRoomsRequest{Target: room(ids[0], ids[2]), Rooms: []string{"r3"}}); err != nil {
		t.Fatal(err)
	}
	r := emit(room("r3"), say("a room of Foyer"))
	if r.GetEnqueued() != 1 || r.GetCoverage().GetUncountedNodes() != 1 {
		t.Errorf("the answer is %v, want one recipient and one server that is not counted", r)
	}
	m.exactly(all, "a room of Foyer", 0, 2)

	// Emits of both kinds.
	node(`io.emit("all of Node", { a: [1.5, "é", null] }, Buffer.from([1, 2, 255]))`)
	for _, c := range all {
		got := plain(t, c.expectThat("event", func(s sight) bool { return s.Event == "all of Node" }).Args)
		if want := plain(t, []any{map[string]any{"a": []any{1.5, "é", nil}}, bin{1, 2, 255}}); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	emit(every, &foyerv1.Payload{Event: "all of Foyer", Args: &foyerv1.Payload_Json{Json: `[{"a":1},{"_placeholder":true,"num":0}]`}, Attachments: [][]byte{{7, 0, 255}}})
	for _, c := range all {
		got := plain(t, c.expectThat("event", func(s sight) bool { return s.Event == "all of Foyer" }).Args)
		if want := plain(t, []any{map[string]any{"a": 1}, bin{7, 0, 255}}); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	node(`io.except("r1").emit("except of Node")`)
	m.exactly(all, "except of Node", 0, 2)
	emit(&foyerv1.Target{Namespace: nsp, All: true, ExceptRooms: []string{"r3"}}, say("except of Foyer"))
	m.exactly(all, "except of Foyer", 1)
	node(`io.local.emit("local of Node")`)
	m.exactly(all, "local of Node", 0)
	emit(&foyerv1.Target{Namespace: nsp, All: true, Local: true}, say("local of Foyer"))
	m.exactly(all, "local of Foyer", 1)
	node(`io.to(["r1", "r3"]).emit("rooms of Node")`)
	m.exactly(all, "rooms of Node", 0, 1, 2)
	if m.emitter {
		node(`emitter.of(%q).to("r3").emit("emitted")`, nsp)
		m.exactly(all, "emitted", 0, 2)
	}
	for i, id := range ids {
		event := fmt.Sprint("to one ", i)
		emit(room(id), say(event))
		m.exactly(all, event, i)
	}
	node(`io.to(%q).emit("to one of Node")`, ids[2])
	m.exactly(all, "to one of Node", 2)

	// Lists of sockets.
	if got := node(`io.fetchSockets().then((all) => all.map((s) => s.id).sort())`); got != sorted(ids) {
		t.Errorf("Node sees the sockets %s, want %s", got, sorted(ids))
	}
	shake := node(`io.in(%q).fetchSockets().then(([s]) => [s.handshake.query.EIO, s.handshake.xdomain, typeof s.handshake.issued, [...s.rooms].sort()[0] < "r", s.rooms.has("r1")])`, ids[1])
	if shake != `["4",false,"number",true,true]` {
		t.Errorf("Node sees the socket at Foyer as %s", shake)
	}
	page, err := near.sockets.ListSockets(t.Context(), &foyerv1.ListSocketsRequest{Target: every, View: foyerv1.SocketView_SOCKET_VIEW_FULL})
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, s := range page.GetSockets() {
		listed = append(listed, s.GetId())
	}
	if sorted(listed) != sorted(ids) || page.GetCoverage().GetUncountedNodes() != 0 || len(page.GetCoverage().GetUnreachable()) != 0 {
		t.Errorf("Foyer lists %v, %v; want %v", listed, page.GetCoverage(), ids)
	}
	got, err := near.sockets.GetSocket(t.Context(), &foyerv1.GetSocketRequest{Namespace: nsp, SocketId: ids[0], View: foyerv1.SocketView_SOCKET_VIEW_FULL})
	if s := got.GetSocket(); err != nil || !slices.Equal(s.GetRooms(), []string{"r3"}) || s.GetData().GetFields()["name"].GetStringValue() != "on Node" {
		t.Errorf("the socket on Node is %v, %v", got, err)
	}
	_, err = near.sockets.UpdateSocket(t.Context(), &foyerv1.UpdateSocketRequest{Namespace: nsp, SocketId: ids[0], Change: &foyerv1.UpdateSocketRequest_Data{Data: &structpb.Struct{}}})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("to change a socket on Node: %v", err)
	}

	// Acknowledgements.
	for i, c := range all {
		c.answers("question", []any{fmt.Sprint("from ", i)})
	}
	if got := node(`io.timeout(5000).emitWithAck("question").then((all) => all.sort())`); got != `["from 0","from 1","from 2"]` {
		t.Errorf("Node gets the answers %s", got)
	}
	acks, err := near.emits.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{Target: every, Payload: say("question"), Timeout: durationpb.New(5 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	var answers []string
	for _, o := range acks.GetOutcomes() {
		answers = append(answers, o.GetArgs().GetJson())
	}
	if sorted(answers) != sorted([]string{`["from 0"]`, `["from 1"]`, `["from 2"]`}) {
		t.Errorf("Foyer gets the answers %v of %v", answers, acks)
	}

	// Going.
	node(`io.in(%q).disconnectSockets()`, ids[2])
	if reason := all[2].expect("disconnect").Reason; reason != "io server disconnect" {
		t.Errorf("a socket at Foyer that Node disconnects hears %q", reason)
	}
	if _, err := near.sockets.DisconnectSockets(t.Context(), &foyerv1.DisconnectSocketsRequest{Target: room(ids[0])}); err != nil {
		t.Fatal(err)
	}
	if reason := all[0].expect("disconnect").Reason; reason != "io server disconnect" {
		t.Errorf("a socket on Node that Foyer disconnects hears %q", reason)
	}
}

func sorted(list []string) string {
	list = slices.Clone(list)
	slices.Sort(list)
	raw, _ := json.Marshal(list)
	return string(raw)
}

// servers has the servers themselves talk: backends of Foyer are servers to those on Node.
func (m *mixed) servers() {
	t := m.t
	eventually(t, func() error { // the namespace is heard for its handler
		which := ""
		if m.beats { // a node without handlers may have spoken
			which = ".then((all) => all.filter((reply) => reply != null))"
		}
		if got := m.peer.run(`io.serverSideEmitWithAck("news", 7)` + which); got != `["heard at Foyer"]` {
			return fmt.Errorf("Node gets the replies %s", got)
		}
		return nil
	})
	if got := <-m.heard; got != "news[7]" {
		t.Errorf("the backend heard %s", got)
	}
	if m.emitter {
		m.peer.run(`emitter.serverSideEmit("from an emitter", { a: 1 })`)
		if got := <-m.heard; got != `from an emitter[{"a":1}]` {
			t.Errorf("the backend heard %s", got)
		}
	}
	r, err := m.apis[0].emits.ServerSideEmit(t.Context(), &foyerv1.ServerSideEmitRequest{Payload: say("news", "x"), WantsReplies: true, Timeout: durationpb.New(3 * time.Second)})
	if err != nil || len(r.GetReplies()) != 2 {
		t.Errorf("Foyer gets the replies %v, %v", r, err)
	}
	if got := m.peer.run(`heard.at(-1)`); got != `["x"]` {
		t.Errorf("Node heard %s", got)
	}
}

// dies kills the server on Node: calls are whole without it, and its next run is one of the servers.
func (m *mixed) dies() {
	t := m.t
	uncounted := func(want int32) {
		t.Helper()
		eventually(t, func() error {
			r, err := m.apis[1].emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: &foyerv1.Target{All: true}, Payload: say("x")})
			if err == nil && r.GetCoverage().GetUncountedNodes() != want {
				err = fmt.Errorf("the answer is %v, want %d servers that are not counted", r, want)
			}
			return err
		})
	}
	uncounted(1)
	m.peer.kill()
	uncounted(0)
	m.peer = startPeer(t, m.medium, m.url)
	uncounted(1)
	all, _ := m.clients("/", opts{})
	m.peer.run(`io.emit("again")`)
	m.exactly(all, "again", 0, 1, 2)
}
