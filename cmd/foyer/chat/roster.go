package chat

import (
	"cmp"
	"slices"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

// Bounds of what is pushed to browsers, so that a crowd can look on too.
const (
	maxListed   = 50                     // people of a room, rooms
	pushAfter   = 100 * time.Millisecond // a change is not pushed alone, but with all that follow it for this long,
	pushPerHead = 100 * time.Microsecond // and for this much longer for each socket that is here
)

// Messages to browsers about the roster.
type (
	// who is in a room.
	who struct {
		Count  int    `json:"count"`
		People []self `json:"people"` // the first maxListed by nickname
	}
	room struct {
		Name string `json:"name"`
		Size int    `json:"size"`
	}
)

// roster is who is where in the whole namespace, as PresenceService.Watch tells it.
type roster struct {
	sockets map[string][]string        // socket id to rooms
	names   map[string]string          // socket id to nickname, of those that have one
	rooms   map[string]map[string]bool // room to socket ids
	changed map[string]bool            // rooms that browsers have not heard of yet
}

func newRoster() *roster {
	return &roster{sockets: map[string][]string{}, names: map[string]string{}, rooms: map[string]map[string]bool{}, changed: map[string]bool{}}
}

func (r *roster) has(id string) bool { _, ok := r.sockets[id]; return ok }

// put notes the rooms and the name of a socket in place of those noted before.
func (r *roster) put(socket *foyerv1.Socket) {
	id := socket.GetId()
	r.move(id, socket.GetRooms())
	r.sockets[id] = socket.GetRooms()
	if name := socket.GetUserId(); name != r.names[id] {
		r.names[id] = name
		for _, room := range socket.GetRooms() {
			r.changed[room] = true
		}
	}
}

func (r *roster) remove(id string) {
	r.move(id, nil)
	delete(r.sockets, id)
	delete(r.names, id)
}

func (r *roster) move(id string, rooms []string) {
	for _, room := range r.sockets[id] {
		if !slices.Contains(rooms, room) {
			delete(r.rooms[room], id)
			if len(r.rooms[room]) == 0 {
				delete(r.rooms, room)
			}
			r.changed[room] = true
		}
	}
	for _, room := range rooms {
		if !r.rooms[room][id] {
			if r.rooms[room] == nil {
				r.rooms[room] = map[string]bool{}
			}
			r.rooms[room][id] = true
			r.changed[room] = true
		}
	}
}

// follow brings the roster up to date: first a snapshot of who is here, then every change as it happens.
func (b *backend) follow(m *foyerv1.WatchResponse) {
	switch m := m.GetMessage().(type) {
	case *foyerv1.WatchResponse_Snapshot:
		for _, socket := range m.Snapshot.GetSockets() {
			b.put(socket)
		}
	case *foyerv1.WatchResponse_Events:
		for _, e := range m.Events.GetEvents() {
			if e.GetType() == foyerv1.PresenceEvent_TYPE_DISCONNECTED {
				b.roster.remove(e.GetSocket().GetId())
			} else {
				b.put(e.GetSocket())
			}
		}
	case *foyerv1.WatchResponse_Reset_: // a new snapshot follows
		for id := range b.roster.sockets {
			b.roster.remove(id)
		}
	}
	if len(b.roster.changed) > 0 {
		b.schedulePush()
	}
}

func (b *backend) put(socket *foyerv1.Socket) {
	b.roster.put(socket)
	if p := b.people[socket.GetId()]; p != nil {
		b.settle(p)
	}
}

// ask notes what we are about to do with a room, unless presence says already that it is so. Until presence agrees, its
// news of that room is older than what we did.
func (b *backend) ask(p *person, room string, in bool) {
	if _, waits := p.asked[room]; waits || slices.Contains(b.roster.sockets[p.id], room) != in {
		p.asked[room] = in
	}
}

// settle compares a person's rooms with what presence says. A difference that we did not make comes from outside, from
// whichever program calls JoinRooms or LeaveRooms: we follow it, and the browser hears of it.
func (b *backend) settle(p *person) {
	rooms, known := b.roster.sockets[p.id]
	if !known {
		return
	}
	for room, in := range p.asked {
		if slices.Contains(rooms, room) == in {
			delete(p.asked, room)
		}
	}
	for _, room := range rooms {
		if _, ours := p.asked[room]; !ours && !p.rooms[room] {
			p.rooms[room] = true
			b.emit(toRoom(p.id), "joined", room) // who is there follows with the push
		}
	}
	for room := range p.rooms {
		if _, ours := p.asked[room]; !ours && !slices.Contains(rooms, room) {
			delete(p.rooms, room)
			b.emit(toRoom(p.id), "left", room)
		}
	}
}

// changed notes that browsers should hear of a room again.
func (b *backend) changed(room string) {
	b.roster.changed[room] = true
	b.schedulePush()
}

func (b *backend) schedulePush() {
	if b.pushDue == nil {
		b.pushDue = time.After(pushAfter + time.Duration(len(b.roster.sockets))*pushPerHead)
	}
}

// push tells the people of each changed room who is there now, and everyone which rooms there are.
func (b *backend) push() {
	for name := range b.roster.changed {
		if len(b.roster.rooms[name]) > 0 {
			b.emit(toRoom(name), "who", name, b.who(name, nil))
		}
	}
	clear(b.roster.changed)
	b.pushDue = nil

	rooms := make([]room, 0, len(b.roster.rooms))
	for name, ids := range b.roster.rooms {
		rooms = append(rooms, room{Name: name, Size: len(ids)})
	}
	slices.SortFunc(rooms, func(x, y room) int { return cmp.Or(cmp.Compare(y.Size, x.Size), cmp.Compare(x.Name, y.Name)) })
	b.emit(everyone(), "rooms", rooms[:min(len(rooms), maxListed)])
}

// who lists a room as the roster has it. The one who asks is in it, even if the news of that is still under way.
func (b *backend) who(room string, asker *person) *who {
	ids := b.roster.rooms[room]
	list := &who{Count: len(ids), People: make([]self, 0, len(ids)+1)}
	for id := range ids {
		list.People = append(list.People, self{ID: id, Nickname: b.nickname(id)})
	}
	if asker != nil && !ids[asker.id] {
		list.Count++
		list.People = append(list.People, self{ID: asker.id, Nickname: asker.nickname})
	}
	slices.SortFunc(list.People, func(x, y self) int {
		return cmp.Or(cmp.Compare(x.Nickname, y.Nickname), cmp.Compare(x.ID, y.ID))
	})
	list.People = list.People[:min(len(list.People), maxListed)]
	return list
}

// nickname of a socket. What one that we handle is called now, Foyer may not have told yet.
func (b *backend) nickname(id string) string {
	if p := b.people[id]; p != nil {
		return p.nickname
	}
	return cmp.Or(b.roster.names[id], guestName(id))
}

// guestName is what somebody is called at first: by the end of the socket id, since its beginning names the node.
func guestName(id string) string { return "guest-" + id[max(0, len(id)-4):] }
