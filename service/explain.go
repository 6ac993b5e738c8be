package service

import (
	"cmp"
	"context"
	"slices"
)

// EmitVerdict says whether a socket would get an event, or why not.
type EmitVerdict uint8

// The verdicts, with the numbers of the API.
const (
	VerdictReached EmitVerdict = iota + 1
	VerdictNotInRooms
	VerdictExcepted
	VerdictOtherNamespace
	VerdictQueueFull
	VerdictDroppedVolatile
	VerdictClosing
	VerdictNotLocal
	VerdictUnreachable
	VerdictDisconnected
	VerdictUnknown
	VerdictOnPeer
	Verdicts // one more than the last
)

// ExplainRequest describes an emit that is not made, and who is to be explained in particular.
type ExplainRequest struct {
	Target Target
	Socket SocketID // "": nobody
	User   string   // all of this user's, where Socket is empty; "": nobody
	Flags  Flags    // of the emit
	Bytes  int      // of the event
	Most   int      // sockets in Explanation.Sample
	// Most bytes of Explanation.Asked, and of Explanation.Sample. Default: MaxExplainedBytes.
	MaxBytes int
	// The emit is made at another node: a local one is not for sockets here, and one for a single socket here finds a
	// wider bound.
	Abroad bool
}

// Explanation says whom an emit would reach, and why not the others.
type Explanation struct {
	Asked    []Explained
	Nodes    []Reach // with sockets in the namespace
	Sample   []Explained
	Coverage Coverage
}

// Explained is the verdict on one socket.
type Explained struct {
	Socket      SocketInfo
	Verdict     EmitVerdict
	Rooms       []string   // of the target's, those that it is in; sorted
	ExceptRooms []string   // the same of those that are left out
	Link        *LinkState // nil: it is not connected, or nobody knows
	Gone        *Departure // nil: it is not gone
}

// Reach counts the sockets of a namespace at a node.
type Reach struct {
	Node                         NodeID
	Matched, Reached, NearlyFull int
	Verdicts                     [Verdicts]int // the first is of none
}

// Add adds the sockets of another node.
func (r *Reach) Add(o *Reach) {
	r.Matched += o.Matched
	r.Reached += o.Reached
	r.NearlyFull += o.NearlyFull
	for v, n := range o.Verdicts {
		r.Verdicts[v] += n
	}
}

// The bounds of an Explanation.
const (
	MaxExplained      = 100     // sockets of a user
	MaxExplainedBytes = 1 << 20 // of those that were asked for, and of a sample
)

// Bytes estimates what it takes in an answer, rather too much than too little.
func (e *Explained) Bytes() int {
	n := 192 + ViewBasic.Bytes(&e.Socket)
	for _, list := range [][]string{e.Rooms, e.ExceptRooms} {
		for _, room := range list {
			n += len(room) + 3
		}
	}
	if e.Gone != nil {
		n += len(e.Gone.Detail)
	}
	return n
}

// Explain says whom an emit would reach at this moment. It finds the sockets that are meant by the same code as emits.
// Then it looks at each of them, in turns: a socket that has left meanwhile counts no more.
func (n *Node) Explain(_ context.Context, r ExplainRequest) (Explanation, error) {
	x := newExplainer(&r)
	x.node = n
	if ns := n.namespace(r.Target.Namespace); ns != nil {
		x.find(ns)
		x.explain(ns)
	}
	return Explanation{Asked: x.answers(), Nodes: x.nodes, Sample: x.sample.list}, nil
}

func newExplainer(r *ExplainRequest) *explainer {
	if r.MaxBytes == 0 {
		r.MaxBytes = MaxExplainedBytes
	}
	return &explainer{
		r: r, rooms: nameSet(r.Target.Rooms), except: nameSet(r.Target.ExceptRooms), flags: r.Flags, asked: map[*Socket]*Explained{},
		sample: shortlist{most: r.Most, limit: r.MaxBytes},
	}
}

func nameSet(names []string) map[string]struct{} {
	set := make(map[string]struct{}, len(names))
	for _, name := range names {
		set[name] = struct{}{}
	}
	return set
}

// explainer makes one Explanation.
type explainer struct {
	node          *Node
	r             *ExplainRequest
	rooms, except map[string]struct{}    // the names of the target
	asked         map[*Socket]*Explained // nil: not looked at yet
	flags         Flags
	nodes         []Reach
	sample        shortlist
}

// shortlist is a list that is bounded in number and in bytes.
type shortlist struct {
	list  []Explained
	most  int
	bytes int
	limit int // of bytes
}

func (l *shortlist) full() bool { return len(l.list) >= l.most || l.bytes >= l.limit }

