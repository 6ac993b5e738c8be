package adapter

import (
	"slices"
	"time"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// The times of membership that are no part of the lease.
const (
	lostKept   = 60 * time.Second       // how long a lost node is named
	aloneAfter = 100 * time.Millisecond // how long a node waits for an answer of anybody
	readyAfter = 2 * time.Second        // how long it waits for those that answered
)

// maxGone is how many runs that are over are remembered, so that late frames of them have no effect.
const maxGone = 1024

// State is how a member is, as this node sees it.
type State uint8

// The states of a member.
const (
	Hearsay      State = iota // another one knows it, and this node has not heard it
	Joining                   // one of the two has not told the other all yet
	Up                        // both have told all
	Silent                    // not heard for two heartbeats
	Leaving                   // it goes: nothing new is given to it
	Incompatible              // no version of the wire is common
	Lost                      // not heard for a lease
	Gone                      // it said goodbye, or was lost a minute ago: it is no member any more
)

var stateWords = [...]string{"hearsay", "joining", "up", "silent", "leaving", "incompatible", "lost", "gone"}

func (s State) String() string { return stateWords[s] }

// Reachable says whether a trunk leads to the member.
func (s State) Reachable() bool { return s == Joining || s == Up || s == Silent || s == Leaving }

// Member is a node as this one sees it.
type Member struct {
	service.Incarnation
	State   State
	Term    uint64
	Version string // of Foyer
	Address string // of its peer listener
}

// member is a peer, and the trunk to it.
type member struct {
	Member
	out     out
	in      in
	rooms   theirRooms
	follows map[string]*following // by namespace
	wire    uint64                // the version that both speak
	count   uint64                // of its last hello
	heard   time.Duration
	since   time.Duration // it is lost, or known by hearsay
	turned  time.Duration // it came into its state
	goes    bool          // it said that it is leaving
	bye     bool          // it said goodbye: this run does not come back
	lost    bool          // it was declared lost, and has not come back under a higher term
	whole   bool          // both directions were told all since it joined
}

// find returns the place of a name among the members.
func (p *Peers) find(name service.NodeID) (int, bool) {
	return slices.BinarySearchFunc(p.members, name, func(m *member, name service.NodeID) int {
		switch {
		case m.Node < name:
			return -1
		case m.Node > name:
			return 1
		}
		return 0
	})
}

func (p *Peers) member(name service.NodeID) *member {
	if i, ok := p.find(name); ok {
		return p.members[i]
	}
	return nil
}

// meet makes a member of a name that there is none of, or one anew of a later run.
func (p *Peers) meet(of service.Incarnation, state State, now time.Duration) *member {
	m := &member{Member: Member{Incarnation: of, State: state}, heard: now, since: now, turned: now}
	m.out = out{window: p.cfg.Window, maxItem: p.maxItem, to: m}
	m.in = in{asked: now - repairAfter}
	i, ok := p.find(of.Node)
	if ok {
		p.members[i] = m
	} else {
		p.members = slices.Insert(p.members, i, m)
		p.forget()
	}
	return m
}

// forget drops the first run that is over when too many are remembered.
func (p *Peers) forget() {
	oldest, n := -1, 0
	for i, m := range p.members {
		if m.State == Gone {
			if n++; oldest < 0 || m.since < p.members[oldest].since {
				oldest = i
			}
		}
	}
	if n > maxGone {
		p.members = slices.Delete(p.members, oldest, oldest+1)
	}
}

// hello is what this node says of itself, and whom it knows; to one that it remembers, also how.
func (p *Peers) hello(to service.NodeID) *clusterv1.Hello {
	p.hellos++
	h := &clusterv1.Hello{
		Cluster: p.cfg.Cluster, Count: p.hellos, WireFrom: uint32(p.cfg.wireFrom), WireTo: uint32(p.cfg.wireTo), Version: p.cfg.Version, Address: p.cfg.Address,
		Term: p.term, Stage: p.stage,
	}
	for _, m := range p.members {
		known := m.State.Reachable() || m.State == Lost || m.State == Incompatible || m.Node == to && (m.State == Gone || m.lost)
		if known && len(h.Members) < maxKnown {
			h.Members = append(h.Members, &clusterv1.Known{Name: string(m.Node), Run: m.Run, Lost: m.lost || m.State == Gone, Term: m.Term})
		}
	}
	return h
}

// beat says hello to all.
func (p *Peers) beat(now time.Duration) {
	p.beatAt = now + p.beatEvery()
	p.send("", p.keys.helloFrame(&header{from: p.self}, p.hello("")), 0)
}

// greet answers the hello of one, which is not to wait for the next heartbeat.
func (p *Peers) greet(name service.NodeID) {
	p.send(name, p.keys.helloFrame(&header{from: p.self, to: service.Incarnation{Node: name}}, p.hello(name)), 0)
}

func (p *Peers) beatEvery() time.Duration { return p.cfg.Lease / 5 }

// hearHello takes a hello.
func (p *Peers) hearHello(f *frame, now time.Duration) Drop {
	h := f.hello
	if h.GetCluster() != p.cfg.Cluster {
		return DropCluster
	}
	if f.from.Node == p.self.Node {
		p.hearNamesake(f, now)
		return 0
	}
	m := p.member(f.from.Node)
	switch {
	case m == nil:
	case f.from.Run < m.Run || f.from.Run == m.Run && m.bye:
		p.hearMembers(h, true, now) // both may have to hear it, and neither take the other's word for more
		if f.to.Node == "" {        // it slept, or its clock went back: it has to hear that there was a later run
			p.greet(f.from.Node)
		}
		return DropRun
	case f.from.Run > m.Run && (m.State.Reachable() || m.State == Incompatible):
		// The name is held until its lease is over. A node that wants the name has to hear so. But each may hold the other's
		// name, so an answer is not answered.
		if f.to.Node == "" {
			p.greet(f.from.Node)
		}
		return DropHeld
	case f.from.Run > m.Run:
		p.change(m, Gone, now)
		m = nil
	case h.GetCount() <= m.count:
		return DropRepeated
	case m.lost && h.GetTerm() <= m.Term && h.GetStage() != clusterv1.Stage_STAGE_GONE:
		m.count = h.GetCount()
		p.hearMembers(h, true, now) // each may have lost the other
		if f.to.Node == "" {        // an answer is not answered
			p.greet(m.Node) // it has to hear that it was declared lost
		}
		return DropTerm
	}
	if h.GetStage() == clusterv1.Stage_STAGE_GONE {
		if m == nil {
			m = p.meet(f.from, Gone, now)
		}
		m.bye = true
		p.change(m, Gone, now)
		return 0
	}
	news := m == nil || !m.State.Reachable()
	if m == nil {
		m = p.meet(f.from, Hearsay, now)
	}
	m.count, m.heard, m.Term, m.lost = h.GetCount(), now, h.GetTerm(), false
	m.Version, m.Address, m.goes = h.GetVersion(), h.GetAddress(), h.GetStage() == clusterv1.Stage_STAGE_LEAVING
	m.wire = min(p.cfg.wireTo, uint64(h.GetWireTo()))
	if m.wire < max(p.cfg.wireFrom, uint64(h.GetWireFrom())) {
		p.change(m, Incompatible, now)
		return 0
	}
	if news {
		p.change(m, Joining, now)
	}
	if (news || h.GetStage() == clusterv1.Stage_STAGE_JOINING) && f.to.Node == "" {
		p.greet(m.Node)
	}
	p.hearMembers(h, false, now)
	p.settle(m, now)
	return 0
}

// hearMembers takes what a member says of others, and of this node, or of this node alone.
func (p *Peers) hearMembers(h *clusterv1.Hello, alone bool, now time.Duration) {
	for _, k := range h.GetMembers() {
		of := service.Incarnation{Node: service.NodeID(k.GetName()), Run: k.GetRun()}
		switch m := p.member(of.Node); {
		case of.Node == p.self.Node:
			p.hearSelf(of.Run, k, now)
		case alone || k.GetLost():
		case m == nil || of.Run > m.Run && (m.State == Hearsay || m.State == Gone):
			p.upper.Changed(p.meet(of, Hearsay, now).Member)
		case of.Run == m.Run && m.State == Gone && !m.bye:
			m.since = now
			p.change(m, Hearsay, now)
		case of.Run == m.Run && m.State == Hearsay:
			m.since = now
		}
	}
}

// hearSelf takes what another one says of this node, or of an earlier run of its name.
func (p *Peers) hearSelf(run uint64, k *clusterv1.Known, now time.Duration) {
	switch {
	case run == p.self.Run:
		if k.GetLost() && k.GetTerm() >= p.term {
			p.term = k.GetTerm() + 1
			p.upper.Risen(p.term)
			p.beat(now)
		}
	case p.stage != clusterv1.Stage_STAGE_JOINING:
		if run > p.self.Run { // this one slept, and another run has taken its place; or its clock went back, and nobody told it in time
			p.refuse("")
		}
	case !k.GetLost():
		p.heldAt, p.held = now, true
	case run > p.self.Run: // a clock that went back
		p.self.Run = run + 1 + p.cfg.Self.Run&(1<<20-1) // what is chance in it: another run may have done the same
		p.began, p.started, p.held = now, now, false    // to those that know the first number it is another run
		for _, m := range p.members {
			p.reopen(m, EndOver, now)
		}
	}
}

// hearNamesake takes the hello of another run of this node's name.
func (p *Peers) hearNamesake(f *frame, now time.Duration) {
	stage := f.hello.GetStage()
	joins := stage == clusterv1.Stage_STAGE_JOINING
	mine := p.stage == clusterv1.Stage_STAGE_JOINING
	switch {
	case f.from.Run == p.self.Run || stage == clusterv1.Stage_STAGE_GONE:
	case mine && (!joins || f.from.Run < p.self.Run):
		// It was there before. It lives if it has heard of this run; else this may be an old frame.
		p.held, p.heldAt = true, now
		if slices.ContainsFunc(f.hello.GetMembers(), func(k *clusterv1.Known) bool {
			return k.GetName() == string(p.self.Node) && k.GetRun() == p.self.Run
		}) {
			p.refuse(f.hello.GetAddress())
		}
	case joins: // it has to hear that the name is held
		h := p.hello(p.self.Node)
		h.Members = append(h.Members, &clusterv1.Known{Name: string(p.self.Node), Run: f.from.Run})
		p.send(p.self.Node, p.keys.helloFrame(&header{from: p.self, to: service.Incarnation{Node: p.self.Node}}, h), 0)
	case f.from.Run > p.self.Run: // this one slept, and another run has taken its place
		p.refuse(f.hello.GetAddress())
	}
}

// refuse ends this node: another one has its name.
func (p *Peers) refuse(address string) {
	if p.over { // one frame may say so more than once
		return
	}
	p.over, p.outbox = true, nil
	p.upper.Refused(address)
}

// change gives a member another state, and does what follows from it.
func (p *Peers) change(m *member, to State, now time.Duration) {
	if m.State == to {
		return
	}
	had := m.State.Reachable()
	m.State, m.turned = to, now
	switch {
	case had && !to.Reachable():
		p.endEpoch(m, EndLost)
		m.in.close()
		m.rooms, m.follows, m.whole = nil, nil, false
	case !had && to.Reachable():
		p.openEpoch(m, now)
	}
	if to == Lost || to == Gone {
		m.since = now
	}
	m.lost = m.lost || to == Lost
	p.upper.Changed(m.Member)
}

// settle gives a member that is reachable the state that follows from what was heard of it.
func (p *Peers) settle(m *member, now time.Duration) {
	if !m.State.Reachable() {
		return
	}
	m.whole = m.whole || m.in.told && m.out.told != 0 && m.out.heard >= m.out.told
	switch quiet := now - m.heard; {
	case quiet >= p.cfg.Lease:
		p.change(m, Lost, now)
	case quiet >= 2*p.beatEvery():
		p.change(m, Silent, now)
	case !m.whole:
		p.change(m, Joining, now)
	case m.goes:
		p.change(m, Leaving, now)
	default:
		p.change(m, Up, now)
	}
}

// wake gives the others time on their leases when this node has slept, so that its heartbeat is late: they may have
// spoken (T5).
func (p *Peers) wake(now time.Duration) {
	late := now - p.beatAt
	if late <= p.beatEvery() {
		return
	}
	p.beatAt = now
	for _, m := range p.members {
		m.heard, m.out.stuckFrom = min(now, m.heard+late), min(now, m.out.stuckFrom+late)
		if m.State == Hearsay {
			m.since = min(now, m.since+late)
		}
	}
}

// tickMembers looks for what time alone changes.
func (p *Peers) tickMembers(now time.Duration) {
	for i := 0; i < len(p.members); i++ {
		m := p.members[i]
		switch {
		case m.State == Lost && now-m.since >= lostKept:
			p.change(m, Gone, now)
		case m.State == Incompatible && now-m.heard >= p.cfg.Lease:
			p.change(m, Gone, now)
		case m.State == Hearsay && now-m.since >= p.cfg.Lease:
			p.change(m, Gone, now)
			if m.count == 0 { // nothing was heard of it that could come late
				p.members = slices.Delete(p.members, i, i+1)
				i--
			}
		default:
			p.settle(m, now)
		}
	}
}

// tickReady makes this node one that serves, when it knows all or has waited long enough.
func (p *Peers) tickReady(now time.Duration) {
	if p.stage != clusterv1.Stage_STAGE_JOINING {
		return
	}
	if p.held && now-p.heldAt < 2*p.beatEvery() {
		// A node that died has lost its lease by then.
		if now-p.began >= 2*p.cfg.Lease {
			p.refuse("")
		}
		p.started = now
		return
	}
	waits := now-p.started < aloneAfter
	for _, m := range p.members {
		waits = waits || m.State == Joining || m.State == Hearsay
	}
	if waits && now-p.started < readyAfter {
		return
	}
	p.stage = clusterv1.Stage_STAGE_UP
	p.beat(now)
	p.upper.Ready()
}
