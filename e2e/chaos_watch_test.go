//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

// termShift is where in a generation the term of its node begins: how often that was lost and came back.
const termShift = 40

// knownSocket is a socket as a watcher, or a registry, knows it.
type knownSocket struct {
	node       string
	generation uint64
	rooms      []string // sorted
}

func knownOf(s *foyerv1.Socket) knownSocket {
	return knownSocket{s.GetNodeId(), s.GetGeneration(), slices.Sorted(slices.Values(s.GetRooms()))}
}

// same says whether two say the same of a socket. When its node was lost by others only, its generation is raised
// without a change that a watcher is told: so the term may be higher in what is asked for later.
func (k knownSocket) same(later knownSocket) bool {
	const counter = 1<<termShift - 1
	return k.node == later.node && slices.Equal(k.rooms, later.rooms) && k.generation <= later.generation &&
		k.generation&counter == later.generation&counter
}

// socketStory is how often a watcher was told of changes of one socket.
type socketStory struct {
	connected, ended, lost int
	joined, left           map[string]int // by room
}

// chaosWatcher watches everybody as a client of the API does that is written well: it keeps what it is told, and when
// its stream ends it goes on at the next node, behind what it has heard.
type chaosWatcher struct {
	c     *chaos
	name  string
	at    int
	roams bool // it goes to another node every now and then, and when it hears nothing
	turns bool // it goes to another node when it was told that one is lost

	mu      sync.Mutex
	sockets map[string]knownSocket
	token   string // of the last message; "": there is nothing to go on from
	synced  bool
	stories map[string]*socketStory
	newest  map[string]uint64 // the highest generation that was told since the last reset
	resets  []foyerv1.ResetReason
	streams int
	events  int
}

// roamAfter is how many messages a watcher that roams hears at one node, and roamPatience how long it waits for one.
const (
	roamAfter    = 60
	roamPatience = 3 * time.Second
)

// run watches until ctx ends.
func (w *chaosWatcher) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := w.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !w.roams {
			w.c.t.Logf("%s goes on elsewhere: %v", w.name, err)
		}
		w.at = (w.at + 1) % len(w.c.nodes)
		select {
		case <-time.After(20 * time.Millisecond): // all may be away
		case <-ctx.Done():
		}
	}
}

// follow watches at one node, until that ends, or nil when it is time to go.
func (w *chaosWatcher) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.mu.Lock()
	token := w.token
	w.streams++
	w.mu.Unlock()
	quiet := time.AfterFunc(time.Hour, cancel)
	defer quiet.Stop()
	if w.roams {
		quiet.Reset(roamPatience)
	}
	stream, err := foyerv1.NewPresenceServiceClient(w.c.node(w.at).conn).Watch(ctx, &foyerv1.WatchRequest{All: true, ResumeToken: token})
	if err != nil {
		return err
	}
	began := false
	coming := map[string]knownSocket{} // a snapshot, until it is whole
	for n := 0; !w.roams || n < roamAfter; n++ {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if w.roams {
			quiet.Reset(roamPatience)
		}
		w.mu.Lock()
		began, coming = w.take(m, began, coming)
		w.mu.Unlock()
		if w.turns && slices.ContainsFunc(m.GetEvents().GetEvents(), tellsLoss) {
			return nil
		}
	}
	return nil
}

func tellsLoss(e *foyerv1.PresenceEvent) bool {
	return e.GetReason() == foyerv1.DisconnectReason_DISCONNECT_REASON_NODE_LOST
}

