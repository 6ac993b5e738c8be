package service

import "time"

// stallAfter is how long a handler may leave all that it owes without an answer, or all that it is told untaken, before
// new sockets go to others.
const stallAfter = 5 * time.Second

// pace tells whether a handler makes progress. The hot path counts; when it is looked at, and when something new comes,
// the counts say since when nothing has moved. Handler.mu guards it.
type pace struct {
	takes, answers         uint64
	seenTakes, seenAnswers uint64
	takenAt, answeredAt    time.Time // the last looks at which they had moved, or nothing was owed
}

// look notes what has moved until now.
func (p *pace) look(now time.Time, h *Handler) {
	if p.answers != p.seenAnswers || len(h.inFlight)+h.openConnects == 0 {
		p.seenAnswers, p.answeredAt = p.answers, now
	}
	if p.takes != p.seenTakes || h.out.len() == h.gaps {
		p.seenTakes, p.takenAt = p.takes, now
	}
}

// progress is for how long a handler has taken and answered nothing of what it should.
func (h *Handler) progress(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pace.look(now, h)
	return h.pace.stalled(now)
}

func (p *pace) stalled(now time.Time) time.Duration {
	return max(now.Sub(p.takenAt), now.Sub(p.answeredAt))
}

// fitness says how apt a handler is for new work.
type fitness uint8

const (
	unfit   fitness = iota // it has ended, or has too much before it
	stalled                // it makes no progress, its queue is over half, or its node is silent or about to go
	well
)

func (h *Handler) fitness(now time.Time) fitness {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.open || h.full {
		return unfit
	}
	h.pace.look(now, h)
	cfg := &h.node.cfg
	if h.avoided || h.pace.stalled(now) >= stallAfter || h.waiting > cfg.MaxHandlerQueue/2 || h.waitSize > cfg.MaxHandlerQueueBytes/2 {
		return stalled
	}
	return well
}

// pick is the handler of a group for a new socket: among those that make progress one that is here before others, and
// the one with the fewest sockets; one that stalls only when all do; nil when there is none.
func (g *group) pick(now time.Time) *Handler {
	var best *Handler
	how := unfit
	for _, h := range g.members.Load().handlers {
		f := h.fitness(now)
		if f > how || f == how && f != unfit && h.before(best) {
			best, how = h, f
		}
	}
	return best
}

func (h *Handler) before(o *Handler) bool {
	if near := h.at == ""; near != (o.at == "") {
		return near
	}
	return h.sockets.Load() < o.sockets.Load()
}

// healthy says whether a handler other than h makes progress in the group.
func (g *group) healthy(h *Handler, now time.Time) bool {
	for _, o := range g.members.Load().handlers {
		if o != h && o.fitness(now) == well {
			return true
		}
	}
	return false
}
