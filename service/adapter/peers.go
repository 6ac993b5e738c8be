package adapter

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// never is a time that does not come.
const never time.Duration = math.MaxInt64

// MaxItem is the largest item that a node takes, in bytes.
const MaxItem = 8 << 20

// Config is what Peers need. Zero values mean the default that the field names.
type Config struct {
	Self    service.Incarnation
	Cluster string        // its name; default: foyer
	Key     []byte        // of the cluster; default: none, and everybody can make frames
	Version string        // of Foyer
	Address string        // of the peer listener
	Lease   time.Duration // default: 5 s
	// Window is how many bytes without an ack are kept for a peer. Default: 16 MiB.
	Window int
	// MaxFrame is the largest frame that the bus takes, in bytes. Default: 64 KiB of items and a header.
	MaxFrame int

	wireFrom, wireTo uint64 // for tests; default: those of this build
}

// Validate says all that is wrong with a Config at once.
func (c *Config) Validate() error {
	var errs []error
	if !validName(c.Self.Node) || c.Self.Run == 0 {
		errs = append(errs, fmt.Errorf("node %q, run %d: want 4 characters of A-Z a-z 0-9 - _, and a run", c.Self.Node, c.Self.Run))
	}
	for _, text := range []string{c.Cluster, c.Version, c.Address} {
		if !utf8.ValidString(text) || len(text) > service.MaxNameBytes {
			errs = append(errs, fmt.Errorf("%.20q: want UTF-8 of at most %d bytes", text, service.MaxNameBytes))
		}
	}
	if c.Lease != 0 && c.Lease < 5*repairAfter {
		errs = append(errs, fmt.Errorf("lease %v: want at least %v", c.Lease, 5*repairAfter))
	}
	if c.MaxFrame != 0 && c.MaxFrame < 2*frameOverhead {
		errs = append(errs, fmt.Errorf("frames of %d bytes: want at least %d", c.MaxFrame, 2*frameOverhead))
	}
	if d := c.defaults(); d.Window < 4*min(d.MaxFrame, frameItems) {
		errs = append(errs, fmt.Errorf("window of %d bytes: want at least 4 frames of %d", d.Window, d.MaxFrame))
	}
	return errors.Join(errs...)
}

func (c *Config) defaults() Config {
	d := *c
	if d.Cluster == "" {
		d.Cluster = "foyer"
	}
	if d.Lease == 0 {
		d.Lease = 5 * time.Second
	}
	if d.Window == 0 {
		d.Window = 16 << 20
	}
	if d.MaxFrame == 0 {
		d.MaxFrame = frameItems + frameOverhead + itemHead
	}
	if d.wireTo == 0 {
		d.wireFrom, d.wireTo = wireFrom, wireTo
	}
	return d
}

// Upper is whoever uses Peers. Its methods are called from within those of Peers, of which they must call none but
// Members.
type Upper interface {
	// Began says that a member begins to tell all anew: what it told before is to be dropped.
	Began(from Member)
	// Room says whether there is room for what a frame of a member tells, of so many bytes. Where there is none the frame
	// counts as lost, and comes again.
	Room(from Member, bytes int) bool
	// Heard gets what a member told, in its order.
	Heard(from Member, it *item)
	// Ended says that an epoch of the way to a member has ended, with so many emits that it may not have heard.
	Ended(to Member, why End, lost int)
	// Changed says that a member has come into another state.
	Changed(m Member)
	// Risen says that this node was declared lost, and is back in a term.
	Risen(term uint64)
	// Ready says, once, that this node knows what there is to know and may serve.
	Ready()
	// Refused says that another node has the name of this one, and where its peer listener is, if that is known. Peers are
	// dead from then on.
	Refused(address string)
}

// End says why an epoch ended.
type End uint8

// The ends of an epoch.
const (
	EndLost  End = iota // the member is lost, gone or another run
	EndOver             // the member has forgotten what it was told, or has declared this node lost
	EndFull             // news found no room in the window
	EndStuck            // the member is there, and has heard nothing of what was sent again and again
)

// Drop is a reason for which a frame has no effect.
type Drop uint8