// add adds what fits; the first one always does.
func (l *shortlist) add(e *Explained) {
	bytes := e.Bytes()
	if l.full() || l.bytes > 0 && l.bytes+bytes > l.limit {
		return
	}
	l.bytes += bytes
	l.list = append(l.list, *e)
}

// Shortlist is the part of a list of some nodes that an answer has room for: first those that the target means, then
// those that it leaves out, then those in none of its rooms, then those that are gone or not known.
func Shortlist(list []Explained, most int) []Explained {
	slices.SortStableFunc(list, func(a, b Explained) int { return cmp.Compare(a.Verdict.rank(), b.Verdict.rank()) })
	short := shortlist{most: most, limit: MaxExplainedBytes}
	for i := range list {
		short.add(&list[i])
	}
	return short.list
}

func (v EmitVerdict) rank() int {
	switch v {
	case VerdictExcepted:
		return 1
	case VerdictNotInRooms, VerdictOtherNamespace:
		return 2
	case VerdictUnreachable, VerdictDisconnected, VerdictUnknown:
		return 3
	}
	return 0
}

// find finds who is asked for in the namespace of the target.
func (x *explainer) find(ns *Namespace) {
	switch {
	case x.r.Socket != "":
		ns.mu.RLock()
		defer ns.mu.RUnlock()
		if s := ns.sockets[x.r.Socket]; s != nil {
			x.asked[s] = nil
		}
	case x.r.User != "":
		ns.eachInTurns(func(s *Socket) (int, bool) {
			if s.userID == x.r.User {
				x.asked[s] = nil
			}
			return 1, len(x.asked) < MaxExplained
		})
	}
}

// eachInTurns calls do with the sockets in the order of their connects until it says false, with mu held shared, which
// it gives back when the work that was done is a turn's.
func (ns *Namespace) eachInTurns(do func(*Socket) (work int, more bool)) {
	for cursor, more := uint64(0), true; more; {
		ns.mu.RLock()
		i, work := ns.order.from(cursor), 0
		for ; more && i < len(ns.order.entries) && work < turnWork; i++ {
			work++
			if s := ns.order.entries[i].socket; s != nil {
				var took int
				took, more = do(s)
				work += took
			}
		}
		if more = more && i < len(ns.order.entries); more {
			cursor = ns.order.entries[i].seq
		}
		ns.mu.RUnlock()
	}
}

// explain looks at all sockets of the namespace.
func (x *explainer) explain(ns *Namespace) {
	all := x.r.Target
	all.ExceptRooms = nil
	ns.mu.RLock()
	total := len(ns.sockets)
	matched := ns.matchedLocked(&x.r.Target)
	meant := matched
	if len(x.r.Target.ExceptRooms) > 0 {
		meant = ns.matchedLocked(&all)
	}
	ns.mu.RUnlock()
	if total == 0 {
		return
	}
	reach := Reach{Node: x.node.id}
	if x.r.Abroad && len(matched) == 1 {
		x.flags |= Relayed
	}
	inTurns(ns.mu.RLocker(), matched, func(s *Socket) int { return x.lookLocked(s, &reach) })
	reach.Verdicts[VerdictExcepted] = len(meant) - len(matched)
	reach.Verdicts[VerdictNotInRooms] = total - len(meant)
	x.nodes = append(x.nodes, reach)
	if len(meant) > len(matched) {
		inTurns(ns.mu.RLocker(), meant, func(s *Socket) int { return x.leftOutLocked(s, VerdictExcepted) })
	}
	if total > len(meant) && !x.sample.full() {
		ns.eachInTurns(func(s *Socket) (int, bool) { return x.leftOutLocked(s, VerdictNotInRooms), !x.sample.full() })
	}
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	for s, e := range x.asked {
		if e == nil && s.present {
			x.asked[s] = x.explainedLocked(s, VerdictUnknown)
		}
	}
}

// lookLocked judges a socket that the target matches.
func (x *explainer) lookLocked(s *Socket, reach *Reach) (work int) {
	if !s.present {
		return 0
	}
	v, link := x.judge(s)
	reach.Verdicts[v]++
	switch v {
	case VerdictReached:
		reach.Reached++
		if link.NearlyFull() {
			reach.NearlyFull++
		}
		reach.Matched++
	case VerdictQueueFull, VerdictDroppedVolatile:
		reach.Matched++
	}
	_, asked := x.asked[s]
	shown := !x.sample.full() && (v != VerdictReached || link.NearlyFull())
	if !asked && !shown {
		return 0
	}
	e := x.explainedLocked(s, v)
	if asked {
		x.asked[s] = e
	}
	if shown {
		x.sample.add(e)
	}
	return len(s.rooms)
}