// take applies a message. began says whether all of the present is to come, into coming.
func (w *chaosWatcher) take(m *foyerv1.WatchResponse, began bool, coming map[string]knownSocket) (bool, map[string]knownSocket) {
	fault := func(format string, args ...any) { w.c.t.Errorf("%s: %s", w.name, fmt.Sprintf(format, args...)) }
	switch what := m.GetMessage().(type) {
	case *foyerv1.WatchResponse_Reset_:
		w.resets = append(w.resets, what.Reset_.GetReason())
		w.token, w.synced, began = "", false, true
		w.sockets, w.newest, coming = map[string]knownSocket{}, map[string]uint64{}, map[string]knownSocket{}
	case *foyerv1.WatchResponse_Snapshot:
		if w.token != "" {
			fault("a snapshot where the stream was to go on")
		}
		for _, s := range what.Snapshot.GetSockets() {
			if _, twice := coming[s.GetId()]; twice {
				fault("%s is in the snapshot twice", s.GetId())
			}
			coming[s.GetId()] = knownOf(s)
		}
		began = true
	case *foyerv1.WatchResponse_Synced:
		if began || w.token == "" {
			w.sockets = coming
			for id, s := range coming {
				w.newest[id] = s.generation
			}
		}
		w.synced, began = true, false
	case *foyerv1.WatchResponse_Events:
		if !w.synced {
			fault("events before the stream is synced")
		}
		for _, e := range what.Events.GetEvents() {
			w.events++
			if wrong := w.apply(e); wrong != "" {
				fault("%s: %v", wrong, e)
			}
		}
	}
	if token := m.GetResumeToken(); token != "" {
		w.token = token
	}
	return began, coming
}

// apply applies a change, and says what is wrong with it.
func (w *chaosWatcher) apply(e *foyerv1.PresenceEvent) (wrong string) {
	id, told := e.GetSocket().GetId(), knownOf(e.GetSocket())
	was, known := w.sockets[id]
	newest, before := w.newest[id]
	story := w.stories[id]
	if story == nil {
		story = &socketStory{joined: map[string]int{}, left: map[string]int{}}
		w.stories[id] = story
	}
	lost := tellsLoss(e)
	rooms := slices.Clone(was.rooms)
	switch e.GetType() {
	case foyerv1.PresenceEvent_TYPE_CONNECTED:
		story.connected++
		if known {
			wrong = "connected twice without an end between"
		}
		rooms = told.rooms
	case foyerv1.PresenceEvent_TYPE_DISCONNECTED:
		story.ended++
		if lost {
			story.lost++
		}
	case foyerv1.PresenceEvent_TYPE_JOINED:
		for _, r := range e.GetRooms() {
			story.joined[r]++
			if slices.Contains(rooms, r) {
				wrong = "joined twice"
			}
		}
		rooms = append(rooms, e.GetRooms()...)
	case foyerv1.PresenceEvent_TYPE_LEFT:
		for _, r := range e.GetRooms() {
			story.left[r]++
			if !slices.Contains(rooms, r) {
				wrong = "left twice"
			}
		}
		rooms = slices.DeleteFunc(rooms, func(r string) bool { return slices.Contains(e.GetRooms(), r) })
	}
	slices.Sort(rooms)
	ended := e.GetType() == foyerv1.PresenceEvent_TYPE_DISCONNECTED
	switch {
	case wrong != "":
	case !known && e.GetType() != foyerv1.PresenceEvent_TYPE_CONNECTED:
		wrong = "nobody said that it is there"
	case before && (told.generation < newest || told.generation == newest && !lost): // a lost one is at its last generation
		wrong = fmt.Sprintf("its generation was %d before", newest)
	case !slices.Equal(rooms, told.rooms):
		wrong = fmt.Sprintf("its rooms are %q by all that was told", rooms)
	}
	w.newest[id] = max(newest, told.generation)
	if ended {
		delete(w.sockets, id)
	} else {
		w.sockets[id] = told
	}
	return wrong
}

// differs says how what the watcher knows differs from the registries; nil: it does not.
func (w *chaosWatcher) differs(registry map[string]knownSocket) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.synced {
		return fmt.Errorf("%s is not synced", w.name)
	}
	for id, s := range registry {
		if k, some := w.sockets[id]; !some || !k.same(s) {
			return fmt.Errorf("%s knows %s as %v (%t), and the registry as %v", w.name, id, k, some, s)
		}
	}
	for id, k := range w.sockets {
		if _, some := registry[id]; !some {
			return fmt.Errorf("%s knows %s as %v, and the registry does not", w.name, id, k)
		}
	}
	return nil
}

