//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	foyerv1 "foyer/gen/foyer/v1"
)

// across are the calls of both kinds in one namespace: at the server on Node, and at a node of Foyer.
type across struct {
	*mixed
	nsp   string
	near  *backend  // of the first node
	all   []*client // one at each server: on Node first
	ids   []string  // their sockets
	every *foyerv1.Target
}

func (m *mixed) calls(nsp string) {
	all, ids := m.clients(nsp, opts{})
	for _, c := range all {
		m.t.Cleanup(func() { c.op("disconnect") })
	}
	c := &across{m, nsp, m.apis[0], all, ids, &foyerv1.Target{Namespace: nsp, All: true}}
	m.part("room changes", c.rooms)
	m.part("emit, binary", c.emits)
	m.part("except", c.except)
	m.part("local", c.local)
	m.part("volatile", c.volatile)
	m.part("several rooms, one socket", c.some)
	m.part("fetchSockets, ListSockets", c.lists)
	m.part("acks of all", c.acks)
	m.part("acks of one", c.acksOfOne)
	m.part("disconnects", c.going)
}

// node runs code at the server on Node, where io is the namespace.
func (c *across) node(code string, args ...any) string {
	c.t.Helper()
	return c.peer.run(fmt.Sprintf(`((io) => %s)(io.of(%q))`, fmt.Sprintf(code, args...), c.nsp))
}

func (c *across) room(names ...string) *foyerv1.Target {
	return &foyerv1.Target{Namespace: c.nsp, Rooms: names}
}

func (c *across) emit(to *foyerv1.Target, payload *foyerv1.Payload, options ...*foyerv1.EmitOptions) *foyerv1.EmitResponse {
	c.t.Helper()
	request := &foyerv1.EmitRequest{Target: to, Payload: payload}
	for _, o := range options {
		request.Options = o
	}
	r, err := c.near.emits.Emit(c.t.Context(), request)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// rooms are changed by both kinds. The next call of the one who changed them finds them so.
func (c *across) rooms() {
	c.node(`io.in(%q).socketsJoin(["r1", "r2"])`, c.ids[1])
	if c.joined != nil {
		c.joined(c.t, c.url, c.nsp, "r1", 1)
	}
	if c.beats {
		eventually(c.t, func() error {
			r, err := c.near.rooms.GetRoom(c.t.Context(), &foyerv1.GetRoomRequest{Namespace: c.nsp, Room: "r1"})
			if err == nil && r.GetRoom().GetSize() != 1 {
				err = fmt.Errorf("the room is %v", r)
			}
			return err
		})
	}
	c.node(`io.to("r1").emit("a room of Node")`)
	c.exactly(c.all, "a room of Node", 1)
	join := &foyerv1.JoinRoomsRequest{Target: c.room(c.ids[0], c.ids[2]), Rooms: []string{"r3", "r4"}}
	if _, err := c.near.rooms.JoinRooms(c.t.Context(), join); err != nil {
		c.t.Fatal(err)
	}
	r := c.emit(c.room("r3"), say("a room of Foyer"))
	if r.GetEnqueued() != 1 && len(r.GetCoverage().GetUnreachable()) == 0 || r.GetCoverage().GetUncountedNodes() != 1 {
		c.t.Errorf("the answer is %v, want one recipient and one server that is not counted", r)
	}
	c.exactly(c.all, "a room of Foyer", 0, 2)
	leave := &foyerv1.LeaveRoomsRequest{Target: c.room("r3"), Rooms: []string{"r4"}}
	if _, err := c.near.rooms.LeaveRooms(c.t.Context(), leave); err != nil {
		c.t.Fatal(err)
	}
	c.emit(c.room("r4"), say("a room that was left"))
	if c.node(`io.in(%q).socketsLeave("r2")`, c.ids[1]); c.oneWay {
		c.node(`io.to("r2").emit("a room that was left")`)
	}
	c.exactly(c.all, "a room that was left")
}

// want wants all clients to get an event with these arguments.
func (c *across) want(event string, args ...any) {
	c.t.Helper()
	for _, each := range c.all {
		got := plain(c.t, each.event(event))
		if want := plain(c.t, args); fmt.Sprint(got) != fmt.Sprint(want) {
			c.t.Errorf("got %v, want %v", got, want)
		}
	}
}

func (c *across) emits() {
	c.node(`io.emit("all of Node", { a: [1.5, "é", null] }, Buffer.from([1, 2, 255]))`)
	c.want("all of Node", map[string]any{"a": []any{1.5, "é", nil}}, bin{1, 2, 255})
	c.emit(c.every, &foyerv1.Payload{Event: "all of Foyer", Args: &foyerv1.Payload_Json{Json: `[{"a":1},{"_placeholder":true,"num":0}]`}, Attachments: [][]byte{{7, 0, 255}}})
	c.want("all of Foyer", map[string]any{"a": 1}, bin{7, 0, 255})
}

func (c *across) except() {
	c.node(`io.except("r1").emit("except of Node")`)
	c.exactly(c.all, "except of Node", 0, 2)
	c.emit(&foyerv1.Target{Namespace: c.nsp, All: true, ExceptRooms: []string{"r3"}}, say("except of Foyer"))
	c.exactly(c.all, "except of Foyer", 1)
}

func (c *across) local() {
	c.node(`io.local.emit("local of Node")`)
	c.exactly(c.all, "local of Node", 0)
	c.emit(&foyerv1.Target{Namespace: c.nsp, All: true, Local: true}, say("local of Foyer"))
	c.exactly(c.all, "local of Foyer", 1)
}

// volatile is what clients get that take it, as these do.
func (c *across) volatile() {
	c.node(`io.volatile.compress(false).emit("volatile of Node")`)
	c.exactly(c.all, "volatile of Node", 0, 1, 2)
	event := "volatile of Foyer"
	eventually(c.t, func() error { // a node that is silent is not given what is volatile
		event += "."
		r := c.emit(c.every, say(event), &foyerv1.EmitOptions{Volatile: true})
		if missing := r.GetCoverage().GetUnreachable(); len(missing) > 0 {
			return fmt.Errorf("%v are silent", missing)
		}
		return nil
	})
	c.exactly(c.all, event, 0, 1, 2)
}

func (c *across) some() {
	c.node(`io.to(["r1", "r3"]).emit("rooms of Node")`)
	c.exactly(c.all, "rooms of Node", 0, 1, 2)
	if c.emitter {
		c.node(`emitter.of(%q).to("r3").emit("emitted")`, c.nsp)
		c.exactly(c.all, "emitted", 0, 2)
	}
	for i, id := range c.ids {
		event := fmt.Sprint("to one ", i)
		c.emit(c.room(id), say(event))
		c.exactly(c.all, event, i)
	}
	c.node(`io.to(%q).emit("to one of Node")`, c.ids[2])
	c.exactly(c.all, "to one of Node", 2)
}

func (c *across) lists() {
	t, ids := c.t, c.ids
	if got := c.node(`io.fetchSockets().then((all) => all.map((s) => s.id).sort())`); got != sorted(ids) {
		t.Errorf("Node sees the sockets %s, want %s", got, sorted(ids))
	}
	shake := c.node(`io.in(%q).fetchSockets().then(([s]) => [s.handshake.query.EIO, s.handshake.xdomain, typeof s.handshake.issued, [...s.rooms].sort()[0] < "r", s.rooms.has("r1")])`, ids[1])
	if shake != `["4",false,"number",true,true]` {
		t.Errorf("Node sees the socket at Foyer as %s", shake)
	}
	page, err := c.near.sockets.ListSockets(t.Context(), &foyerv1.ListSocketsRequest{Target: c.every, View: foyerv1.SocketView_SOCKET_VIEW_FULL})
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
	got, err := c.near.sockets.GetSocket(t.Context(), &foyerv1.GetSocketRequest{Namespace: c.nsp, SocketId: ids[0], View: foyerv1.SocketView_SOCKET_VIEW_FULL})
	if s := got.GetSocket(); err != nil || !slices.Equal(s.GetRooms(), []string{"r3"}) || s.GetData().GetFields()["name"].GetStringValue() != "on Node" {
		t.Errorf("the socket on Node is %v, %v", got, err)
	}
	update := &foyerv1.UpdateSocketRequest{Namespace: c.nsp, SocketId: ids[0], Change: &foyerv1.UpdateSocketRequest_Data{Data: &structpb.Struct{}}}
	if _, err = c.near.sockets.UpdateSocket(t.Context(), update); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("to change a socket on Node: %v", err)
	}
}