// The reasons; 0 is none.
const (
	DropUnreadable Drop = iota + 1 // it is cut, or has what nothing reads
	DropVersion                    // it is of a version that this node does not speak
	DropCheck                      // its check is missing or of another key
	DropForeign                    // it is for another node
	DropCluster                    // it is of another cluster
	DropUnknown                    // its sender has not said hello
	DropHeld                       // its sender wants a name that another run holds
	DropRun                        // it is of an earlier run, or for one
	DropTerm                       // it is of a member that has not heard yet that it was lost
	DropEpoch                      // it is of an earlier epoch
	DropRepeated                   // it was heard before
	DropGap                        // one before it is missing
	DropBusy                       // this node has not got through what came before
	drops
)

var dropWords = [drops]string{
	"", "unreadable", "version", "check", "foreign", "cluster", "unknown", "held", "run", "term", "epoch", "repeated", "gap", "busy",
}

func (d Drop) String() string { return dropWords[d] }

// Outgoing is a frame for the bus.
type Outgoing struct {
	To    service.NodeID // "": all
	Frame []byte
}

// Peers are the other nodes as one node sees them: members, the trunks to them, and what they have sockets for. They do
// no IO, know no clock and start nothing: time and frames come in by methods, frames go out by Take, and what is heard
// by Upper. All times are since one beginning. Not safe for concurrent use.
type Peers struct {
	cfg     Config
	maxItem int // of one in a frame
	keys    *keys
	upper   Upper

	self    service.Incarnation
	term    uint64
	stage   clusterv1.Stage
	over    bool // another node has the name
	hellos  uint64
	epochs  uint64    // of all trunks: so one that was forgotten begins with a later one
	members []*member // by name; those that are gone are remembered
	own     ownRooms
	follows follows

	began, started time.Duration
	beatAt         time.Duration // the next heartbeat
	ticked         time.Duration
	held           bool // an earlier run of this node's name is still believed to live
	heldAt         time.Duration

	outbox   []Outgoing
	frames   []byte         // of the outbox; used again
	hashes   []uint64       // of a target; used again
	foreseen map[uint64]int // rooms that others may have sockets in before they tell so, and how many calls say so
	dropped  [drops]uint64
	skipped  [skips]uint64
	tellers  []teller                  // of the state beside rooms; set before Start
	trace    func(m *member, f *frame) // for tests; nil: nobody looks
}

// New makes Peers that know nobody. Start lets them begin.
func New(cfg Config, upper Upper) (*Peers, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.defaults()
	keys := newKeys(cfg.Key)
	keys.wireFrom, keys.wireTo = cfg.wireFrom, cfg.wireTo
	return &Peers{
		cfg: cfg, maxItem: cfg.MaxFrame - frameOverhead - itemHead, keys: keys, upper: upper, self: cfg.Self,
		stage: clusterv1.Stage_STAGE_JOINING,
	}, nil
}

// Start says hello. The bus is up then.
func (p *Peers) Start(now time.Duration) {
	p.began, p.started, p.ticked = now, now, now
	p.beat(now)
}

// Self is this node, whose run may become a later one until Ready; and its term.
func (p *Peers) Self() (service.Incarnation, uint64) { return p.self, p.term }

// Take returns what is to be sent, in order. It is the caller's.
func (p *Peers) Take() []Outgoing {
	o := p.outbox
	p.outbox = nil
	return o
}

// Sent gives back what Take has returned, if nothing more was to be sent meanwhile: the memory is used again.
func (p *Peers) Sent(list []Outgoing) {
	if p.outbox != nil || cap(list) > maxSpare || cap(p.frames) > MinFrame {
		p.frames = nil
		return
	}
	clear(list)
	p.outbox, p.frames = list[:0], p.frames[:0]
}

// Members are the others by name, without those that are gone.
func (p *Peers) Members() []Member {
	list := make([]Member, 0, len(p.members))
	for _, m := range p.members {
		if m.State != Gone {
			list = append(list, m.Member)
		}
	}
	return list
}