// watch starts watchers at each node, one that stays and one that turns away from losses, and one that roams. It
// returns when each knows everybody.
func (c *chaos) watch(ctx context.Context, work *sync.WaitGroup) {
	for i := range 2*len(c.nodes) + 1 {
		w := &chaosWatcher{
			c: c, at: i % len(c.nodes), turns: i >= len(c.nodes), roams: i == 2*len(c.nodes),
			sockets: map[string]knownSocket{}, stories: map[string]*socketStory{}, newest: map[string]uint64{},
		}
		switch {
		case w.roams:
			w.name = "the watcher who roams"
		case w.turns:
			w.name = "the watcher who turns away from losses, first at " + c.names[w.at]
		default:
			w.name = "the watcher of " + c.names[w.at]
		}
		c.watchers = append(c.watchers, w)
		work.Go(func() { w.run(ctx) })
	}
	c.agree()
	for _, w := range c.watchers { // what was told so far is of those who had come before, whom a node may hear of late
		w.mu.Lock()
		clear(w.stories)
		w.mu.Unlock()
	}
}

// registry is what a node says of everybody, which has to speak for all nodes that run.
func (c *chaos) registry(n *meshNode) (map[string]knownSocket, error) {
	all := map[string]knownSocket{}
	for token := ""; ; {
		ctx, stop := context.WithTimeout(c.t.Context(), patience)
		r, err := foyerv1.NewSocketServiceClient(n.conn).ListSockets(ctx, &foyerv1.ListSocketsRequest{
			Target: &foyerv1.Target{All: true}, PageSize: 1000, PageToken: token,
		})
		stop()
		if err != nil {
			return nil, fmt.Errorf("list at %s: %w", n.name, err)
		}
		for _, o := range c.nodes {
			if !o.stopped && slices.Contains(r.GetCoverage().GetUnreachable(), o.name) || r.GetCoverage().GetUnreachableUnnamed() > 0 {
				return nil, fmt.Errorf("the list at %s speaks not for all: %v", n.name, r.GetCoverage())
			}
		}
		for _, s := range r.GetSockets() {
			all[s.GetId()] = knownOf(s)
		}
		if token = r.GetNextPageToken(); token == "" {
			return all, nil
		}
	}
}