// asked are the answers to an event of Foyer.
func (c *across) asked(to *foyerv1.Target) (answers []string) {
	c.t.Helper()
	acks, err := c.near.emits.EmitWithAck(c.t.Context(), &foyerv1.EmitWithAckRequest{Target: to, Payload: say("question"), Timeout: durationpb.New(patience)})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, o := range acks.GetOutcomes() {
		answers = append(answers, o.GetArgs().GetJson())
	}
	return answers
}

func (c *across) acks() {
	for i, each := range c.all {
		each.answers("question", []any{fmt.Sprint("from ", i)})
	}
	if got := c.node(`io.timeout(20000).emitWithAck("question").then((all) => all.sort())`); got != `["from 0","from 1","from 2"]` {
		c.t.Errorf("Node gets the answers %s", got)
	}
	if got := sorted(c.asked(c.every)); got != sorted([]string{`["from 0"]`, `["from 1"]`, `["from 2"]`}) {
		c.t.Errorf("Foyer gets the answers %s", got)
	}
}

func (c *across) acksOfOne() {
	for i, id := range c.ids {
		if got := c.node(`io.to(%q).timeout(20000).emitWithAck("question")`, id); got != fmt.Sprintf(`["from %d"]`, i) {
			c.t.Errorf("Node gets the answers %s of client %d", got, i)
		}
		if got := sorted(c.asked(c.room(id))); got != sorted([]string{fmt.Sprintf(`["from %d"]`, i)}) {
			c.t.Errorf("Foyer gets the answers %s of client %d", got, i)
		}
	}
}

func (c *across) going() {
	c.node(`io.in(%q).disconnectSockets()`, c.ids[2])
	if reason := c.all[2].expect("disconnect").Reason; reason != "io server disconnect" {
		c.t.Errorf("a socket at Foyer that Node disconnects hears %q", reason)
	}
	if _, err := c.near.sockets.DisconnectSockets(c.t.Context(), &foyerv1.DisconnectSocketsRequest{Target: c.room(c.ids[0])}); err != nil {
		c.t.Fatal(err)
	}
	if reason := c.all[0].expect("disconnect").Reason; reason != "io server disconnect" {
		c.t.Errorf("a socket on Node that Foyer disconnects hears %q", reason)
	}
}

func sorted(list []string) string {
	list = slices.Clone(list)
	slices.Sort(list)
	raw, _ := json.Marshal(list)
	return string(raw)
}
