//go:build e2e

package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service/adapter/freeport"
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
	beats  bool // a server that has said something counts as one for a while, and what one on Node says has no order
	strict bool // answers with a member called __proto__ cannot be said: its adapter reads none
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
		port := freeport.New(t)
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
	heard   *feed[string] // what the one backend, which is at the second node, was told by servers
	of      int           // so many of these were looked at
}

func startMixed(t *testing.T, on *medium) *mixed {
	t.Helper()
	m := &mixed{medium: on, t: t, url: on.serve(t), puppets: startPuppets(t), heard: newFeed[string]()}
	m.peer = startPeer(t, on, m.url)
	for _, name := range nodeNames[1:3] {
		m.nodes = append(m.nodes, startFoyer(t, append([]string{"--node-id=" + name, asOneLease}, on.flags(m.url)...)...))
	}
	awaitUp(t, m.nodes, nodeNames[1:3]...)
	for _, f := range m.nodes {
		m.apis = append(m.apis, api(t, f.api))
	}
	attach(t, m.nodes[1].api, &foyerv1.Register{Namespaces: []string{"/", "/chat"}, ServerSideEvents: true}, func(b *backend) {
		b.onServerSide = func(e *event) {
			m.heard.add(e.GetPayload().GetEvent() + e.GetPayload().GetJson())
			if e.GetCallId() != 0 {
				e.reply("heard at Foyer")
			}
		}
	})
	return m
}

// hears is the next thing that the backend was told by servers.
func (m *mixed) hears() string {
	m.t.Helper()
	said, at, err := m.heard.await(m.of, patience, func(string) bool { return true })
	if err != nil {
		m.t.Fatalf("the backend hears nothing: %v", err)
	}
	m.of = at + 1
	return said
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

// TestPeersOnNode: servers on Node with the classic Redis adapter, official emitters and nodes of Foyer are one: each
// call of the one side does at the other what it does at its own.
func TestPeersOnNode(t *testing.T) { testPeers(t, classic) }

func testPeers(t *testing.T, on *medium) {
	m := startMixed(t, on)
	for _, nsp := range []string{"/", "/chat"} {
		m.part("namespace "+nsp, func() { m.calls(nsp) })
	}
	m.part("events of servers", m.servers)
	m.part("killed and back", m.dies)
}

// part runs a part of a test, whose name stands in the table of docs/cluster.md.
func (m *mixed) part(name string, do func()) {
	outer := m.t
	outer.Run(name, func(t *testing.T) {
		m.t, m.peer.t = t, t
		defer func() { m.t, m.peer.t = outer, outer }()
		do()
	})
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
	if got := m.hears(); got != "news[7]" {
		t.Errorf("the backend heard %s", got)
	}
	if m.emitter {
		m.peer.run(`emitter.serverSideEmit("from an emitter", { a: 1 })`)
		if got := m.hears(); got != `from an emitter[{"a":1}]` {
			t.Errorf("the backend heard %s", got)
		}
	}
	r, err := m.apis[0].emits.ServerSideEmit(t.Context(), &foyerv1.ServerSideEmitRequest{Payload: say("news", "x"), WantsReplies: true, Timeout: durationpb.New(patience)})
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
