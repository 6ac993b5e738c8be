package service

import (
	"cmp"
	"context"
	"math"
	"slices"
)

// snapshot is a watcher's walk through the sockets in scope, a page at a time: the namespace is held shared for one
// page only, and the watcher keeps no more than that. Changes go on meanwhile, so a page tells its sockets as they are
// when it is made, and told says how far the log was then: which changes of a socket the page had in it already.
//
// Sockets, and the copies of those elsewhere, are walked in the order of their seqs, up to the last one that was there
// at the beginning; those that come later are news of the log. Owned by the caller of Next.
type snapshot struct {
	news   bool            // it tells what its watcher could not know, as connects
	known  map[*owner]mark // whose sockets it leaves out then
	few    bool            // the scope is a small part of the namespace: of the sockets here only those in list are looked at
	list   []uint64        // their seqs, rising
	cursor uint64          // seq of the next socket to look at
	end    uint64          // seq of the last one
	done   bool            // all is told
	told   []pageEnd       // rising in both
}

// pageEnd says that the sockets up to a seq, and behind those of the entry before, were told as they were when the log
// was at a place.
type pageEnd struct{ seq, place uint64 }

const (
	pageSockets = 1000    // in one page
	pageBytes   = 1 << 20 // after which a page is full, unless its watcher is a feed
	pageWork    = 1 << 14 // sockets and rooms that are looked at while the namespace is held once
	// maxRestarts bounds how often the log overtakes a walk that is getting on, before its watcher is too slow.
	maxRestarts = 3
)

// startWalk begins a snapshot, at the place that the log has now.
func (w *Watcher) startWalk() {
	w.ns.mu.RLock() // the log grows only with it whole
	defer w.ns.mu.RUnlock()
	w.startWalkLocked(nil)
}

