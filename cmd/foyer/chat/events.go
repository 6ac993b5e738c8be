package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	foyerv1 "foyer/gen/foyer/v1"
)

// Bounds of what browsers may send.
const (
	maxNickname = 32
	maxRoom     = 64
	maxMessage  = 2000
	maxRooms    = 32 // of one person
)

// Messages to browsers, beside plain strings.
type (
	self struct {
		ID       string `json:"id"`
		Nickname string `json:"nickname"`
	}
	// about says of a message what its text does not. It is the second argument, so that a client of the classic kind,
	// which takes one, never sees it.
	about struct {
		From     string `json:"from"`
		Nickname string `json:"nickname"`
		Room     string `json:"room,omitempty"` // none: to everyone
		Time     int64  `json:"time"`           // Unix milliseconds
	}
	typing struct {
		From     string `json:"from"`
		Nickname string `json:"nickname"`
		Room     string `json:"room"`
		Typing   bool   `json:"typing"`
	}
	// reply acknowledges every event.
	reply struct {
		OK       bool   `json:"ok"`
		Error    string `json:"error,omitempty"`
		Nickname string `json:"nickname,omitempty"`
		Room     string `json:"room,omitempty"`
		*who            // of join and who
	}
)

// answer handles one event and replies to it, whatever it was: a reply frees the event's slot even if the browser did
// not ask for an acknowledgement, and becomes one if it did.
func (b *backend) answer(e *foyerv1.Event) {
	r, err := b.handle(e)
	if err != nil {
		r = reply{Error: err.Error()}
	} else {
		r.OK = true
	}
	b.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_EventReply{EventReply: &foyerv1.EventReply{
		CallId: e.GetCallId(),
		Args:   &foyerv1.Args{Args: &foyerv1.Args_Json{Json: toJSON([]reply{r})}},
	}}})
}

// handle does what the event asks for. Its errors are for the browser's eyes.
func (b *backend) handle(e *foyerv1.Event) (reply, error) {
	p := b.people[e.GetSocket().GetId()]
	if p == nil {
		return reply{}, errors.New("you are not connected here")
	}
	var args arguments // JSON, from anyone: believe nothing
	if text := e.GetPayload().GetJson(); text != "" && json.Unmarshal([]byte(text), &args) != nil {
		return reply{}, errors.New("arguments must be an array")
	}
	switch e.GetPayload().GetEvent() {
	case "chat message":
		return b.onMessage(p, args, e.GetTime().AsTime())
	case "nickname":
		return b.onNickname(p, args)
	case "join":
		return b.onJoin(p, args)
	case "leave":
		return b.onLeave(p, args)
	case "typing":
		return b.onTyping(p, args)
	case "who":
		return b.onWho(p, args)
	default:
		return reply{}, errors.New("there is no such event")
	}
}

// onMessage: emit("chat message", text) goes to everyone, emit("chat message", text, room) to that room; both to the
// sender as well.
func (b *backend) onMessage(p *person, args arguments, at time.Time) (reply, error) {
	text, err := args.text(0, "message", maxMessage)
	if err != nil {
		return reply{}, err
	}
	info := about{From: p.id, Nickname: p.nickname, Time: at.UnixMilli()}
	if len(args) < 2 { // io.emit("chat message", text)
		b.emit(everyone(), "chat message", text, info)
		return reply{}, nil
	}
	if info.Room, err = args.roomOf(p, 1); err != nil {
		return reply{}, err
	}
	b.emit(toRoom(info.Room), "chat message", text, info)
	return reply{Room: info.Room}, nil
}

// onNickname: emit("nickname", name).
func (b *backend) onNickname(p *person, args arguments) (reply, error) {
	name, err := args.name(0, "nickname", maxNickname)
	if err != nil {
		return reply{}, err
	}
	p.nickname = name
	b.name(p)
	for room := range p.rooms {
		b.changed(room)
	}
	return reply{Nickname: name}, nil
}

// onJoin: emit("join", room) acknowledges with who is there, the newcomer included.
func (b *backend) onJoin(p *person, args arguments) (reply, error) {
	room, err := args.room(0)
	switch {
	case err != nil:
		return reply{}, err
	case b.roster.has(room): // a socket id is a room: joining it would be reading over a shoulder
		return reply{}, errors.New("this room is private")
	case !p.rooms[room] && len(p.rooms) >= maxRooms:
		return reply{}, fmt.Errorf("you are in %d rooms already: leave one first", maxRooms)
	}
	b.join(p, room)
	return reply{Room: room, who: b.who(room, p)}, nil
}

// onLeave: emit("leave", room).
func (b *backend) onLeave(p *person, args arguments) (reply, error) {
	room, err := args.roomOf(p, 0)
	if err != nil {
		return reply{}, err
	}
	b.leave(p, room)
	return reply{Room: room}, nil
}

// onTyping: emit("typing", room, true or false) goes to the room but not to the one who types, socket.to(room) in
// Socket.IO's words.
func (b *backend) onTyping(p *person, args arguments) (reply, error) {
	room, err := args.roomOf(p, 0)
	if err != nil {
		return reply{}, err
	}
	on, err := args.flag(1, "typing")
	if err != nil {
		return reply{}, err
	}
	others := toRoom(room)
	others.ExceptRooms = []string{p.id}
	b.emitVolatile(others, "typing", typing{From: p.id, Nickname: p.nickname, Room: room, Typing: on})
	return reply{Room: room}, nil
}

// onWho: emit("who", room) acknowledges with who is there.
func (b *backend) onWho(p *person, args arguments) (reply, error) {
	room, err := args.roomOf(p, 0)
	if err != nil {
		return reply{}, err
	}
	return reply{Room: room, who: b.who(room, p)}, nil
}

// arguments are those of an event, each still as JSON.
type arguments []json.RawMessage

// text is a string argument of 1 to most characters, as it was typed.
func (a arguments) text(i int, what string, most int) (string, error) {
	var s string
	switch {
	case len(a) <= i || json.Unmarshal(a[i], &s) != nil:
		return "", fmt.Errorf("%s must be a string", what)
	case strings.TrimSpace(s) == "":
		return "", fmt.Errorf("%s is empty", what)
	case utf8.RuneCountInString(s) > most:
		return "", fmt.Errorf("%s is longer than %d characters", what, most)
	}
	return s, nil
}

// name is a text on one line, without spaces around it.
func (a arguments) name(i int, what string, most int) (string, error) {
	s, err := a.text(i, what, most)
	if err == nil && strings.ContainsFunc(s, unicode.IsControl) {
		err = fmt.Errorf("%s has control characters", what)
	}
	return strings.TrimSpace(s), err
}

// room is the name of a room. Foyer takes at most 255 bytes of it.
func (a arguments) room(i int) (string, error) {
	room, err := a.name(i, "room", maxRoom)
	if err == nil && len(room) > 255 {
		err = errors.New("room is longer than 255 bytes")
	}
	return room, err
}

// roomOf is a room that p is in. One that p was put into from outside may have a name that nobody can type here.
func (a arguments) roomOf(p *person, i int) (string, error) {
	var name string
	if len(a) > i && json.Unmarshal(a[i], &name) == nil && p.rooms[name] {
		return name, nil
	}
	room, err := a.room(i)
	if err == nil && !p.rooms[room] {
		err = errors.New("you are not in this room")
	}
	return room, err
}

// flag is a boolean argument.
func (a arguments) flag(i int, what string) (bool, error) {
	var on *bool
	if len(a) <= i || json.Unmarshal(a[i], &on) != nil || on == nil {
		return false, fmt.Errorf("%s must be true or false", what)
	}
	return *on, nil
}