// judge is the verdict on a socket that the target matches.
func (x *explainer) judge(s *Socket) (EmitVerdict, LinkState) {
	outcome, link := s.conn.Probe(x.r.Bytes, x.flags)
	if x.r.Target.Local && x.r.Abroad {
		return VerdictNotLocal, link
	}
	return verdictOf[outcome], link
}

var verdictOf = [outcomes]EmitVerdict{
	Queued: VerdictReached, QueuedFlush: VerdictReached, DroppedVolatile: VerdictDroppedVolatile, Full: VerdictQueueFull, Closed: VerdictClosing,
}

// leftOutLocked shows a socket that the target does not match, if it is still so and for this reason.
func (x *explainer) leftOutLocked(s *Socket, why EmitVerdict) (work int) {
	if x.sample.full() || !s.present {
		return 0
	}
	if e := x.explainedLocked(s, VerdictUnknown); e.Verdict == why {
		x.sample.add(e)
	}
	return len(s.rooms)
}

// explainedLocked tells of a socket that is here, with a verdict that is known already, or else the one of its rooms.
func (x *explainer) explainedLocked(s *Socket, known EmitVerdict) *Explained {
	e := &Explained{Socket: *s.infoLocked(), Verdict: known}
	x.name(e)
	v, link := x.judge(s)
	e.Link = &link
	if known == VerdictUnknown {
		e.Verdict = x.byRooms(e, v)
	}
	return e
}

// byRooms is the verdict of a socket's rooms, or the one that is given where they speak for it.
func (x *explainer) byRooms(e *Explained, v EmitVerdict) EmitVerdict {
	switch {
	case !x.r.Target.All && len(e.Rooms) == 0:
		return VerdictNotInRooms
	case len(e.ExceptRooms) > 0:
		return VerdictExcepted
	}
	return v
}

// ExplainPeer explains a socket in the namespace of a target that is at no node of the cluster, of which its rooms are
// known and no more.
func ExplainPeer(t Target, info SocketInfo) Explained {
	x := newExplainer(&ExplainRequest{Target: t})
	e := Explained{Socket: info}
	x.name(&e)
	if e.Verdict = x.byRooms(&e, VerdictOnPeer); e.Verdict == VerdictOnPeer && t.Local {
		e.Verdict = VerdictNotLocal
	}
	return e
}

// name names the rooms of the target that a socket is in.
func (x *explainer) name(e *Explained) {
	of := func(set map[string]struct{}) (list []string) {
		for _, room := range append([]string{string(e.Socket.ID)}, e.Socket.Rooms...) {
			if _, in := set[room]; in {
				list = append(list, room)
			}
		}
		slices.Sort(list)
		return list
	}
	e.Rooms, e.ExceptRooms = of(x.rooms), of(x.except)
}

// answers are the explanations that were asked for, those of sockets that are gone behind the others.
func (x *explainer) answers() []Explained {
	list := shortlist{most: MaxExplained, limit: x.r.MaxBytes}
	for _, e := range x.asked {
		if e != nil {
			list.add(e)
		}
	}
	slices.SortFunc(list.list, func(a, b Explained) int { return a.Socket.ConnectedAt.Compare(b.Socket.ConnectedAt) })
	switch {
	case x.r.Socket != "" && len(list.list) == 0:
		list.add(x.astray())
	case x.r.User != "":
		for _, d := range x.node.departures.ofUser(x.r.Target.Namespace, x.r.User, MaxExplained) {
			list.add(x.gone(d))
		}
	}
	return list.list
}

// astray explains a socket that is not in the target's namespace.
func (x *explainer) astray() *Explained {
	for _, ns := range x.node.all() {
		if ns.name == x.r.Target.Namespace {
			continue
		}
		ns.mu.RLock()
		if s := ns.sockets[x.r.Socket]; s != nil {
			e := x.explainedLocked(s, VerdictOtherNamespace)
			ns.mu.RUnlock()
			e.Rooms, e.ExceptRooms = nil, nil // those of the same name are others
			return e
		}
		ns.mu.RUnlock()
	}
	if d := x.node.departures.last(x.r.Socket); d != nil {
		return x.gone(d)
	}
	return &Explained{Socket: SocketInfo{ID: x.r.Socket}, Verdict: VerdictUnknown}
}

func (x *explainer) gone(d *Departure) *Explained {
	e := &Explained{Socket: d.Socket, Verdict: VerdictDisconnected, Gone: d}
	if d.Socket.Namespace == x.r.Target.Namespace {
		x.name(e)
	}
	return e
}