// startWalkLocked begins a snapshot of all, or of those that a token did not know.
func (w *Watcher) startWalkLocked(known map[*owner]mark) {
	ns, l := w.ns, w.log
	s := &snapshot{news: known != nil, known: known}
	w.walk = s
	l.mu.Lock()
	w.walking = true
	if !s.news {
		w.pos, w.inside, w.own, w.heard, w.synced = l.next, 0, l.own, nil, false
		w.letPastGoLocked()
		w.resumed = resumed{}
	}
	l.mu.Unlock()
	if l.others != nil {
		for _, o := range l.others.owners {
			if _, has := known[o]; !has {
				w.heard = append(w.heard, heard{o.Incarnation, o.next})
			}
		}
	}
	s.end = ns.seq
	if s.few = s.knows(nil); s.few || w.scope.All { // with few it has nobody here to tell of
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
// voided: it has begun anew.
func (w *Watcher) page(ctx context.Context) ([]SocketInfo, error) {
	for {
		if w.wake == nil && w.node.draining.Load() {
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
	if w.ended != nil || lost && w.restarts == maxRestarts {
		w.endLocked(ErrTooSlow)
		defer w.log.mu.Unlock()
		return w.ended
	}
	w.log.mu.Unlock()
	if !lost {
		return nil
	}
	w.restarts++
	w.startWalk()
	return voided(ResetGap)
}

// endWalk goes over to the changes, past those at the front that the pages had in them or that are not in scope.
func (w *Watcher) endWalk() {
	l := w.log
	w.walk.done = true
	for more := true; more; {
		l.mu.Lock()
		w.walking = false
		n := 0
		for ; n < watchBatch && w.walk != nil && w.pos >= l.first && w.pos < l.next; n++ {
			if c := l.at(w.pos); !w.skips(c) {
				if c.all != nil {
					break
				}
				if _, news := w.see(c); news {
					break
				}
				w.advance(c)
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

// reached is how far the log was at the last page.
func (s *snapshot) reached() uint64 { return s.told[len(s.told)-1].place }

// has says whether the pages had a change in them, that stands in the log at a place.
func (s *snapshot) has(c *change, place uint64) bool {
	if s == nil || c.seq > s.end {
		return false
	}
	if _, known := s.known[c.owner]; known {
		return false
	}
	if s.few && c.owner == nil {
		if _, listed := slices.BinarySearch(s.list, c.seq); !listed {
			return false
		}
	}
	i, _ := slices.BinarySearchFunc(s.told, c.seq, func(t pageEnd, seq uint64) int { return cmp.Compare(t.seq, seq) })
	return place < s.told[i].place
}

// fillPage looks at sockets until the page is full or enough work is done, and notes how far the log is.
func (w *Watcher) fillPage() (list []SocketInfo, bytes int) {
	ns, s := w.ns, w.walk
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	work := 0
	next := w.nextLocked()
	for {
		seq, here, there := next()
		if seq > s.end {
			s.cursor = s.end + 1
			break
		}
		s.cursor = seq + 1
		work++
		var info *SocketInfo
		switch {
		case here != nil:
			work += len(here.rooms)
			info = here.factsLocked()
		case there != nil && there.owner.whole && !s.knows(there.owner):
			work += len(there.info.Rooms)
			info = there.shown()
		}
		if info != nil {
			if w.narrow(info); w.scope.All || w.inScope(info, info.Rooms) {
				list = append(list, *info)
				bytes += info.bytes()
			}
		}
		if len(list) >= w.node.pageSockets || bytes >= w.stepBytes() || work >= pageWork {
			break
		}
	}
	w.log.mu.Lock()
	place := w.log.next
	w.log.mu.Unlock()
	if last := len(s.told) - 1; last >= 0 && s.told[last].place == place {
		s.told[last].seq = s.cursor - 1
	} else {
		s.told = append(s.told, pageEnd{s.cursor - 1, place})
	}
	return list, bytes
}

func (s *snapshot) knows(o *owner) bool { _, known := s.known[o]; return known }

// nextLocked walks through the sockets here and the copies of those elsewhere by their seqs, from the cursor on; holes
// come with neither, and behind the last of them is the largest number.
func (w *Watcher) nextLocked() func() (uint64, *Socket, *replica) {
	ns, s := w.ns, w.walk
	var others []rosterEntry[*replica]
	if w.wake == nil && w.log.others != nil {
		copies := &w.log.others.copies
		others = copies.entries[copies.from(s.cursor):]
	}
	entries := ns.order.entries[ns.order.from(s.cursor):]
	listed, _ := slices.BinarySearch(s.list, s.cursor)
	list := s.list[listed:]
	return func() (uint64, *Socket, *replica) {
		here, there := uint64(math.MaxUint64), uint64(math.MaxUint64)
		if s.few {
			if len(list) > 0 {
				here = list[0]
			}
		} else if len(entries) > 0 {
			here = entries[0].seq
		}
		if len(others) > 0 {
			there = others[0].seq
		}
		switch {
		case there < here:
			r := others[0].socket
			others = others[1:]
			return there, nil, r
		case here == math.MaxUint64:
			return here, nil, nil
		case !s.few:
			e := entries[0]
			entries = entries[1:]
			return here, e.socket, nil
		}
		list = list[1:]
		if i := ns.order.from(here); i < len(ns.order.entries) && ns.order.entries[i].seq == here {
			return here, ns.order.entries[i].socket, nil
		}
		return here, nil, nil
	}
}

// stepBytes is how many bytes a page, or the changes of one step, may have, or the last of them more.
func (w *Watcher) stepBytes() int {
	if w.wake != nil {
		return w.most
	}
	return pageBytes
}

// bytes estimates what a copy of what is known of a socket keeps alive.
func (s *SocketInfo) bytes() int {
	n := entryBytes/2 + len(s.Data) + len(s.UserID) + len(s.SessionID)
	for _, r := range s.Rooms {
		n += roomNameBytes + len(r)
	}
	return n
}
