package service

import "slices"

// roster is a list of sockets, or of copies of them, in the order of their seq, with holes where some left. A hole
// costs nothing to make, and when half of the list is holes it is closed up, so that walking and finding a place in it
// cost what its sockets cost.
type roster[S placed] struct {
	entries []rosterEntry[S]
	holes   int
}

// placed is what a roster lists. It knows its own place in it.
type placed interface {
	comparable
	slot() *uint32 // of its place
}

type rosterEntry[S placed] struct {
	seq    uint64
	socket S // nil: a hole
}

func (r *roster[S]) add(seq uint64, s S) {
	*s.slot() = uint32(len(r.entries))
	r.entries = append(r.entries, rosterEntry[S]{seq, s})
}

func (r *roster[S]) remove(s S) {
	var hole S
	r.entries[*s.slot()].socket = hole
	if r.holes++; r.holes > 32 && r.holes > len(r.entries)/2 {
		r.entries = slices.DeleteFunc(r.entries, func(e rosterEntry[S]) bool { return e.socket == hole })
		r.holes = 0
		for i := range r.entries {
			*r.entries[i].socket.slot() = uint32(i)
		}
		if cap(r.entries) > 4*len(r.entries) {
			r.entries = slices.Clone(r.entries)
		}
	}
}

// removeAll takes out all that go says, in one walk.
func (r *roster[S]) removeAll(gone func(S) bool) {
	var hole S
	r.entries = slices.DeleteFunc(r.entries, func(e rosterEntry[S]) bool { return e.socket == hole || gone(e.socket) })
	r.holes = 0
	for i := range r.entries {
		*r.entries[i].socket.slot() = uint32(i)
	}
	if cap(r.entries) > 4*len(r.entries) {
		r.entries = slices.Clone(r.entries)
	}
}

// from is the place of the first entry whose seq is not below seq.
func (r *roster[S]) from(seq uint64) int {
	i, _ := slices.BinarySearchFunc(r.entries, seq, func(e rosterEntry[S], seq uint64) int {
		switch {
		case e.seq < seq:
			return -1
		case e.seq > seq:
			return 1
		}
		return 0
	})
	return i
}
