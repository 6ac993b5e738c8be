package client

import (
	"context"
	"strings"

	"github.com/alecthomas/kong"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	foyerv1 "foyer/gen/foyer/v1"
)

// watchCommand follows who is there.
type watchCommand struct {
	Namespace string   `short:"n" env:"-" group:"Whom" placeholder:"NAME" help:"The namespace. Default /."`
	Room      []string `short:"r" env:"-" group:"Whom" sep:"none" placeholder:"ROOM" help:"Who is in this room; again for more rooms. Default: all sockets of the namespace."`
	All       bool     `env:"-" group:"Whom" help:"All sockets of the namespace: the default."`
	Resume    string   `env:"-" placeholder:"TOKEN" help:"Go on from this resumeToken, which -o json has told of the same namespace and rooms, without telling first who is there."`
	live
	format
	connection
}

// Validate is called by kong.
func (c *watchCommand) Validate() error {
	return (&scope{Room: c.Room, All: c.All}).Validate()
}

// Run prints who is there and each change, until ctx ends. A stream that breaks goes on from where it was.
func (c *watchCommand) Run(ctx context.Context, k *kong.Context, sys *System) error {
	at, err := c.open(k, sys)
	if err != nil {
		return err
	}
	defer at.close()
	q := &foyerv1.WatchRequest{
		Namespace: c.Namespace, Rooms: c.Room, All: len(c.Room) == 0, View: foyerv1.SocketView_SOCKET_VIEW_BASIC, ResumeToken: c.Resume,
	}
	if c.json() {
		q.View = foyerv1.SocketView_SOCKET_VIEW_FULL
	}
	t := sys.table("TIME", "CHANGE", "SOCKET", "USER", "ROOMS", "WHY").least(12, 12, 20, 4, 5)
	fresh := c.Resume == "" // a watch that goes on has had the namespace before
	return c.keep(ctx, at, func(ctx context.Context, heard func()) error {
		stream, err := foyerv1.NewPresenceServiceClient(at.conn).Watch(ctx, q)
		if err != nil {
			return err
		}
		for {
			m, err := stream.Recv()
			if status.Code(err) == codes.InvalidArgument && q.GetResumeToken() != "" && q.GetResumeToken() != c.Resume {
				sys.note("the node does not take the place where the watch was; it begins anew")
				q.ResumeToken = ""
				return status.Error(codes.Unavailable, "the place is not known")
			}
			if err != nil {
				return err
			}
			heard()
			if token := m.GetResumeToken(); token != "" {
				q.ResumeToken = token
			}
			if err := c.show(sys, t, m); err != nil {
				return err
			}
			if fresh && m.GetSynced() != nil {
				fresh = false
				at.tellEmpty(ctx, c.Namespace, false)
			}
			if m.GetReset_() != nil {
				q.ResumeToken = ""
			}
		}
	})
}

var changeColours = map[foyerv1.PresenceEvent_Type]string{
	foyerv1.PresenceEvent_TYPE_CONNECTED:    green,
	foyerv1.PresenceEvent_TYPE_DISCONNECTED: red,
}

func (c *watchCommand) show(sys *System, t *table, m *foyerv1.WatchResponse) error {
	if reset := m.GetReset_(); reset != nil {
		sys.note("the watch begins anew (" + word(reset.GetReason().String(), "RESET_REASON_") + "): what follows is who is there now")
	}
	if lacks := missing(m.GetSynced().GetCoverage()); lacks != "" {
		sys.note("the answer is only partial: " + lacks)
	}
	if c.json() {
		return printLines(sys, m)
	}
	for _, s := range m.GetSnapshot().GetSockets() {
		if err := t.add(cells("-", "here", s.GetId(), s.GetUserId(), strings.Join(s.GetRooms(), " "), "")...); err != nil {
			return err
		}
	}
	for _, e := range m.GetEvents().GetEvents() {
		rooms := e.GetRooms()
		if e.GetType() == foyerv1.PresenceEvent_TYPE_CONNECTED || e.GetType() == foyerv1.PresenceEvent_TYPE_UPDATED {
			rooms = e.GetSocket().GetRooms()
		}
		row := cells(clock(e.GetTime()), word(e.GetType().String(), "TYPE_"), e.GetSocket().GetId(), e.GetSocket().GetUserId(), strings.Join(rooms, " "), e.GetDetail())
		row[1].colour = changeColours[e.GetType()]
		if row[5].text == "" && e.GetReason() != 0 {
			row[5].text = word(e.GetReason().String(), "DISCONNECT_REASON_")
		}
		if err := t.add(row...); err != nil {
			return err
		}
	}
	return t.flush()
}
