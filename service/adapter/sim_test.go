package adapter

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// The simulator: a few nodes, a bus that loses, repeats, delays and reorders, and a clock, all of one seed. What they
// do is checked against what they must have promised, at every step; and after all is healed, against the truth.

const (
	simFaults = 30 * time.Second  // how long there are faults
	simHeals  = 110 * time.Second // how long all has to settle: delayed frames come, and the lost are forgotten
	simWindow = 8 << 10
	simFrame  = 512
	simRooms  = 40
)

type sim struct {
	*rand.Rand
	now    time.Duration
	events simEvents
	count  int
	nodes  []*simNode
	cut    [5][5]bool
	order  [5][5]time.Duration // when the last frame arrives that was not reordered
	loss   float64
	repeat float64
	jitter time.Duration
	key    []byte
	sends  map[simWay][]simEmit
	emits  uint64
	facts  map[simWay][]uint64 // those that a trunk took since an epoch ended otherwise than for want of room
	told   uint64              // facts
	log    []string
	fault  string
	frames int
	strays time.Duration // until then a frame can overtake another one
	more   bool          // nodes also go in good order, and hold rooms twice
}

// simWay is from one run to another one.
type simWay struct{ from, to service.Incarnation }

// simEmit is an emit that a trunk took.
type simEmit struct {
	number, epoch uint64
}

type simJoin struct {
	room  string
	marks []Mark
}

type simNode struct {
	*sim
	place   int
	id      service.Incarnation
	p       *Peers
	alive   bool
	frozen  bool
	ready   bool
	inbox   [][]byte
	ticks   time.Duration // when a tick is planned
	rooms   map[string]bool
	joins   []simJoin
	heardBy map[string][]service.Incarnation // of a room: the runs that know of it
	last    map[service.Incarnation]int      // place of the last emit that was heard, among those sent
	trunk   map[service.Incarnation][2]uint64
	runs    map[service.NodeID]uint64
	got     map[uint64]int
	config  func(*Config)                         // changes it; nil: nobody does
	refused string                                // by whom; for tests of that alone
	seen    []State                               // of others, in the order of their changes
	slept   time.Duration                         // in this run
	since   time.Duration                         // frozen
	heardAt map[service.Incarnation]time.Duration // of frames, by the time that the node was awake
	facts   map[service.Incarnation]uint64        // the last one that was heard
	refuses map[service.Incarnation]bool          // a full window, of which half was not free since
	terms   map[service.Incarnation]uint64        // of others, as they were seen last
	states  map[service.Incarnation]State         // the same
	gone    map[service.Incarnation]bool          // those that have said goodbye
	begun   map[service.Incarnation]time.Duration // when the epoch to another began
	forgot  map[service.Incarnation]time.Duration // when another was lost

	presence *simPresence
	ended    map[End]int // emits that were lost with epochs
}

type simEvent struct {
	at   time.Duration
	n    int
	what func()
}

type simEvents []simEvent

func (e simEvents) Len() int { return len(e) }
func (e simEvents) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].n < e[j].n
}
func (e simEvents) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *simEvents) Push(x any)   { *e = append(*e, x.(simEvent)) }
func (e *simEvents) Pop() any {
	x := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return x
}

func (s *sim) say(format string, args ...any) {
	s.log = append(s.log, fmt.Sprintf("%8.3f ", s.now.Seconds())+fmt.Sprintf(format, args...))
	if len(s.log) > 400 {
		s.log = s.log[200:]
	}
}

func (s *sim) fail(format string, args ...any) {
	if s.fault == "" {
		s.fault = fmt.Sprintf("%8.3f ", s.now.Seconds()) + fmt.Sprintf(format, args...)
	}
}

func (s *sim) after(d time.Duration, what func()) {
	s.count++
	heap.Push(&s.events, simEvent{s.now + d, s.count, what})
}

func (s *sim) run(until time.Duration) {
	for s.fault == "" && len(s.events) > 0 && s.events[0].at <= until {
		e := heap.Pop(&s.events).(simEvent)
		s.now = e.at
		e.what()
		if s.count > 5_000_000 {
			s.fail("they talk without end")
		}
	}
	s.now = until
}

func (s *sim) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.Int64N(int64(high-low)))
}

