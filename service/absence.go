package service

import (
	"fmt"
	"time"

	"go.uber.org/zap"
)

// absenceAfter is how long connects wait before the log tells that nobody is there to decide them: a handler that
// restarts is back by then. It tells so again every absenceEvery while there are any.
const (
	absenceAfter = time.Second
	absenceEvery = 10 * time.Second
)

// noticeWaitLocked begins to look after the connects that wait for a handler to come, in a namespace that is known.
func (cs *connects) noticeWaitLocked() {
	if cs.absence == nil && !cs.closed {
		cs.absence = time.AfterFunc(absenceAfter, cs.tellAbsence)
	}
}

// tellAbsence tells the log that nobody is there to decide connects: in which namespace, how many wait, and since when.
// Of many namespaces it is the one where most wait, as clients can ask for any number of names that a pattern covers.
func (cs *connects) tellAbsence() {
	cs.mu.Lock()
	waiting := map[string]int{}
	name, address := "", ""
	for e := cs.waiting.Front(); e != nil; e = e.Next() {
		p := e.Value.(*pending)
		if p.socket == nil { // for what nobody knows: it is told when its time is over
			continue
		}
		ns := p.socket.ns.name
		if waiting[ns]++; waiting[ns] > waiting[name] || name == "" {
			name, address = ns, p.c.Conn.Handshake().Address()
		}
	}
	over := cs.closed || cs.node.draining.Load() || name == ""
	if over {
		cs.absence = nil
	} else {
		cs.absence.Reset(absenceEvery)
	}
	cs.mu.Unlock()
	if over {
		return
	}
	since := cs.node.handlers.deciderLeft()
	detail := "no handler is there to decide who connects"
	if since.IsZero() {
		since = cs.node.startedAt
		detail += ", and none was since the node started"
	}
	if len(waiting) > 1 {
		detail += fmt.Sprintf("; connects wait in %d namespaces", len(waiting))
	}
	cs.node.told.Warn("connects wait", zap.String("reason", dropNames[dropConnectWait]), zap.String("address", address),
		zap.String("namespace", name), zap.String("detail", detail), zap.String("setting", "--connect, --handler-wait="+cs.node.cfg.HandlerWait.String()),
		zap.Int("waiting", waiting[name]), zap.Time("since", since))
}

// crowded is the refusal of a connect for which there is no place among those that wait.
func (cs *connects) crowded() Refusal {
	return unavailable(cs.node.cfg.HandlerWait).because(dropConnectLimit, "",
		"too many connects wait for a decision, on this node (%d) or of this address", cs.node.cfg.MaxPendingConnects)
}