// Dropped is how many frames had no effect for a reason.
func (p *Peers) Dropped(d Drop) uint64 { return p.dropped[d] }

// Skipped is how many items had no effect, or not all of it, for a reason.
func (p *Peers) Skipped(s Skip) uint64 { return p.skipped[s] }

// Receive takes a frame from the bus, which is the caller's again when it returns.
func (p *Peers) Receive(now time.Duration, b []byte) {
	if p.over {
		return
	}
	p.wake(now) // what waited may come before the late Tick, and may move the next heartbeat
	f, drop := p.keys.readFrame(b)
	switch {
	case drop != 0:
	case f.to.Node != "" && f.to.Node != p.self.Node:
		drop = DropForeign
	case f.hello != nil:
		drop = p.hearHello(&f, now)
	default:
		drop = p.hearFrame(&f, now)
	}
	if drop != 0 {
		p.dropped[drop]++
	}
	p.tickReady(now)
	p.Flush(now)
}

// hearFrame takes a frame of a trunk.
func (p *Peers) hearFrame(f *frame, now time.Duration) Drop {
	m := p.member(f.from.Node)
	switch {
	case m == nil || f.from.Run > m.Run || m.State == Hearsay:
		return DropUnknown
	case f.from.Run < m.Run || m.State == Gone:
		return DropRun
	case m.lost:
		return DropTerm
	case !m.State.Reachable() || f.version != m.wire:
		return DropVersion
	case f.to.Run != p.self.Run: // a sign of life and nothing else
		m.heard = now
		p.settle(m, now)
		return DropRun
	}
	mine := func() bool { return f.ackEpoch == m.out.epoch && m.out.stage != outClosed }
	if mine() && f.ack > m.out.sent {
		return DropUnreadable
	}
	var drop Drop
	if f.seq != 0 {
		if drop = p.hearItems(m, f, now); drop == DropUnreadable {
			return drop
		}
	}
	switch {
	case !mine(): // what was heard may have ended the epoch that the ack is of
	case f.over:
		p.reopen(m, EndOver, now)
	default:
		m.out.acked(f.ack, f.asks && f.seq == 0, now)
	}
	m.heard = now
	m.out.wait = min(m.out.wait, repairAfter) // it is heard: what it lacks need not wait long
	p.settle(m, now)
	return drop
}

func (p *Peers) hearItems(m *member, f *frame, now time.Duration) Drop {
	if !p.upper.Room(m.Member, f.bytes) {
		return DropBusy
	}
	items, began, drop := m.in.hear(f, now)
	if drop != 0 {
		return drop
	}
	if p.trace != nil {
		p.trace(m, f)
	}
	if began {
		m.rooms = nil
		p.upper.Began(m.Member)
		p.followAgain(m, now)
		if m.out.base > 0 && f.ackEpoch != m.out.epoch {
			// It begins anew and has forgotten what it acked: it had declared this node lost.
			p.reopen(m, EndOver, now)
		}
	}
	for i := range items {
		if why := items[i].skipped; why != 0 {
			p.skipped[why]++
		}
		switch it := &items[i]; {
		case it.empty():
		case it.interest != nil:
			if m.rooms == nil {
				m.rooms = theirRooms{}
			}
			m.rooms.hear(it.interest)
		case it.open, it.told, it.presence != nil && !p.hearPresence(m, it.presence, now):
		default:
			p.upper.Heard(m.Member, it)
		}
	}
	return 0
}

// Tick does what time asks for. It is to be called at Due, and may be at any time.
func (p *Peers) Tick(now time.Duration) {
	if p.over {
		return
	}
	p.wake(now)
	p.ticked = now
	p.tickMembers(now)
	p.tickReady(now)
	if p.beatAt <= now {
		p.beat(now)
	}
	for _, m := range p.members {
		if m.State.Reachable() && m.State != Silent && m.out.stuck(now, stuckLeases*p.cfg.Lease) {
			p.reopen(m, EndStuck, now)
		}
		m.out.tick(now)
		m.in.tick(now)
	}
	p.Flush(now)
}

