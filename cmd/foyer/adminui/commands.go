package adminui

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.uber.org/zap"

	foyerv1 "foyer/gen/foyer/v1"
)

const commandTimeout = 10 * time.Second

// command is what an operator asks for.
type command struct {
	operator  string
	what      string
	namespace string
	target    *foyerv1.Target
	room      string          // of join and leave
	link      bool            // of _disconnect: the whole link
	event     string          // of emit
	args      json.RawMessage // likewise
}

// event takes a command of a page. It leaves out what is malformed, not allowed, or too much. It gives no answer, since
// the page waits for none. The log has the commands that are carried out.
func (p *panel) event(e *foyerv1.Event) {
	op := p.ops[e.GetSocket().GetId()]
	if op == nil || op.end == nil || op.readOnly {
		return
	}
	if !p.cfg.holds(op.account) {
		op.end(errGone)
		return
	}
	c, ok := readCommand(e.GetPayload().GetEvent(), e.GetPayload().GetJson())
	if !ok {
		return
	}
	c.operator = op.name
	if p.pending.Add(1) <= maxAllCommands {
		select {
		case op.commands <- c:
			return
		default:
		}
	}
	p.pending.Add(-1)
	p.cfg.Told.Warn("command of an operator left: too many wait", zap.String("operator", op.name))
}

// readCommand reads an event of a page. Its first argument is a namespace. Another one may be a room or a socket id:
// then the command is about the sockets in it, and otherwise about all.
func readCommand(event, text string) (c command, ok bool) {
	var args []json.RawMessage
	if json.Unmarshal([]byte(text), &args) != nil || len(args) == 0 {
		return c, false
	}
	word := func(i int) (s string) {
		if i < len(args) {
			_ = json.Unmarshal(args[i], &s) // else it is not given
		}
		return s
	}
	filter := ""
	c.what, c.namespace = event, word(0)
	switch event {
	case "join", "leave":
		c.room, filter = word(1), word(2)
		ok = c.room != ""
	case "_disconnect":
		ok = len(args) > 1 && json.Unmarshal(args[1], &c.link) == nil
		filter = word(2)
	case "emit":
		filter, c.event = word(1), word(2)
		ok = c.event != ""
		if len(args) > 3 {
			rest, err := json.Marshal(args[3:])
			ok = ok && err == nil
			c.args = rest
		}
	}
	c.target = &foyerv1.Target{Namespace: c.namespace, All: filter == ""}
	if filter != "" {
		c.target.Rooms = []string{filter}
	}
	return c, ok && c.namespace != ""
}

// carryOut carries out the commands of one operator, one after the other, until the channel is closed or the panel
// ends.
func (p *panel) carryOut(commands <-chan command) {
	for {
		select {
		case c, ok := <-commands:
			if !ok {
				return
			}
			ctx, cancel := context.WithTimeout(p.ctx, commandTimeout)
			err := c.do(ctx, p.cfg)
			cancel()
			p.pending.Add(-1)
			p.cfg.Log.Info("command of an operator", zap.String("operator", c.operator), zap.String("command", c.what),
				zap.String("namespace", fmt.Sprintf("%.100q", c.namespace)), zap.String("target", fmt.Sprintf("%.100q", c.target.GetRooms())),
				zap.NamedError("err", err))
		case <-p.ctx.Done():
			return
		}
	}
}

func (c command) do(ctx context.Context, cfg Config) (err error) {
	api := cfg.API
	if c.namespace == Namespace { // it is about operators
		api = cfg.Hall
	}
	switch c.what {
	case "join":
		_, err = foyerv1.NewRoomServiceClient(api).JoinRooms(ctx, &foyerv1.JoinRoomsRequest{Target: c.target, Rooms: []string{c.room}})
	case "leave":
		_, err = foyerv1.NewRoomServiceClient(api).LeaveRooms(ctx, &foyerv1.LeaveRoomsRequest{Target: c.target, Rooms: []string{c.room}})
	case "_disconnect":
		mode := foyerv1.DisconnectMode_DISCONNECT_MODE_NAMESPACE
		if c.link {
			mode = foyerv1.DisconnectMode_DISCONNECT_MODE_CONNECTION
		}
		_, err = foyerv1.NewSocketServiceClient(api).DisconnectSockets(ctx, &foyerv1.DisconnectSocketsRequest{Target: c.target, Mode: mode})
	case "emit":
		payload := &foyerv1.Payload{Event: c.event}
		if c.args != nil {
			payload.Args = &foyerv1.Payload_Json{Json: string(c.args)}
		}
		_, err = foyerv1.NewEmitServiceClient(api).Emit(ctx, &foyerv1.EmitRequest{Target: c.target, Payload: payload})
	}
	return err
}