// begin starts a run of a node.
func (s *sim) begin(n *simNode, run uint64) {
	n.id = service.Incarnation{Node: n.id.Node, Run: run}
	n.alive, n.frozen, n.ready, n.inbox = true, false, false, nil
	n.rooms, n.joins, n.heardBy = map[string]bool{}, nil, map[string][]service.Incarnation{}
	n.last, n.trunk, n.runs, n.got = map[service.Incarnation]int{}, map[service.Incarnation][2]uint64{}, map[service.NodeID]uint64{}, map[uint64]int{}
	n.presence, n.facts = newSimPresence(), map[service.Incarnation]uint64{}
	n.ended = map[End]int{}
	n.slept, n.heardAt, n.refuses = 0, map[service.Incarnation]time.Duration{}, map[service.Incarnation]bool{}
	n.begun, n.forgot = map[service.Incarnation]time.Duration{}, map[service.Incarnation]time.Duration{}
	n.terms, n.states, n.gone = map[service.Incarnation]uint64{}, map[service.Incarnation]State{}, map[service.Incarnation]bool{}
	cfg := Config{Self: n.id, Key: s.key, Window: simWindow, MaxFrame: simFrame, Address: "at " + string(n.id.Node)}
	if n.config != nil {
		n.config(&cfg)
	}
	p, err := New(cfg, n)
	if err != nil {
		s.fail("%v", err)
		return
	}
	n.p, n.ticks = p, never
	p.trace = n.traced
	s.say("%s begins as %d", n.id.Node, run)
	p.Start(s.now)
	n.done()
}

// done is called after each call of the node's Peers.
func (n *simNode) done() {
	if id, _ := n.p.Self(); id != n.id { // for the others it is another one
		n.id, n.last = id, map[service.Incarnation]int{}
	}
	n.serve()
	n.feed()
	n.p.Flush(n.now)
	for _, o := range n.p.Take() {
		for _, to := range n.nodes {
			if to != n && (o.To == "" || o.To == to.id.Node) {
				n.move(to, o.Frame)
			}
		}
	}
	for _, m := range n.p.members {
		sum := 0
		for i := range m.out.kept {
			sum += m.out.kept[i].weight
		}
		for i := range m.out.waiting {
			sum += len(m.out.waiting[i].data) + itemWeight
		}
		if m.out.bytes <= simWindow/2 || m.out.stage != outOpen {
			delete(n.refuses, m.Incarnation)
		}
		if m.Term < n.terms[m.Incarnation] {
			n.fail("%s sees %s in term %d after %d", n.id.Node, m.Node, m.Term, n.terms[m.Incarnation])
		}
		n.terms[m.Incarnation] = m.Term
		if sum > simWindow || sum != m.out.bytes {
			n.fail("%s keeps %d bytes for %s, and counts %d", n.id.Node, sum, m.Node, m.out.bytes)
		}
	}
	n.joins = slices.DeleteFunc(n.joins, func(j simJoin) bool {
		before := slices.Clone(j.marks)
		rest := n.p.Unheard(j.marks)
		for _, k := range before {
			if m := n.p.member(k.to.Node); n.rooms[j.room] && !slices.Contains(rest, k) && m != nil && m.Run == k.to.Run && m.State.Reachable() {
				n.heardBy[j.room] = append(n.heardBy[j.room], k.to)
			}
		}
		return len(rest) == 0
	})
	due := n.p.Due()
	if due < n.ticks {
		n.ticks = due
		n.after(max(0, due-n.now), func() { n.tick(due) })
	}
}

func (n *simNode) tick(planned time.Duration) {
	if !n.alive || n.frozen || n.ticks != planned {
		return
	}
	n.ticks = never
	if due := n.p.Due(); due <= n.now {
		n.p.Tick(n.now)
		if n.p.Due() <= n.now {
			n.fail("%s is due again at once", n.id.Node)
		}
	}
	n.done()
}

// move brings a frame to a node, or not.
func (n *simNode) move(to *simNode, frame []byte) {
	n.frames++
	if n.jitter > 0 {
		n.strays = max(n.strays, n.now+n.jitter+time.Second)
	}
	if n.cut[n.place][to.place] || n.Float64() < n.loss {
		return
	}
	from := n.id
	d := n.between(50*time.Microsecond, time.Millisecond)
	if n.jitter > 0 && n.IntN(3) == 0 {
		d += n.between(0, n.jitter)
	} else { // in order with the others of its kind
		at := max(n.now+d, n.order[n.place][to.place]+1)
		n.order[n.place][to.place] = at
		d = at - n.now
		n.after(d, func() {
			if !to.frozen { // what waits, and what comes late, may be no sign of life
				to.heardAt[from] = to.awake()
			}
		})
	}
	n.after(d, func() { to.receive(frame) })
	if n.Float64() < n.repeat {
		n.after(d+n.between(0, 20*time.Second), func() { to.receive(frame) })
	}
}

