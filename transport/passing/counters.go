package passing

import (
	"net"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// counter names a thing that was refused, ended or done. The set is closed: these become metric labels.
type counter uint8

const (
	countForged    counter = iota // requests whose sid no member has made
	countForeign                  // requests that a member has passed to this node, whose session they do not name
	countOdd                      // requests of others' sessions that are not passed: of another method, or oddly written
	countGone                     // requests refused and streams ended because their node is no member, or was lost
	countFailed                   // requests refused because their node could not be asked
	countSilent                   // requests refused because their node did not say a word in time
	countFull                     // requests refused because too many are under way
	countDraining                 // upgrades refused, and requests and streams ended, because this node goes
	countCut                      // answers that broke off
	countSlow                     // streams closed because their client took nothing
	countNotMember                // requests at the peer listener of somebody who is no member

	countRequests // that were passed and answered
	countStreams  // that were begun
	countServed   // requests of this node's sessions that members have passed
	countersLen
)

var counterNames = [countersLen]string{
	"forged_sid", "foreign_sid", "odd_request", "node_gone", "node_failed", "node_silent", "full", "draining", "cut", "slow", "not_member",
	"requests", "streams", "served",
}

// reason is the counter's name as GetInfo and the log have it.
func (k counter) reason() string { return "passing_" + counterNames[k] }

type counters [countersLen]atomic.Uint64

func (c *counters) add(k counter) { c[k].Add(1) }

// tell logs what was refused or ended, and why.
func (p *Passing) tell(level zapcore.Level, message string, why counter, from, detail string) {
	if host, _, err := net.SplitHostPort(from); err == nil {
		from = host
	}
	p.told.Log(level, message, zap.String("reason", why.reason()), zap.String("address", from), zap.String("detail", detail))
}

// Measures is what a Passing has done and does.
type Measures struct {
	Requests uint64 // polls and POSTs that were passed to other nodes and answered
	Streams  uint64 // websockets that were passed to other nodes
	Served   uint64 // requests and websockets of this node's sessions that other nodes have passed
	Open     int    // requests and streams that are being passed to other nodes at this moment
}

// Measure returns what was passed and served since New, and what is under way.
func (p *Passing) Measure() Measures {
	return Measures{p.counts[countRequests].Load(), p.counts[countStreams].Load(), p.counts[countServed].Load(), p.Len()}
}

// DoneReasons are the names of Dropped that count no drop: they are those of Measure.
func DoneReasons() []string {
	return []string{countRequests.reason(), countStreams.reason(), countServed.reason()}
}

// Dropped returns what was refused or ended since New, by reason, and what was passed and served. The set of keys is
// fixed; the map is the caller's.
func (p *Passing) Dropped() map[string]int64 {
	m := make(map[string]int64, countersLen)
	for k := range countersLen {
		m[k.reason()] = int64(p.counts[k].Load())
	}
	return m
}
