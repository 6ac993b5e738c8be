package service

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"

	"foyer/service/payload"
)

// View is how much of a socket is told.
type View uint8

// The views, with the numbers of the API.
const (
	ViewRef   View = iota + 1 // who it is
	ViewBasic                 // all but what follows
	ViewFull                  // its data and handshake, too
)

// Bytes estimates what a view of a socket takes in an answer, rather too much than too little.
func (v View) Bytes(s *SocketInfo) int {
	n := 64 + len(s.Namespace)
	if v == ViewRef {
		return n
	}
	n += 64 + len(s.SessionID) + len(s.UserID)
	for _, r := range s.Rooms {
		n += len(r) + 3
	}
	if v == ViewFull {
		n += 48 + payload.Unpacked(s.Data)
		if s.Handshake != nil {
			n += s.Handshake.Bytes()
		}
	}
	return n
}

// Place is where a page of sockets begins; zero: at the beginning. It is of one run of a node, whose sockets it lists.
type Place struct {
	Incarnation
	Seq uint64 // of the next socket, in the order of connects
}

// PageRequest says which part of a list is asked for.
type PageRequest struct {
	Place Place
	Limit int  // most sockets; at least one is listed
	Bytes int  // most that they take as View has them, unless a single one takes more; 0: any
	View  View // set with Bytes
}

// Page is a part of a list.
type Page struct {
	Sockets  []SocketInfo
	Next     Place // where the next page begins; zero: this was the last
	Total    int   // of the whole list; only at the beginning
	Coverage Coverage
}

// Sockets lists a part of the sockets of a target, in the order of their connects. A socket that is present throughout
// is listed exactly once. A place in an earlier run of this node is the beginning of its list now: none of those listed
// then is here any more. A place of another node: ErrToken.
func (n *Node) Sockets(_ context.Context, t Target, r PageRequest) (Page, error) {
	if r.Place != (Place{}) && r.Place.Node != n.id {
		return Page{}, ErrToken
	}
	ns := n.namespace(t.Namespace)
	if ns == nil {
		return Page{}, nil
	}
	page := ns.page(&t, &r)
	for i := range page.Sockets {
		slices.Sort(page.Sockets[i].Rooms)
	}
	return page, nil
}

func (ns *Namespace) page(t *Target, r *PageRequest) (page Page) {
	this := ns.node.self
	first, cursor, bytes := r.Place == (Place{}), uint64(0), 0
	if r.Place.Incarnation == this {
		cursor = r.Place.Seq
	}
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	// take adds a socket and says whether the page can go on.
	take := func(s *Socket) bool {
		full := len(page.Sockets) > 0 && len(page.Sockets) >= r.Limit
		if !full {
			info := s.factsLocked()
			if r.Bytes > 0 {
				bytes += r.View.Bytes(info)
				full = len(page.Sockets) > 0 && bytes > r.Bytes
			}
			if !full {
				page.Sockets = append(page.Sockets, *info)
				return true
			}
		}
		page.Next = Place{this, s.seq}
		return false
	}
	if t.All && len(t.ExceptRooms) == 0 {
		// The usual case costs what its page costs, however many sockets there are.
		if first {
			page.Total = len(ns.sockets)
		}
		for i := ns.order.from(cursor); i < len(ns.order.entries); i++ {
			if s := ns.order.entries[i].socket; s != nil && !take(s) {
				break
			}
		}
		return page
	}
	list, total := ns.firstLocked(t, cursor, max(r.Limit, 1)+1)
	if first {
		page.Total = total
	}
	for _, s := range list {
		if !take(s) {
			break
		}
	}
	return page
}

// firstLocked lists the first so many sockets of a target from a cursor on, and says how many it has in all. The list
// is cut now and then rather than kept sorted: each socket costs a constant, and the list its own size.
func (ns *Namespace) firstLocked(t *Target, cursor uint64, limit int) (list []*Socket, total int) {
	bySeq := func(a, b *Socket) int { return cmp.Compare(a.seq, b.seq) }
	last := uint64(math.MaxUint64)
	ns.matchLocked(t, func(s *Socket) {
		total++
		if s.seq < cursor || s.seq > last {
			return
		}
		if list = append(list, s); len(list) >= 4*limit {
			slices.SortFunc(list, bySeq)
			list = list[:limit]
			last = list[limit-1].seq
		}
	})
	slices.SortFunc(list, bySeq)
	return list[:min(len(list), limit)], total
}

// RoomsRequest says which rooms are asked for: those of a namespace whose names begin with Prefix and come behind
// After, which is as good a place on any node.
type RoomsRequest struct {
	Namespace, Prefix, After string
	Limit                    int
}

// RoomInfo is a room with its size.
type RoomInfo struct {
	Name string
	Size int
}

// RoomsPage is a part of the rooms of a namespace.
type RoomsPage struct {
	Rooms    []RoomInfo // by name
	Next     string     // what the next page comes behind; "": this was the last
	Coverage Coverage
}

// Rooms lists a part of the rooms of a namespace. Rooms of single socket ids are not listed.
func (n *Node) Rooms(_ context.Context, r RoomsRequest) (RoomsPage, error) {
	ns := n.namespace(r.Namespace)
	if ns == nil {
		return RoomsPage{}, nil
	}
	var list []RoomInfo
	walked := 0
	ns.mu.RLock()
	for name, room := range ns.rooms {
		// A map may be changed between two steps of a walk: what is in it throughout comes once, and each step has the
		// lock. A room that goes and is made anew meanwhile may come twice.
		if walked++; walked%turnWork == 0 {
			ns.mu.RUnlock()
			ns.mu.RLock()
		}
		if name <= r.After || !strings.HasPrefix(name, r.Prefix) {
			continue
		}
		list = append(list, RoomInfo{name, len(room.members)})
		// The list is cut now and then rather than kept sorted: each room costs a constant, and the page its own size.
		if len(list) >= 4*(r.Limit+1) {
			list = firstRooms(list, r.Limit+1)
		}
	}
	ns.mu.RUnlock()
	list = firstRooms(list, r.Limit+1)
	page := RoomsPage{Rooms: list}
	if len(list) > r.Limit {
		page.Rooms = list[:r.Limit]
		page.Next = list[r.Limit-1].Name
	}
	return page, nil
}

// firstRooms sorts rooms by name, each of them once, and keeps so many.
func firstRooms(list []RoomInfo, most int) []RoomInfo {
	slices.SortFunc(list, func(a, b RoomInfo) int { return strings.Compare(a.Name, b.Name) })
	list = slices.CompactFunc(list, func(a, b RoomInfo) bool { return a.Name == b.Name })
	return list[:min(len(list), most)]
}
