package service

import (
	"cmp"
	"context"
	"errors"
	"slices"
)

// snapshot is a watcher's walk through the sockets in scope, a page at a time: the namespace is held shared for one page
// only, and the watcher keeps no more than that. Changes go on meanwhile, so a page tells its sockets as they are when it is
// made, and told says how far the log was then: which changes of a socket the page had in it already.
//
// Sockets are walked in the order of their connects, up to the last one that was there at the beginning; those that come
// later are news of the log. Owned by the caller of Next.
type snapshot struct {
	few    bool      // the scope is a small part of the namespace: only the sockets in list are looked at
	list   []uint64  // their seqs, rising
	at     int       // place in list
	cursor uint64    // seq of the next socket to look at
	end    uint64    // seq of the last one
	told   []pageEnd // rising in both
}

// pageEnd says that the sockets up to a seq, and behind those of the entry before, were told as they were when the log was
// at a number.
type pageEnd struct{ seq, number uint64 }

const (
	pageSockets = 1000    // in one page
	pageBytes   = 1 << 20 // after which a page is full
	pageWork    = 1 << 14 // sockets and rooms that are looked at while the namespace is held once
	// How often the log may overtake a walk that is getting on, before its watcher is too slow.
	maxRestarts = 3
)

var errOvertaken = errors.New("the log has overtaken the snapshot")

// startWalk begins a snapshot, at the number that the log has now.
func (w *Watcher) startWalk() {
	ns, l := w.ns, w.log
	s := &snapshot{}
	w.walk = s
	ns.mu.RLock() // the log grows only with it whole
	defer ns.mu.RUnlock()
	l.mu.Lock()
	w.pos, w.walking = l.next, true
	l.mu.Unlock()
	s.end = ns.seq
	if w.scope.All {
		return
	}
	members := len(w.scope.Rooms)
	for _, name := range w.scope.Rooms {
		if r := ns.rooms[name]; r != nil {
			members += len(r.members)
		}
	}
	if members <= max(pageSockets, len(ns.sockets)/16) {
		s.few = true
		ns.matchLocked(&Target{Rooms: w.scope.Rooms}, func(m *Socket) { s.list = append(s.list, m.seq) })
		slices.Sort(s.list)
	}
}

// page is the next page of the snapshot; none: all is told. ErrTooSlow: the log has overtaken it once too often;
// errOvertaken: it has begun anew.
func (w *Watcher) page(ctx context.Context) ([]SocketInfo, error) {
	for {
		if w.node.draining.Load() {
			return nil, ErrDraining
		}
		list, bytes := w.fillPage()
		if err := w.overtaken(); err != nil {
			return nil, err
		}
		if len(list) > 0 {
			if !w.hold(bytes) {
				return nil, ErrBudget
			}
			for i := range list {
				slices.Sort(list[i].Rooms)
			}
			return list, nil
		}
		if w.walk.cursor > w.walk.end {
			w.endWalk()
			return nil, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// overtaken begins the snapshot anew when changes that it has to be followed by are gone from the log.
func (w *Watcher) overtaken() error {
	w.log.mu.Lock()
	lost := w.pos < w.log.first
	if w.ended || lost && w.restarts == maxRestarts {
		w.endLocked()
		w.log.mu.Unlock()
		return ErrTooSlow
	}
	w.log.mu.Unlock()
	if !lost {
		return nil
	}
	w.restarts++
	w.startWalk()
	return errOvertaken
}

// endWalk goes over to the changes, past those at the front that the pages had in them or that are not in scope.
func (w *Watcher) endWalk() {
	l := w.log
	for more := true; more; {
		l.mu.Lock()
		w.walking = false
		n := 0
		for ; n < watchBatch && w.walk != nil && w.pos >= l.first && w.pos < l.next; n++ {
			if _, news := w.see(l.at(w.pos), w.pos); news {
				break
			}
			w.passLocked()
		}
		more = n == watchBatch
		if w.walk != nil && w.pos >= w.walk.reached() {
			w.walk = nil
		}
		l.mu.Unlock()
	}
}

// passLocked goes past a change, and lets the snapshot go where all further changes are news.
func (w *Watcher) passLocked() {
	w.pos++
	if w.walk != nil && w.pos >= w.walk.reached() {
		w.walk = nil
	}
}

// reached is how far the log was at the last page.
func (s *snapshot) reached() uint64 { return s.told[len(s.told)-1].number }

// has says whether the pages had a change in them: that of a socket with a seq, with a number.
func (s *snapshot) has(seq, number uint64) bool {
	if s == nil || seq > s.end {
		return false
	}
	if s.few {
		if _, listed := slices.BinarySearch(s.list, seq); !listed {
			return false
		}
	}
	i, _ := slices.BinarySearchFunc(s.told, seq, func(t pageEnd, seq uint64) int { return cmp.Compare(t.seq, seq) })
	return number < s.told[i].number
}

// fillPage looks at sockets until the page is full or enough work is done, and notes how far the log is.
func (w *Watcher) fillPage() (list []SocketInfo, bytes int) {
	ns, s := w.ns, w.walk
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	work := 0
	// look takes a socket in and says whether there is room for another.
	look := func(e rosterEntry) bool {
		s.cursor = e.seq + 1
		work++
		if e.socket == nil {
			return work < pageWork
		}
		work += len(e.socket.rooms)
		info := e.socket.factsLocked()
		if w.narrow(info); w.scope.All || w.inScope(info, info.Rooms) {
			list = append(list, *info)
			bytes += info.bytes()
		}
		return len(list) < w.node.pageSockets && bytes < pageBytes && work < pageWork
	}
	more := true
	if s.few {
		for ; more && s.at < len(s.list); s.at++ {
			seq := s.list[s.at]
			e := rosterEntry{seq: seq}
			if i := ns.order.from(seq); i < len(ns.order.entries) && ns.order.entries[i].seq == seq {
				e = ns.order.entries[i]
			}
			more = look(e)
		}
	} else {
		for i := ns.order.from(s.cursor); more && i < len(ns.order.entries) && ns.order.entries[i].seq <= s.end; i++ {
			more = look(ns.order.entries[i])
		}
	}
	if more {
		s.cursor = s.end + 1
	}
	w.log.mu.Lock()
	number := w.log.next
	w.log.mu.Unlock()
	if last := len(s.told) - 1; last >= 0 && s.told[last].number == number {
		s.told[last].seq = s.cursor - 1
	} else {
		s.told = append(s.told, pageEnd{s.cursor - 1, number})
	}
	return list, bytes
}

// bytes estimates what a copy of what is known of a socket keeps alive.
func (s *SocketInfo) bytes() int {
	n := entryBytes/2 + len(s.Data) + len(s.UserID) + len(s.SessionID)
	for _, r := range s.Rooms {
		n += roomNameBytes + len(r)
	}
	return n
}