// Due says when Tick is to be called next, at the latest.
func (p *Peers) Due() time.Duration {
	if p.over {
		return never
	}
	due := min(p.beatAt, p.own.due())
	at := func(t time.Duration) {
		if t > p.ticked {
			due = min(due, t)
		}
	}
	if p.stage == clusterv1.Stage_STAGE_JOINING {
		at(p.started + aloneAfter)
		at(p.started + readyAfter)
	}
	for _, m := range p.members {
		switch {
		case m.State.Reachable():
			due = min(due, m.out.due(), m.in.due())
			at(m.heard + 2*p.beatEvery())
			at(m.heard + p.cfg.Lease)
		case m.State == Lost:
			at(m.since + lostKept)
		}
	}
	return due
}

// Edge says that a room has got its first socket here or has lost its last one; "" is the namespace. It is told at the
// next Flush.
func (p *Peers) Edge(now time.Duration, namespace, room string, on bool) {
	p.own.edge(p.keys.room(namespace, room), on, now)
}

// Flush sends what waits.
func (p *Peers) Flush(now time.Duration) {
	if p.over {
		return
	}
	p.tellRooms(now)
	for _, m := range p.members {
		if m.State.Reachable() {
			p.pump(m, now)
		}
	}
}

// tellRooms tells all what has changed among the rooms of this node.
func (p *Peers) tellRooms(now time.Duration) {
	news := p.own.news(now)
	if news == nil {
		return
	}
	for len(news.plus)+len(news.minus) > 0 {
		plus := news.plus[:min(tellRooms, len(news.plus))]
		minus := news.minus[:min(tellRooms, len(news.minus))]
		news.plus, news.minus = news.plus[len(plus):], news.minus[len(minus):]
		item := interestItem(&interest{plus, minus})
		for _, m := range p.members {
			if m.State.Reachable() {
				p.news(m, item, now)
			}
		}
	}
}

// news gives a member what it has to hear. Where that finds no room the epoch ends, and the next one tells all.
func (p *Peers) news(m *member, item []byte, now time.Duration) {
	if !m.out.news(item) {
		p.reopen(m, EndFull, now)
		m.out.full = true
	}
}

// teller returns the next piece of a part of the state, as an item, and what is left then, which is what it is called
// with again; it is called with -1 first. No item: that was all.
type teller func(left int) (item []byte, rest int)

// tellState returns the next piece of what a new epoch tells; nil: that was all.
func (p *Peers) tellState(o *out) []byte {
	if o.part == 0 {
		rooms, left := p.own.tell(o.cursor, min(tellRooms, (p.maxItem-partOverhead)/8))
		if o.cursor = left; len(rooms) > 0 {
			return interestItem(&interest{plus: rooms})
		}
		o.part, o.cursor = 1, -1
	}
	if o.part == 1 {
		if item := p.tellFollow(o.to); item != nil {
			return item
		}
		o.part, o.cursor = 2, -1
	}
	for ; o.part-2 < len(p.tellers); o.part, o.cursor = o.part+1, -1 {
		var item []byte
		if item, o.cursor = p.tellers[o.part-2](o.cursor); item != nil {
			return item
		}
	}
	return nil
}

// Tell tells one node, or with "" all, what it has to hear, and is lost only with what the node knows at all: what finds
// no room ends the epoch, with its emits, and is told in the next one. False: one was asked for, and is not there.
func (p *Peers) Tell(now time.Duration, to service.NodeID, item []byte) (told bool) {
	for _, m := range p.members {
		if !m.State.Reachable() || to != "" && to != m.Node || len(item) == 0 || len(item) > MaxItem {
			continue
		}
		told = m.out.fact(item)
		if !told {
			p.reopen(m, EndFull, now)
			m.out.full = true
			told = m.out.fact(item)
		}
	}
	return told
}

// Fact gives an item that outlives an epoch which ends for want of room to the trunk of a run of a node. It says whether
// there was room, and whether that run is there at all.
func (p *Peers) Fact(to service.Incarnation, item []byte) (given, there bool) {
	m := p.member(to.Node)
	there = m != nil && m.Run == to.Run && m.State.Reachable()
	return there && len(item) <= MaxItem && m.out.fact(item), there
}

