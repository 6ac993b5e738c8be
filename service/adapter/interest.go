package adapter

import (
	"slices"
	"time"
)

const (
	// minusAfter is how long a room without sockets stays told: one that comes back meanwhile costs no news.
	minusAfter = 500 * time.Millisecond
	// tellRooms is how many rooms one item tells at most.
	tellRooms = 1000
)

// ownRooms are the rooms that this node has sockets in, and those of which it has not said yet that it has none any
// more. A room is its hash: two that share one are one to the peers, and cost them frames for nothing at the worst.
type ownRooms struct {
	list   []ownRoom         // in no order; whoever tells it goes down from its end
	places map[uint64]uint32 // in list
	fresh  []uint64          // to be told
	going  []goingRoom       // by time; some may have come back, or gone anew
}

type ownRoom struct {
	hash uint64
	here uint32        // rooms of this hash with sockets; 0: it is about to be told as gone
	gone time.Duration // since when there is none
}

type goingRoom struct {
	hash uint64
	gone time.Duration
}

// edge says that a room has got its first socket or has lost its last one.
func (r *ownRooms) edge(hash uint64, on bool, now time.Duration) {
	place, known := r.places[hash]
	switch {
	case on && known: // also when it comes back in time: there is no news
		r.list[place].here++
	case on:
		if r.places == nil {
			r.places = map[uint64]uint32{}
		}
		r.places[hash] = uint32(len(r.list))
		r.list = append(r.list, ownRoom{hash: hash, here: 1})
		r.fresh = append(r.fresh, hash)
	case known && r.list[place].here > 0:
		o := &r.list[place]
		if o.here--; o.here == 0 {
			o.gone = now
			r.going = append(r.going, goingRoom{hash, now})
		}
	}
}

// news are the rooms that are to be told now; nil: none.
func (r *ownRooms) news(now time.Duration) *interest {
	var minus []uint64
	n := 0
	for ; n < len(r.going) && r.going[n].gone+minusAfter <= now; n++ {
		g := r.going[n]
		place, known := r.places[g.hash]
		if !known || r.list[place].here > 0 || r.list[place].gone != g.gone {
			continue
		}
		minus = append(minus, g.hash)
		r.remove(place)
	}
	if r.going = r.going[n:]; len(r.going) == 0 {
		r.going = nil
	}
	if len(r.fresh) == 0 && len(minus) == 0 {
		return nil
	}
	in := &interest{plus: r.fresh, minus: minus}
	r.fresh = nil
	return in
}

// remove takes a room out of the list and puts the last one into its place. A walk over the list goes from its end, so
// it has told that one already.
func (r *ownRooms) remove(place uint32) {
	last := len(r.list) - 1
	delete(r.places, r.list[place].hash)
	if int(place) < last {
		r.list[place] = r.list[last]
		r.places[r.list[place].hash] = place
	}
	r.list = r.list[:last]
}

// tell returns up to n rooms below left, and what is left then; left < 0 is the beginning.
func (r *ownRooms) tell(left, n int) (rooms []uint64, rest int) {
	if left < 0 || left > len(r.list) {
		left = len(r.list)
	}
	rest = max(0, left-n)
	for i := left - 1; i >= rest; i-- {
		rooms = append(rooms, r.list[i].hash)
	}
	return rooms, rest
}

// due says when there is news.
func (r *ownRooms) due() time.Duration {
	switch {
	case len(r.fresh) > 0:
		return 0
	case len(r.going) > 0:
		return r.going[0].gone + minusAfter
	}
	return never
}

// theirRooms are those of a peer, as it told them.
type theirRooms map[uint64]struct{}

func (r theirRooms) hear(in *interest) {
	for _, h := range in.plus {
		r[h] = struct{}{}
	}
	for _, h := range in.minus {
		delete(r, h)
	}
}

// wants says whether the peer has sockets in one of the rooms, as far as is known.
func (r theirRooms) wants(rooms []uint64) bool {
	return slices.ContainsFunc(rooms, func(h uint64) bool { _, ok := r[h]; return ok })
}