func (n *simNode) receive(frame []byte) {
	switch {
	case !n.alive:
	case n.frozen:
		n.inbox = append(n.inbox, frame)
	default:
		n.take(frame)
	}
}

// take takes a frame, and looks whether its ack has made half of a full window free: what is told next may fill it
// again.
func (n *simNode) take(frame []byte) {
	type window struct {
		*member
		epoch, base uint64
		bytes       int
		kept        []outFrame
	}
	var full []window
	for _, m := range n.p.members {
		if n.refuses[m.Incarnation] {
			full = append(full, window{m, m.out.epoch, m.out.base, m.out.bytes, slices.Clone(m.out.kept)})
		}
	}
	n.p.Receive(n.now, frame)
	for _, w := range full {
		if w.out.epoch == w.epoch {
			for _, f := range w.kept[:w.out.base-w.base] {
				w.bytes -= f.weight
			}
		}
		if w.out.epoch != w.epoch || w.bytes <= simWindow/2 {
			delete(n.refuses, w.Incarnation)
		}
	}
	n.done()
}

// simDoze is how much of a sleep a node may not notice: until its heartbeat was due, and a heartbeat more.
const simDoze = 2 * time.Second

// awake is how long the run was awake, as it may see it at the most.
func (n *simNode) awake() time.Duration {
	if n.frozen {
		return min(n.now, n.since+simDoze) - n.slept
	}
	return n.now - n.slept
}

func (n *simNode) freeze() { n.frozen, n.since = true, n.now }

func (n *simNode) thaw() {
	if !n.alive || !n.frozen {
		return
	}
	n.say("%s thaws", n.id.Node)
	n.frozen = false
	n.slept += max(0, n.now-n.since-simDoze)
	first := n.IntN(2) == 0
	if first {
		n.p.Tick(n.now)
		n.done()
	}
	for _, frame := range n.inbox {
		n.take(frame)
	}
	n.inbox = nil
	n.p.Tick(n.now)
	n.ticks = never
	n.done()
}

// traced sees each frame with items that is taken.
func (n *simNode) traced(m *member, f *frame) {
	was := n.trunk[m.Incarnation]
	if f.from.Run < n.runs[m.Node] {
		n.fail("T3: %s takes a frame of run %d of %s after one of %d", n.id.Node, f.from.Run, m.Node, n.runs[m.Node])
	}
	if f.to != n.id {
		n.fail("T3: %s takes a frame for run %d", n.id.Node, f.to.Run)
	}
	next := f.epoch == was[0] && f.seq == was[1]+1 || f.epoch > was[0] && f.seq == 1
	if !next {
		n.fail("T1: %s takes frame %d/%d of %s after %d/%d", n.id.Node, f.epoch, f.seq, m.Node, was[0], was[1])
	}
	n.trunk[m.Incarnation], n.runs[m.Node] = [2]uint64{f.epoch, f.seq}, f.from.Run
}

func (n *simNode) Began(m Member) {
	if n.p.member(m.Node).rooms != nil {
		n.fail("%s keeps what %s told in an earlier epoch", n.id.Node, m.Node)
	}
	delete(n.presence.feeds, m.Incarnation)
}

func (n *simNode) Room(Member, int) bool { return n.loss == 0 || n.IntN(50) > 0 }

func (n *simNode) Heard(from Member, it *item) {
	switch {
	case it.news != nil:
		n.hearFact(from, it.news.GetStalls())
		return
	case it.follow != nil:
		n.hearFollow(from, it.follow)
		return
	case it.presence != nil:
		n.hearTold(from, it.presence)
		return
	}
	e := it.emit
	way := simWay{from.Incarnation, n.id}
	list := n.sends[way]
	place, ok := slices.BinarySearchFunc(list, e.Call, func(s simEmit, number uint64) int { return int(int64(s.number) - int64(number)) })
	if !ok {
		n.fail("T1: %s hears %d of %s, which was not sent to it", n.id.Node, e.Call, from.Node)
		return
	}
	last, heard := n.last[from.Incarnation]
	if !heard {
		last = -1
	}
	n.last[from.Incarnation] = place
	if place <= last {
		n.fail("T1: %s hears %d of %s again or late", n.id.Node, e.Call, from.Node)
		return
	}
	for i := last + 1; i < place; i++ {
		if list[i].epoch >= list[place].epoch {
			n.fail("T1: %s hears %d of %s, and not %d before it", n.id.Node, e.Call, from.Node, list[i].number)
		}
	}
	if in := n.p.member(from.Node).in.epoch; in != list[place].epoch {
		n.fail("T1: %s hears %d of %s in epoch %d, not in %d", n.id.Node, e.Call, from.Node, in, list[place].epoch)
	}
	n.got[e.Call]++
}

