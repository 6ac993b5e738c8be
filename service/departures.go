package service

import (
	"container/heap"
	"sync"
	"time"
)

// Departure is the last that is known of a socket that is gone. Shared: not to be changed.
type Departure struct {
	Socket SocketInfo // with the rooms that it left, and without its data and handshake
	Time   time.Time
	Reason Reason
	Detail string
}

// departures are the last sockets of this node that are gone, for a caller that asks about one of them. The log of a
// namespace has them as well, but only while somebody watches the namespace, and no longer than other changes leave
// room. They outlive their namespace. They are bounded in bytes, all together, which the budget counts; a namespace
// that has more than its even part of them pays first, so that clients that come and go in one do not make those of
// another forgotten.
type departures struct {
	budget *Budget
	most   int // bytes

	mu    sync.Mutex // a leaf
	held  int        // bytes
	by    map[string]*departed
	order most[*departed] // to find the first among 5000 took 24 µs for each socket that went
}

// departed are those of one namespace, the oldest first.
type departed struct {
	namespace string
	list      fifo[*Departure]
	held      int
	index     int // in order
}

// departureBytes is what one of them takes beside its texts, rather too much than too little, with its part of the
// lists and of its namespace's place.
const departureBytes = 448

func newDepartures(cfg *Config) departures {
	return departures{budget: cfg.Budget, most: cfg.DepartureBytes, by: map[string]*departed{}}
}

func (e *Departure) bytes() int {
	s := &e.Socket
	n := departureBytes + len(s.SessionID) + len(s.UserID) + len(e.Detail)
	for _, room := range s.Rooms {
		n += roomNameBytes + len(room)
	}
	return n
}

// add notes that a socket is gone. Namespace.mu is held, so that nobody finds it neither here nor there.
func (d *departures) add(info *SocketInfo, r Reason, detail string) {
	e := &Departure{Socket: *info, Time: time.Now(), Reason: r, Detail: detail}
	e.Socket.Data, e.Socket.Handshake, e.Socket.Auth = nil, nil, nil
	bytes := e.bytes()
	if bytes > d.most {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.held+bytes > d.most {
		d.forgetLocked(info.Namespace)
	}
	if !d.budget.Take(UseDepartures, bytes) {
		for freed := 0; freed < bytes; {
			if len(d.by) == 0 {
				return
			}
			freed += d.forgetLocked(info.Namespace)
		}
		d.budget.Force(UseDepartures, bytes)
	}
	of := d.by[info.Namespace]
	if of == nil {
		of = &departed{namespace: info.Namespace}
		d.by[info.Namespace] = of
		heap.Push(&d.order, of)
	}
	of.list.push(e)
	of.held += bytes
	heap.Fix(&d.order, of.index)
	d.held += bytes
}

// forgetLocked lets the oldest of a namespace go, or of the one that has most when this one has less than its even
// part. It returns what that frees. There is one at least.
func (d *departures) forgetLocked(namespace string) int {
	of := d.by[namespace]
	if of == nil || of.held*len(d.by) < d.held {
		of = d.order[0]
	}
	freed := of.list.pop().bytes()
	if of.held -= freed; of.list.len() > 0 {
		heap.Fix(&d.order, of.index)
	} else {
		heap.Remove(&d.order, of.index)
		delete(d.by, of.namespace)
	}
	d.held -= freed
	d.budget.Give(UseDepartures, freed)
	return freed
}

// last is what is known of a socket that is gone, of whichever namespace; nil: nothing.
func (d *departures) last(id SocketID) *Departure {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, of := range d.by {
		for _, e := range of.list.items[of.list.head:] {
			if e.Socket.ID == id {
				return e
			}
		}
	}
	return nil
}

// ofUser lists those of a user of a namespace, the newest first.
func (d *departures) ofUser(namespace, user string, most int) (list []*Departure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	of := d.by[namespace]
	if of == nil {
		return nil
	}
	items := of.list.items[of.list.head:]
	for i := len(items) - 1; i >= 0 && len(list) < most; i-- {
		if items[i].Socket.UserID == user {
			list = append(list, items[i])
		}
	}
	return list
}

func (of *departed) has() int      { return of.held }
func (of *departed) stands(at int) { of.index = at }
