//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
)

// TestPeersModel has callers of all kinds act at random in a mixed cluster on the classic Redis adapter.
func TestPeersModel(t *testing.T) { testPeersModel(t, classic, 10*time.Second) }

// TestPeersModelMedia does so on the other media, for a shorter time.
func TestPeersModelMedia(t *testing.T) {
	for _, on := range []struct {
		name string
		*medium
	}{
		// Not with the package redis: it stays deaf to a room that is left and joined again in one moment, see
		// docs/cluster.md.
		{"sharded, dynamic", sharded("dynamic", "ioredis")},
		{"sharded, dynamic-private", sharded("dynamic-private", "ioredis")},
		{"streams", onStreams("")},
		{"postgres", onPostgres},
		{"mongo", onMongo(false)},
	} {
		t.Run(on.name, func(t *testing.T) { testPeersModel(t, on.medium, 3*time.Second) })
	}
}

// testPeersModel lets a server on Node, an official emitter and the APIs of two nodes put sockets into rooms, end
// them and emit at random, with clients that come and go at all three. After each batch every client has heard what
// one registry would have let it hear: each emit once, those of one caller in their order, and nothing else. Each
// server lists the sockets with their rooms as that registry has them.
//
// One caller's deeds follow each other without a pause. What one kind of server says is not ordered against what the
// other says, so before another caller acts all have heard the last one. Where nobody changes anything, all emit at
// once.
//
// It goes on for PEERSTIME, or for the usual time. SEED is that of a run to do again.
func testPeersModel(t *testing.T, on *medium, usual time.Duration) {
	lasts := setting(t, "PEERSTIME", usual, time.ParseDuration)
	seed := setting(t, "SEED", rand.Uint64(), func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
	t.Logf("SEED=%d", seed)
	m := &model{mixed: startMixed(t, on), rand: rand.New(rand.NewPCG(seed, seed))}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("SEED=%d; the last deeds:\n%s", seed, strings.Join(m.trace[max(0, len(m.trace)-60):], "\n"))
		}
	})
	for _, nsp := range []string{"/", "/chat"} {
		for range 3 {
			all, ids := m.clients(nsp, quick)
			for at, c := range all {
				m.guests = append(m.guests, &guest{client: c, at: at, nsp: nsp, id: ids[at], rooms: map[string]bool{}, here: true})
			}
		}
	}
	m.agree()
	batches := 0
	for began := time.Now(); batches < 10 || time.Since(began) < lasts; batches++ {
		switch n := m.rand.IntN(10); {
		case n < 4:
			m.onNode()
		case n < 8:
			m.atFoyer(1 + n%2)
		case n < 9:
			m.together()
		default:
			m.comeAndGo()
		}
		m.agree()
		m.heard()
	}
	for _, g := range m.guests { // nothing comes late
		if g.here {
			g.settle()
		}
	}
	m.heard()
	t.Logf("%d batches with %d emits; %d answers were of a part of the servers", batches, m.emits, m.parts.Load())
}