func (n *simNode) Ended(to Member, why End, lost int) {
	n.say("%s ends its epoch to %s: %d, %d lost", n.id.Node, to.Node, why, lost)
	n.ended[why] += lost
	delete(n.presence.feeds, to.Incarnation)
	if why != EndFull {
		delete(n.sim.facts, simWay{n.id, to.Incarnation})
	}
	if self, _ := n.p.Self(); why == EndOver && self == n.id && n.now > n.strays {
		for _, o := range n.nodes {
			if at, ok := o.forgot[n.id]; o.alive && o.id == to.Incarnation && (!ok || at < n.begun[o.id]) {
				n.fail("T2: %s ends its epoch to %s, which has forgotten nothing", n.id.Node, to.Node)
			}
		}
	}
	n.begun[to.Incarnation] = n.now
}

// tellFacts gives a fact to each trunk that has room.
func (n *simNode) tellFacts() {
	for _, m := range n.p.Members() {
		item := handlerNewsItem(&clusterv1.HandlerNews{News: &clusterv1.HandlerNews_Stalls{Stalls: n.told + 1}})
		if given, _ := n.p.Fact(m.Incarnation, item); given {
			n.told++
			way := simWay{n.id, m.Incarnation}
			n.sim.facts[way] = append(n.sim.facts[way], n.told)
		}
	}
	n.p.Flush(n.now)
}

// hearFact takes a fact, which may come again; but between one and the next that is new, none is missing.
func (n *simNode) hearFact(from Member, number uint64) {
	last := n.facts[from.Incarnation]
	if number <= last {
		return
	}
	n.facts[from.Incarnation] = number
	list := n.sim.facts[simWay{from.Incarnation, n.id}]
	if i, ok := slices.BinarySearch(list, number); ok && i > 0 && list[i-1] > last {
		n.fail("%s hears fact %d of %s after %d, and not %d before it", n.id.Node, number, from.Node, last, list[i-1])
	}
}

func (n *simNode) Changed(m Member) {
	n.seen = append(n.seen, m.State)
	if at, ok := n.heardAt[m.Incarnation]; ok && m.State == Lost && n.awake()-at < 4900*time.Millisecond { // a lease, nearly
		n.fail("T5: %s loses %s, which it has heard %v ago", n.id.Node, m.Node, n.awake()-at)
	}
	n.say("%s: %s/%d is %v, term %d", n.id.Node, m.Node, m.Run, m.State, m.Term)
	was := n.states[m.Incarnation]
	if !m.State.Reachable() {
		n.forgot[m.Incarnation] = n.now
	} else if !was.Reachable() {
		n.begun[m.Incarnation] = n.now
	}
	n.states[m.Incarnation] = m.State
	n.gone[m.Incarnation] = n.gone[m.Incarnation] || was.Reachable() && m.State == Gone // only a goodbye does that
	if n.gone[m.Incarnation] && m.State != Gone || was == Leaving && m.State == Up {
		n.fail("%s: %s is %v after it was %v; it had said goodbye: %t", n.id.Node, m.Node, m.State, was, n.gone[m.Incarnation])
	}
	if !m.State.Reachable() {
		n.losePresence(m)
	}
}

func (n *simNode) Ready() { n.ready = true }

func (n *simNode) Refused(address string) {
	if n.refused != "" {
		if n.refused == "nobody" || n.refused == "" {
			n.refused = address
		}
		return
	}
	// Late frames of the run before may have held the name. Somebody starts it again.
	n.say("%s is refused", n.id.Node)
	n.after(time.Second, func() {
		if n.now > simFaults+simHeals/2 {
			n.fail("%s is refused", n.id.Node)
		}
		n.restart(n)
	})
}

func simRoom(i int) string { return "room" + strconv.Itoa(i) }