// agree waits until all nodes list the same sockets, those of the clients that there are among them and of none that is
// gone, and each watcher knows the same.
func (c *chaos) agree() {
	c.t.Helper()
	eventually(c.t, func() error {
		var first map[string]knownSocket
		for _, n := range c.nodes {
			if n.stopped {
				continue
			}
			all, err := c.registry(n)
			if err != nil {
				return err
			}
			if first == nil {
				first = all
			}
			if !maps.EqualFunc(first, all, knownSocket.same) {
				return fmt.Errorf("%s lists %v, and another node %v", n.name, all, first)
			}
		}
		for _, client := range c.clients {
			if _, listed := first[client.id]; listed == client.isGone() {
				return fmt.Errorf("%s is gone: %t, and listed: %t", client.id, client.isGone(), listed)
			}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, guest := range c.guests {
			if _, listed := first[guest.id]; listed {
				return fmt.Errorf("%s has come and gone, and is listed", guest.id)
			}
		}
		for _, w := range c.watchers {
			if err := w.differs(first); err != nil {
				return err
			}
		}
		return nil
	})
}

// chaosGuest is a client that came and went.
type chaosGuest struct {
	id     string
	node   int
	joined bool // "guests", by a call that was answered
}

// visit has clients come to a node and go, one after the other, until ctx ends.
func (c *chaos) visit(ctx context.Context, at int) {
	pause := func() {
		select {
		case <-time.After(time.Duration(rand.IntN(30)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
	for n := 0; ctx.Err() == nil; n++ {
		pause()
		s, err := rawJoin("", c.node(at).edge)
		if err != nil {
			continue // the node is away, or was when it was to answer
		}
		guest := &chaosGuest{id: s.id, node: at}
		if n%2 == 0 {
			within, stop := context.WithTimeout(context.Background(), 5*time.Second)
			r, err := foyerv1.NewRoomServiceClient(c.node(rand.IntN(len(c.nodes))).conn).JoinRooms(within, &foyerv1.JoinRoomsRequest{
				Target: &foyerv1.Target{Rooms: []string{s.id}}, Rooms: []string{"guests"},
			})
			stop()
			guest.joined = err == nil && r.GetMatched() == 1
		}
		pause()
		switch n % 3 {
		case 0:
			s.Close()
		case 1:
			cut(s.Conn)
		default:
			_ = s.send("41")
			s.Close()
		}
		c.mu.Lock()
		c.guests = append(c.guests, guest)
		c.mu.Unlock()
	}
}

// losses is how often a node has taken another one for lost, by its own log.
func (c *chaos) losses(i, j int) (n int) {
	for _, line := range c.node(i).log.all() {
		if strings.Contains(line, `"msg":"member lost"`) && strings.Contains(line, `"node":"`+c.names[j]+`"`) {
			n++
		}
	}
	return n
}

func (c *chaos) lostBy(i, j int) bool { return c.losses(i, j) > 0 }

// checkWatchers looks at what watchers were told on the way. Those that are to have lost another node have told so of
// each of its clients once, and that it is there again if it is; and whoever has heard all of a node's changes was told
// each of them once.
func (c *chaos) checkWatchers(dead []int) {
	t := c.t
	whole := 0
	for i, w := range c.watchers {
		w.mu.Lock()
		resets, streams, events := w.resets, w.streams, w.events
		w.mu.Unlock()
		if !w.turns || len(resets) > 0 || streams > 1 {
			t.Logf("%s: %d events in %d streams, resets %v", w.name, events, streams, resets)
		}
		if !w.turns && !slices.Contains(dead, i) {
			if len(resets) > 0 || streams > 1 {
				t.Errorf("%s stayed where it was, and needed %d streams and resets %v", w.name, streams, resets)
			}
			for _, pair := range c.loses {
				if pair[0] == i {
					c.checkLoss(w, pair[1], slices.Contains(dead, pair[1]))
				}
			}
		}
		if len(resets) == 0 {
			whole += c.checkStories(w)
		}
	}
	t.Logf("%d guests; watchers were told %d lives from their beginning to their end", len(c.guests), whole)
	lost := 0
	for i := range c.nodes {
		if c.anyLost(i) {
			lost++
		}
	}
	if len(c.guests) == 0 || whole == 0 && lost < len(c.nodes) {
		t.Error("nobody has come and gone")
	}
}

// checkLoss looks at how a watcher was told that a node is lost, and that it is back unless it is dead. A busy node may
// be lost more than once, and is back each time; the nodes' logs say how often it was.
func (c *chaos) checkLoss(w *chaosWatcher, node int, dead bool) {
	back, most := 1, 0
	if dead {
		back = 0
	}
	for i := range c.nodes {
		most += c.losses(i, node)
	}
	for _, client := range c.clients {
		if client.node != node {
			continue
		}
		story := w.stories[client.id]
		if story == nil {
			story = &socketStory{}
		}
		if story.lost == 0 || story.lost > most || story.ended != story.lost || story.connected != story.lost-1+back {
			c.t.Errorf("%s was told of a client of %s, which it was to lose: %+v", w.name, c.names[node], *story)
		}
	}
}

// checkStories looks at the lives that a watcher heard all of, since it lost nothing of the socket's node, and says how
// many there were.
func (c *chaos) checkStories(w *chaosWatcher) (whole int) {
	lost := map[int]bool{}
	for _, story := range w.stories {
		if story.lost > 0 {
			for i := range c.nodes {
				lost[i] = lost[i] || c.lostBy(w.at, i) || w.turns && c.anyLost(i) // one that stays has lost what its own node has
			}
			break
		}
	}
	for _, guest := range c.guests {
		if lost[guest.node] {
			continue
		}
		story := w.stories[guest.id]
		if story == nil {
			story = &socketStory{}
		}
		if story.connected != 1 || story.ended != 1 || guest.joined && story.joined["guests"] != 1 {
			c.t.Errorf("%s was told of a guest of %s (joined: %t): %+v", w.name, c.names[guest.node], guest.joined, *story)
		}
		whole++
	}
	for _, client := range c.clients {
		joins, leaves, sure, room := 0, 0, true, ""
		for _, x := range c.changes {
			if x.socket == client.id {
				sure = sure && x.sure
				if room = x.room; x.in {
					joins++
				} else {
					leaves++
				}
			}
		}
		if story := w.stories[client.id]; joins > 0 && sure && !lost[client.node] && (story == nil || story.joined[room] != joins || story.left[room] != leaves) {
			c.t.Errorf("%s was told of a client of %s, which joined %s %d times and left it %d times: %+v", w.name, c.names[client.node], room, joins, leaves, story)
		}
	}
	return whole
}

// anyLost says whether anybody has taken a node for lost.
func (c *chaos) anyLost(j int) bool {
	for i := range c.nodes {
		if i != j && c.lostBy(i, j) {
			return true
		}
	}
	return false
}