// setting is a value from the environment, or the usual one.
func setting[T any](t testing.TB, name string, usual T, parse func(string) (T, error)) T {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	v, err := parse(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// model is a mixed cluster and the one registry that it is held against.
type model struct {
	*mixed
	rand   *rand.Rand
	guests []*guest
	emits  int
	parts  atomic.Int32 // answers that name somebody who has not answered
	read   int          // of what the clients have seen
	trace  []string
}

// guest is a client, and what the registry knows of its socket.
type guest struct {
	*client
	at    int // whose client it is: 0 the server on Node's, else a node's
	nsp   string
	id    string
	rooms map[string]bool
	here  bool

	// Since the last batch.
	wants, got []string // events, in their order
	ends, end  bool     // a server has ended it, and it has heard so
}

// Callers, by what their events begin with.
const (
	byNode    = "n"
	byEmitter = "e"
	byClient  = "s" // a socket on Node, in the words of its server
)

// deed is one thing that a caller does.
type deed struct {
	by   string // a caller; of a node's API its number
	what string // "emit", "ask", "join", "leave", "end"

	nsp           string
	rooms, except []string
	local         bool
	socket        *guest // byClient: it itself is left out of emits, and is the one whose rooms change

	event  string   // emit, ask
	binary bool     // emit
	change []string // join, leave
	close  bool     // end
}

var modelRooms = []string{"r1", "r2", "room#3", "комната", "*", "5"}

// some are up to most of a list.
func (m *model) some(list []string, most int) []string {
	list = slices.Clone(list)
	m.rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list[:1+m.rand.IntN(most)]
}

func (m *model) chance(of int) bool { return m.rand.IntN(of) == 0 }

// deed makes up what a caller does; one that only emits changes nothing.
func (m *model) deed(by string, emits bool) *deed {
	d := &deed{by: by, nsp: []string{"/", "/chat"}[m.rand.IntN(2)], what: "emit"}
	if !emits {
		d.what = []string{"emit", "emit", "emit", "join", "join", "leave", "end"}[m.rand.IntN(7)]
	}
	if by == byClient {
		var own []*guest
		for _, g := range m.guests {
			if g.at == 0 && g.here {
				own = append(own, g)
			}
		}
		if len(own) == 0 {
			d.by = byNode
		} else {
			d.socket = own[m.rand.IntN(len(own))]
			d.nsp = d.socket.nsp
		}
	}
	var ids []string
	for _, g := range m.guests {
		if g.nsp == d.nsp {
			ids = append(ids, g.id) // some are gone
		}
	}
	switch m.rand.IntN(6) {
	case 0, 1: // all
		if d.what == "end" {
			d.rooms = m.some(ids, 1)
		}
	case 2:
		d.rooms = m.some(ids, 2)
	case 3, 4:
		d.rooms = m.some(modelRooms, 3)
	default:
		d.rooms = append(m.some(modelRooms, 2), m.some(ids, 1)...)
	}
	if m.chance(3) {
		d.except = append(m.some(modelRooms, 1), m.some(ids, 1)...)[m.rand.IntN(2):]
	}
	switch d.what {
	case "emit":
		d.local = d.by != byEmitter && d.by != byClient && m.chance(8)
		d.binary = !m.beats && m.chance(4) // what is in a table, Node reads while it goes on with the others
		if by != byClient && by != byEmitter && !d.local && !emits && m.chance(8) {
			d.what = "ask"
		}
		m.emits++
		d.event = fmt.Sprint(d.by, " ", m.emits)
	case "end":
		if d.by == byClient {
			d.rooms, d.except = []string{d.socket.id}, nil
		}
		d.close = m.chance(2)
	default:
		d.change = m.some(modelRooms, 2)
		if d.by == byClient {
			d.rooms, d.except = []string{d.socket.id}, nil
		}
	}
	m.trace = append(m.trace, fmt.Sprintf("%s in %s: %s %q %q to %q except %q (local %t, close %t)",
		d.by, d.nsp, d.what, d.event, d.change, d.rooms, d.except, d.local, d.close))
	return d
}

// meets says whether a deed is for a guest.
func (d *deed) meets(g *guest) bool {
	in := func(room string) bool { return room == g.id || g.rooms[room] }
	switch {
	case !g.here || g.nsp != d.nsp || d.socket == g && (d.what == "emit"):
		return false
	case d.local && fmt.Sprint(g.at) != strings.Replace(d.by, byNode, "0", 1):
		return false
	case slices.ContainsFunc(d.except, in):
		return false
	}
	return len(d.rooms) == 0 || slices.ContainsFunc(d.rooms, in)
}

// do is what the registry makes of a deed for a guest. It says whether the guest is met.
func (d *deed) do(g *guest) bool {
	if !d.meets(g) {
		return false
	}
	switch d.what {
	case "emit", "ask":
		g.wants = append(g.wants, d.event)
	case "join":
		for _, room := range d.change {
			g.rooms[room] = true
		}
	case "leave":
		for _, room := range d.change {
			delete(g.rooms, room)
		}
	case "end":
		g.here, g.ends = false, true
		clear(g.rooms)
	}
	return true
}

// onNode lets the server on Node and an emitter in its process act. Its own emits reach its own sockets at once. What
// it does with sockets by their rooms, and what an emitter says, is done there when it has come back from the medium.
func (m *model) onNode() {
	callers := []string{byNode, byNode, byClient}
	if m.emitter {
		callers = append(callers, byEmitter)
	}
	var script []string
	var later []*deed
	asked, ending := 0, false
	for range 1 + m.rand.IntN(8) {
		d := m.deed(callers[m.rand.IntN(len(callers))], false)
		if d.what == "ask" && ending {
			d.what = "emit" // the end may come back from the medium before the answer of a client, which is lost then
		}
		script = append(script, d.js())
		direct := d.by == byClient || d.by == byNode && (d.what == "emit" || d.what == "ask")
		if !direct {
			later = append(later, d)
			ending = ending || d.what == "end"
		}
		met := 0
		for _, g := range m.guests {
			if (g.at > 0 || direct) && d.do(g) {
				met++
			}
		}
		if d.what == "ask" {
			asked = met
			break // nothing follows, since this one is waited for
		}
		if !m.oneWay { // when it does what with its own sockets, is not promised
			break
		}
	}
	got := m.peer.run("(() => { " + strings.Join(script, "; ") + " })()")
	for _, d := range later {
		for _, g := range m.guests {
			if g.at == 0 {
				d.do(g)
			}
		}
	}
	if asked > 0 && got != strconv.Itoa(asked) {
		m.t.Errorf("the server on Node gets %s answers, want %d", got, asked)
	}
}

// js is the deed in the words of Socket.IO.
func (d *deed) js() string {
	quote := func(v any) string {
		raw, _ := json.Marshal(v)
		return string(raw)
	}
	text := fmt.Sprintf("io.of(%q)", d.nsp)
	switch d.by {
	case byEmitter:
		text = fmt.Sprintf("emitter.of(%q)", d.nsp)
	case byClient:
		text = fmt.Sprintf("io.of(%q).sockets.get(%q)", d.nsp, d.socket.id)
		switch d.what {
		case "join":
			return fmt.Sprintf("%s.join(%s)", text, quote(d.change))
		case "leave": // it takes one at a time
			return fmt.Sprintf("%s.forEach((room) => %s.leave(room))", quote(d.change), text)
		case "end":
			return fmt.Sprintf("%s.disconnect(%t)", text, d.close)
		}
		text += ".broadcast"
	}
	if len(d.rooms) > 0 {
		text += ".to(" + quote(d.rooms) + ")"
	}
	if len(d.except) > 0 {
		text += ".except(" + quote(d.except) + ")"
	}
	if d.local {
		text += ".local"
	}
	switch d.what {
	case "join":
		return fmt.Sprintf("%s.socketsJoin(%s)", text, quote(d.change))
	case "leave":
		return fmt.Sprintf("%s.socketsLeave(%s)", text, quote(d.change))
	case "end":
		return fmt.Sprintf("%s.disconnectSockets(%t)", text, d.close)
	case "ask":
		return fmt.Sprintf("return %s.timeout(10000).emitWithAck(%q).then((all) => all.length)", text, d.event)
	}
	if d.binary {
		return fmt.Sprintf("%s.emit(%q, Buffer.from([1, 2, 255]), 7)", text, d.event)
	}
	return fmt.Sprintf("%s.emit(%q, 7)", text, d.event)
}

// atFoyer lets a caller of a node's API act.
func (m *model) atFoyer(node int) {
	for i := range 1 + m.rand.IntN(8) {
		d := m.deed(strconv.Itoa(node), false)
		if d.what == "ask" && i > 0 && !m.oneWay {
			d.what = "emit" // what waits for answers may go another way than what came before
		}
		if err := m.call(d, m.met(d)); err != nil {
			m.t.Fatal(err)
		}
	}
}

// met does a deed in the registry, and returns how many sockets it is for, of the server on Node and of Foyer.
func (m *model) met(d *deed) (n [2]int) {
	for _, g := range m.guests {
		if d.do(g) {
			n[min(g.at, 1)]++
		}
	}
	return n
}

// call does a deed by the API. Its answer has to count the sockets of Foyer, unless it says that somebody has not
// answered in time, as on a machine that is busy with something else. A deed that changes sockets is repeated then:
// it meets no socket that it did not meet before.
func (m *model) call(d *deed, met [2]int) error {
	for tries := 0; ; tries++ {
		matched, whole, err := m.callOnce(d)
		if !whole {
			m.parts.Add(1)
		}
		want := met[1]
		if d.what == "ask" {
			want += met[0] // each answers
		}
		switch {
		case err != nil:
			return err
		case matched > want || matched < want && whole && tries == 0:
			return fmt.Errorf("%s of %v at node %s is answered with %d sockets, want %d", d.what, d.rooms, d.by, matched, want)
		case whole || tries == 20 || d.what == "emit" || d.what == "ask":
			return nil
		}
	}
}

// callOnce says how many sockets the answer counts, and whether all have answered.
func (m *model) callOnce(d *deed) (matched int, whole bool, err error) {
	node, _ := strconv.Atoi(d.by)
	b, ctx := m.apis[node-1], m.t.Context()
	target := &foyerv1.Target{Namespace: d.nsp, Rooms: d.rooms, All: len(d.rooms) == 0, ExceptRooms: d.except, Local: d.local}
	var n int32
	var c *foyerv1.Coverage
	switch d.what {
	case "emit":
		payload := say(d.event, 7)
		if d.binary {
			payload = &foyerv1.Payload{Event: d.event, Args: &foyerv1.Payload_Json{Json: `[{"_placeholder":true,"num":0},7]`}, Attachments: [][]byte{{1, 2, 255}}}
		}
		var r *foyerv1.EmitResponse
		r, err = b.emits.Emit(ctx, &foyerv1.EmitRequest{Target: target, Payload: payload})
		n, c = r.GetMatched(), r.GetCoverage()
	case "ask":
		var r *foyerv1.EmitWithAckResponse
		r, err = b.emits.EmitWithAck(ctx, &foyerv1.EmitWithAckRequest{Target: target, Payload: say(d.event, 7), Timeout: durationpb.New(10 * time.Second)})
		n, c = r.GetSummary().GetAcked(), r.GetSummary().GetCoverage()
	case "join":
		var r *foyerv1.JoinRoomsResponse
		r, err = b.rooms.JoinRooms(ctx, &foyerv1.JoinRoomsRequest{Target: target, Rooms: d.change})
		n, c = r.GetMatched(), r.GetCoverage()
	case "leave":
		var r *foyerv1.LeaveRoomsResponse
		r, err = b.rooms.LeaveRooms(ctx, &foyerv1.LeaveRoomsRequest{Target: target, Rooms: d.change})
		n, c = r.GetMatched(), r.GetCoverage()
	case "end":
		mode := foyerv1.DisconnectMode_DISCONNECT_MODE_NAMESPACE
		if d.close {
			mode = foyerv1.DisconnectMode_DISCONNECT_MODE_CONNECTION
		}
		var r *foyerv1.DisconnectSocketsResponse
		r, err = b.sockets.DisconnectSockets(ctx, &foyerv1.DisconnectSocketsRequest{Target: target, Mode: mode})
		n, c = r.GetMatched(), r.GetCoverage()
	}
	return int(n), len(c.GetUnreachable()) == 0 && c.GetUnreachableUnnamed() == 0, err
}

// together lets all callers emit at once, and changes nothing.
func (m *model) together() {
	const each = 10
	deeds := map[string][]*deed{}
	for _, by := range []string{byNode, "1", "2"} {
		for range each {
			deeds[by] = append(deeds[by], m.deed(by, true))
		}
	}
	var script []string
	for _, d := range deeds[byNode] {
		script = append(script, d.js())
		m.met(d)
	}
	var calls sync.WaitGroup
	errs := make([]error, len(m.apis))
	for i := range m.apis {
		list := deeds[strconv.Itoa(i+1)]
		met := make([][2]int, len(list))
		for j, d := range list {
			met[j] = m.met(d)
		}
		calls.Go(func() {
			for j, d := range list {
				errs[i] = errors.Join(errs[i], m.call(d, met[j]))
			}
		})
	}
	m.peer.run("(() => { " + strings.Join(script, "; ") + " })()")
	calls.Wait()
	if err := errors.Join(errs...); err != nil {
		m.t.Fatal(err)
	}
}

// comeAndGo has clients leave, and brings others back, as new sockets.
func (m *model) comeAndGo() {
	leaves := 2
	for _, g := range m.guests {
		switch {
		case !g.here:
			g.op("connect")
			g.id, g.here = g.connected(), true
		case leaves > 0 && m.chance(8):
			leaves--
			m.trace = append(m.trace, "client leaves: "+g.id)
			g.op("disconnect")
			g.here, g.ends = false, true
			clear(g.rooms)
		}
	}
}

// entry is a socket with its rooms in a list.
func entry(id string, rooms []string) string {
	slices.Sort(rooms)
	return fmt.Sprintf("%s: %q", id, rooms)
}

// agree waits until each server lists the sockets as the registry has them.
func (m *model) agree() {
	m.t.Helper()
	for _, nsp := range []string{"/", "/chat"} {
		var want []string
		for _, g := range m.guests {
			if g.here && g.nsp == nsp {
				rooms := make([]string, 0, len(g.rooms))
				for room := range g.rooms {
					rooms = append(rooms, room)
				}
				want = append(want, entry(g.id, rooms))
			}
		}
		slices.Sort(want)
		for _, room := range modelRooms {
			at := map[int]bool{}
			for _, g := range m.guests {
				if g.nsp == nsp && g.rooms[room] {
					at[g.at] = true
				}
			}
			if m.joined != nil && len(at) > 0 {
				m.joined(m.t, m.url, nsp, room, int64(len(at)))
			}
		}
		same := func(who string, got []string) error {
			if slices.Sort(got); slices.Equal(got, want) {
				return nil
			}
			return fmt.Errorf("in %s %s lists\n%s\nwant\n%s", nsp, who, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		for i, b := range m.apis {
			eventually(m.t, func() error {
				page, err := b.sockets.ListSockets(m.t.Context(), &foyerv1.ListSocketsRequest{Target: &foyerv1.Target{Namespace: nsp, All: true}})
				if err != nil {
					return err
				}
				var got []string
				for _, s := range page.GetSockets() {
					got = append(got, entry(s.GetId(), s.GetRooms()))
				}
				return same(fmt.Sprintf("node %d (%v)", i+1, page.GetCoverage()), got)
			})
		}
		eventually(m.t, func() error {
			answer := m.peer.run(fmt.Sprintf(`io.of(%q).fetchSockets().then((all) => all.map((s) => ({ id: s.id, rooms: [...s.rooms].filter((r) => r !== s.id) })), (err) => err.message)`, nsp))
			var list []struct {
				ID    string
				Rooms []string
			}
			if err := json.Unmarshal([]byte(answer), &list); err != nil {
				return errors.New(answer)
			}
			var got []string
			for _, s := range list {
				got = append(got, entry(s.ID, s.Rooms))
			}
			return same("the server on Node", got)
		})
	}
}

// heard waits until each client has heard what the registry says, and fails when it hears something else.
func (m *model) heard() {
	m.t.Helper()
	byName := map[string]*guest{}
	for _, g := range m.guests {
		byName[g.name] = g
	}
	eventually(m.t, func() error {
		all := m.puppets.seen.all()
		for ; m.read < len(all); m.read++ {
			switch s := all[m.read]; {
			case byName[s.C] == nil:
			case s.K == "event":
				byName[s.C].got = append(byName[s.C].got, s.Event)
			case s.K == "disconnect":
				byName[s.C].end = true
			}
		}
		var missing error
		for _, g := range m.guests {
			for i, event := range g.got {
				if !slices.Contains(g.wants, event) || slices.Contains(g.got[:i], event) {
					m.t.Fatalf("client %s (of %d, %s) hears %q, and was to hear %q: got %q", g.id, g.at, g.nsp, event, g.wants, g.got)
				}
			}
			if len(g.got) < len(g.wants) {
				missing = errors.Join(missing, fmt.Errorf("client %s (of %d, %s) hears %q, want %q", g.id, g.at, g.nsp, g.got, g.wants))
			}
			if g.ends != g.end {
				missing = errors.Join(missing, fmt.Errorf("client %s (of %d, %s): it has heard that it is ended: %t, want %t", g.id, g.at, g.nsp, g.end, g.ends))
			}
		}
		return missing
	})
	for _, g := range m.guests {
		for _, by := range []string{byNode, byEmitter, byClient, "1", "2"} {
			others := func(event string) bool { return !strings.HasPrefix(event, by+" ") }
			got, want := slices.DeleteFunc(slices.Clone(g.got), others), slices.DeleteFunc(slices.Clone(g.wants), others)
			if (m.oneWay || by == "1" || by == "2") && !slices.Equal(got, want) {
				m.t.Fatalf("client %s (of %d, %s) hears %q in this order, want %q", g.id, g.at, g.nsp, got, want)
			}
		}
		g.wants, g.got, g.ends, g.end = nil, nil, false, false
	}
}