// emit publishes an event for a room, and checks that everybody who has confirmed to have it is given it or named.
func (n *simNode) emit(room string, size int) (number uint64) {
	n.emits++
	e := &Emit{Target: service.Target{Namespace: "/", Rooms: []string{room}}, Call: n.emits, Packets: []*service.Packet{{Payload: []byte(`["e","` + strings.Repeat("x", size) + `"]`)}}}
	n.p.tellRooms(n.now)
	added := make([]uint64, len(n.p.members))
	for i, m := range n.p.members {
		added[i] = m.out.added
	}
	to := n.p.Publish(n.now, &e.Target, false, func(uint64) []byte { return AppendEmit(nil, e) })
	unreached := append(to.Missed, to.Silent...)
	reached := slices.Clone(unreached)
	for i, m := range n.p.members {
		if m.out.added != added[i] {
			way := simWay{n.id, m.Incarnation}
			n.sends[way] = append(n.sends[way], simEmit{n.emits, m.out.epoch})
			reached = append(reached, m.Node)
			if n.refuses[m.Incarnation] {
				n.fail("T4: %s gives an emit to %s before half of the window is free", n.id.Node, m.Node)
			}
		} else if m.out.full && m.out.stage == outOpen && slices.Contains(unreached, m.Node) { // the telling of state fills it anew
			n.refuses[m.Incarnation] = true
		}
	}
	for _, o := range n.nodes {
		if o != n && o.alive && slices.Contains(o.heardBy[room], n.id) && !slices.Contains(reached, o.id.Node) {
			n.fail("I2: %s emits to %s, and neither gives it to %s nor names it", n.id.Node, room, o.id.Node)
		}
	}
	return n.emits
}

func (n *simNode) edge(room string) {
	on := !n.rooms[room]
	if n.rooms[room] = on; !on {
		delete(n.rooms, room)
		delete(n.heardBy, room)
		n.joins = slices.DeleteFunc(n.joins, func(j simJoin) bool { return j.room == room })
	}
	n.p.Edge(n.now, "/", room, on)
	if on {
		n.joins = append(n.joins, simJoin{room, n.p.Marks(n.now)})
	}
}

// healed checks what has to be so when all was well for long enough.
func (s *sim) healed() {
	for _, n := range s.nodes {
		if !n.ready {
			s.fail("%s is not ready", n.id.Node)
		}
		if len(n.joins) > 0 {
			s.fail("%s still waits for joins to be heard", n.id.Node)
		}
		if len(n.p.own.list) != len(n.rooms) || len(n.p.own.going) > 0 || len(n.p.own.fresh) > 0 {
			s.fail("%s has %d rooms and tells %d", n.id.Node, len(n.rooms), len(n.p.own.list))
		}
		n.healedPresence()
		if got := n.p.Members(); len(got) != len(s.nodes)-1 {
			s.fail("%s knows %v", n.id.Node, got)
		}
		for _, o := range s.nodes {
			if o == n {
				continue
			}
			m := n.p.member(o.id.Node)
			switch {
			case m == nil || m.State != Up || m.Incarnation != o.id || m.Term != o.p.term:
				s.fail("%s is not up at %s: %+v", o.id.Node, n.id.Node, m)
				return
			case !m.in.told || len(m.in.parts) > 0 || m.in.owed:
				s.fail("%s has not heard all of %s", n.id.Node, m.Node)
			case m.out.bytes != 0 || len(m.out.kept) > 0 || len(m.out.waiting) > 0 || m.out.full || m.out.repairing:
				s.fail("%s has something left for %s", n.id.Node, m.Node)
			case len(m.rooms) != len(o.rooms):
				s.fail("%s knows %d rooms of %s, which has %d", n.id.Node, len(m.rooms), m.Node, len(o.rooms))
			}
			if list := s.facts[simWay{o.id, n.id}]; len(list) > 0 && list[len(list)-1] > n.facts[o.id] {
				s.fail("%s has heard fact %d of %s, and %d was the last", n.id.Node, n.facts[o.id], o.id.Node, list[len(list)-1])
			}
			for room := range o.rooms {
				if _, ok := m.rooms[n.p.keys.room("/", room)]; !ok {
					s.fail("%s does not know %s of %s", n.id.Node, room, m.Node)
				}
			}
		}
	}
}

func newSim(seed uint64) *sim {
	return &sim{Rand: rand.New(rand.NewPCG(seed, 12)), sends: map[simWay][]simEmit{}, facts: map[simWay][]uint64{}}
}

// node makes a node that has not begun.
func (s *sim) node(name service.NodeID) *simNode {
	n := &simNode{sim: s, place: len(s.nodes), id: service.Incarnation{Node: name}, heardAt: map[service.Incarnation]time.Duration{}}
	s.nodes = append(s.nodes, n)
	return n
}
