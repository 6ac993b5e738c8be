package chat

import (
	"encoding/json"

	foyerv1 "foyer/gen/foyer/v1"
)

func (b *backend) join(p *person, room string) {
	b.ask(p, room, true)
	p.rooms[room] = true
	b.command(&foyerv1.Command{Command: &foyerv1.Command_Join{
		Join: &foyerv1.JoinRoomsRequest{Target: toRoom(p.id), Rooms: []string{room}},
	}})
}

func (b *backend) leave(p *person, room string) {
	b.ask(p, room, false)
	delete(p.rooms, room)
	b.command(&foyerv1.Command{Command: &foyerv1.Command_Leave{
		Leave: &foyerv1.LeaveRoomsRequest{Target: toRoom(p.id), Rooms: []string{room}},
	}})
}

// name lets Foyer keep a nickname, from which other backends have it.
func (b *backend) name(p *person) {
	b.command(&foyerv1.Command{Command: &foyerv1.Command_Update{
		Update: &foyerv1.UpdateSocketRequest{SocketId: p.id, UserId: &p.nickname},
	}})
}

func (b *backend) emit(to *foyerv1.Target, event string, args ...any) {
	b.command(&foyerv1.Command{Command: &foyerv1.Command_Emit{
		Emit: &foyerv1.EmitRequest{Target: to, Payload: payload(event, args)},
	}})
}

// emitVolatile is emit for what is worth nothing later: a browser that is busy now does not get it.
func (b *backend) emitVolatile(to *foyerv1.Target, event string, args ...any) {
	b.command(&foyerv1.Command{Command: &foyerv1.Command_Emit{
		Emit: &foyerv1.EmitRequest{Target: to, Payload: payload(event, args), Options: &foyerv1.EmitOptions{Volatile: true}},
	}})
}

// command sends a command in the order of the stream. It has an id so that a refusal comes back, to the log.
func (b *backend) command(c *foyerv1.Command) {
	b.commands++
	c.Id = b.commands
	b.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Command{Command: c}})
}

// send has no error to return: a stream that cannot send ends, and receive hears why.
func (b *backend) send(m *foyerv1.AttachRequest) { _ = b.stream.Send(m) }

func everyone() *foyerv1.Target { return &foyerv1.Target{All: true} }

// toRoom is everyone in a room. A socket id is a room too: that of this one socket.
func toRoom(room string) *foyerv1.Target { return &foyerv1.Target{Rooms: []string{room}} }

func payload(event string, args []any) *foyerv1.Payload {
	return &foyerv1.Payload{Event: event, Args: &foyerv1.Payload_Json{Json: toJSON(args)}}
}

// toJSON has no error either: what we send are strings, numbers and plain structs.
func toJSON(v any) string {
	out, _ := json.Marshal(v)
	return string(out)
}
