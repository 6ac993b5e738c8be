package adapter

import (
	"math"
	"slices"
	"time"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// never is a time that does not come.
const never time.Duration = math.MaxInt64

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
	traffic  Traffic        // In, Out and Resent
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