// pump sends what a trunk has to send: frames with items, each of which takes an ack along, or an answer alone.
func (p *Peers) pump(m *member, now time.Duration) {
	if a := m.in.answer; a.asks || a.over {
		h := p.header(m)
		if h.asks = a.asks; a.over {
			h.over, h.ackEpoch, h.ack = true, a.epoch, 0
		}
		p.frame(m, &h, nil, 0)
		m.in.answer = answer{}
	}
	for {
		f, seq, prompt := m.out.next(now, p.tellState)
		if f == nil {
			break
		}
		h := p.header(m)
		h.seq, h.last, h.asks = seq, m.out.sent, prompt
		p.frame(m, &h, f.items, f.weight)
		m.in.answer = answer{}
	}
	if m.in.answer.due {
		h := p.header(m)
		p.frame(m, &h, nil, 0)
		m.in.answer = answer{}
	}
}

// header is that of a frame for a member, with the ack.
func (p *Peers) header(m *member) header {
	h := header{version: m.wire, from: p.self, to: m.Incarnation}
	if m.out.stage != outClosed {
		h.epoch, h.last = m.out.epoch, m.out.sent
	}
	m.in.ack(&h)
	return h
}

// frame sends a frame with items, which are no longer than their weight.
func (p *Peers) frame(m *member, h *header, items [][]byte, weight int) {
	size, from := weight+frameOverhead, len(p.frames)
	if cap(p.frames)-from < size {
		p.frames, from = make([]byte, 0, max(size, 4<<10)), 0
	}
	frame := p.keys.appendFrame(p.frames[from:from:from+size], h, items)
	p.frames = p.frames[:from+len(frame)]
	p.send(m.Node, frame)
}

func (p *Peers) send(to service.NodeID, frame []byte) {
	p.outbox = append(p.outbox, Outgoing{to, frame})
}

func (p *Peers) openEpoch(m *member, now time.Duration) {
	p.epochs++
	m.out.open(p.epochs, now)
}

// reopen begins another epoch, if there is one.
func (p *Peers) reopen(m *member, why End, now time.Duration) {
	if m.out.stage != outClosed {
		p.endEpoch(m, why)
		p.openEpoch(m, now)
	}
}

func (p *Peers) endEpoch(m *member, why End) {
	if m.out.stage != outClosed {
		p.upper.Ended(m.Member, why, m.out.close(why == EndFull))
	}
}

// Mark is a place on the way to a member, up to which it is to hear.
type Mark struct {
	to     service.Incarnation
	number uint64
}

// Marks are the places, one a member that can be reached, which are heard when all news up to now is.
func (p *Peers) Marks(now time.Duration) []Mark {
	p.tellRooms(now)
	var marks []Mark
	for _, m := range p.members {
		if m.State.Reachable() {
			marks = append(marks, Mark{m.Incarnation, m.out.mark()})
		}
	}
	return marks
}

// Unheard are those of the marks that are not heard yet and still can be. What has been said of a member that is lost
// or gone is said by its state.
func (p *Peers) Unheard(marks []Mark) []Mark {
	return slices.DeleteFunc(marks, func(k Mark) bool {
		m := p.member(k.to.Node)
		return m == nil || m.Run != k.to.Run || !m.State.Reachable() || m.out.heard >= k.number
	})
}

// Leave tells the others that this node is about to go.
func (p *Peers) Leave(now time.Duration) {
	if p.over {
		return
	}
	p.stage = clusterv1.Stage_STAGE_LEAVING
	p.beat(now)
}

// Goodbye tells the others that this node is gone. It is dead from then on. What its trunks hold is to be heard before.
func (p *Peers) Goodbye(now time.Duration) {
	if p.over {
		return
	}
	p.stage = clusterv1.Stage_STAGE_GONE
	p.beat(now)
	p.over = true
}

// Idle says whether no trunk holds anything that has not been heard.
func (p *Peers) Idle() bool {
	return p.over || !slices.ContainsFunc(p.members, func(m *member) bool { return m.State.Reachable() && m.out.bytes > 0 })
}
