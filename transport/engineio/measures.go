package engineio

import (
	"math"
	"sync/atomic"
)

// Measures are what a Server has at a moment and what it has done since New, for a caller that looks at it from time to
// time.
type Measures struct {
	Sessions    [Transports]int // open, by their transport
	Opened      uint64
	In, Out     [Transports]Traffic
	Upgrades    uint64
	QueuedBytes int // that wait in the queues of sessions, each message with 32 beside its own
	WorstQueue  int // bytes in the fullest of them
}

// The transports, as they are counted.
const (
	Polling = iota
	WebSocket
	Transports
)

// Traffic is how many packets of Engine.IO there were, heartbeats included, and their bytes before any encoding:
// without frames, base64 and compression. An upgrade is a few packets that are counted for either transport.
type Traffic struct{ Packets, Bytes uint64 }

// tally is a Traffic that has not been added to its shard's yet. It is small, as each session has two: what would not
// fit is added at once, which is once in 64 KiB, so that sessions share no cache line for each message.
type tally struct{ packets, bytes uint16 }

// traffic is what sessions of a shard have moved.
type traffic [Transports]struct{ packets, bytes atomic.Uint64 }

const (
	in = iota
	out
	directions
)

// countLocked counts packets that came or went. mu held.
func (s *Session) countLocked(direction, packets, bytes int) {
	t := &s.moved[direction]
	packets += int(t.packets)
	bytes += int(t.bytes)
	if packets > math.MaxUint16 || bytes > math.MaxUint16 {
		s.tellLocked(direction, packets, bytes)
		packets, bytes = 0, 0
	}
	t.packets, t.bytes = uint16(packets), uint16(bytes)
}

// countOutLocked counts messages that their transport has taken. mu held.
func (s *Session) countOutLocked(items []item) {
	packets, bytes := 0, 0
	for i := range items {
		m := items[i].msg
		packets += m.packets()
		bytes += m.size
		if n := len(m.parts); n > 0 { // whose size has what the queue counts for each
			bytes -= (n - 1) * itemOverhead
		}
	}
	s.countLocked(out, packets, bytes)
}

func (s *Session) tellLocked(direction, packets, bytes int) {
	transport := Polling
	if s.websocket {
		transport = WebSocket
	}
	of := &s.srv.shard(s.sid()).moved[direction][transport]
	of.packets.Add(uint64(packets))
	of.bytes.Add(uint64(bytes))
}

// tellAllLocked adds all that the session has counted to its shard's: its transport changes, or it is forgotten. mu
// held.
func (s *Session) tellAllLocked() {
	for direction, t := range s.moved {
		if t != (tally{}) {
			s.tellLocked(direction, int(t.packets), int(t.bytes))
			s.moved[direction] = tally{}
		}
	}
}

// Measure looks at each session. One caller waits for another.
func (s *Server) Measure() Measures {
	s.measuring.Lock()
	defer s.measuring.Unlock()
	m := Measures{Upgrades: s.counts[countUpgrade].Load()}
	var list []*Session
	for i := range s.shards {
		sh := &s.shards[i]
		for t := range Transports {
			m.In[t].add(sh.moved[in][t].packets.Load(), sh.moved[in][t].bytes.Load())
			m.Out[t].add(sh.moved[out][t].packets.Load(), sh.moved[out][t].bytes.Load())
		}
		list = list[:0]
		sh.mu.RLock()
		m.Opened += sh.opened
		for _, ss := range sh.m {
			list = append(list, ss)
		}
		sh.mu.RUnlock()
		for _, ss := range list {
			ss.measure(&m)
		}
	}
	// What a session told its shard while this looked was counted at neither. It is in the next answer; until then none is
	// below the last one, as a counter that falls looks like a restart.
	for t := range Transports {
		m.In[t] = m.In[t].atLeast(s.measured.In[t])
		m.Out[t] = m.Out[t].atLeast(s.measured.Out[t])
	}
	s.measured = m
	return m
}

func (s *Session) measure(m *Measures) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := Polling
	if s.websocket {
		t = WebSocket
	}
	m.Sessions[t]++
	m.In[t].add(uint64(s.moved[in].packets), uint64(s.moved[in].bytes))
	m.Out[t].add(uint64(s.moved[out].packets), uint64(s.moved[out].bytes))
	m.QueuedBytes += s.pending
	m.WorstQueue = max(m.WorstQueue, s.pending)
}

func (t *Traffic) add(packets, bytes uint64) {
	t.Packets += packets
	t.Bytes += bytes
}

func (t Traffic) atLeast(o Traffic) Traffic {
	return Traffic{max(t.Packets, o.Packets), max(t.Bytes, o.Bytes)}
}
