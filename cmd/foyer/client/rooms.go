package client

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/alecthomas/kong"
	"google.golang.org/grpc"

	foyerv1 "foyer/gen/foyer/v1"
)

// joinCommand puts sockets into rooms.
type joinCommand struct {
	Rooms []string `arg:"" sep:"none" help:"The rooms that they join."`
	target
	format
	connection
}

// Run has them join.
func (c *joinCommand) Run(ctx context.Context, k *kong.Context, sys *System) error {
	return change(ctx, k, sys, &c.connection, c.format, "joined "+list(c.Rooms), &foyerv1.JoinRoomsRequest{Target: c.target.target(), Rooms: c.Rooms},
		func(conn *grpc.ClientConn) rpc[*foyerv1.JoinRoomsRequest, *foyerv1.JoinRoomsResponse] {
			return foyerv1.NewRoomServiceClient(conn).JoinRooms
		})
}

// leaveCommand takes sockets out of rooms.
type leaveCommand struct {
	Rooms []string `arg:"" sep:"none" help:"The rooms that they leave."`
	target
	format
	connection
}

// Run has them leave.
func (c *leaveCommand) Run(ctx context.Context, k *kong.Context, sys *System) error {
	return change(ctx, k, sys, &c.connection, c.format, "left "+list(c.Rooms), &foyerv1.LeaveRoomsRequest{Target: c.target.target(), Rooms: c.Rooms},
		func(conn *grpc.ClientConn) rpc[*foyerv1.LeaveRoomsRequest, *foyerv1.LeaveRoomsResponse] {
			return foyerv1.NewRoomServiceClient(conn).LeaveRooms
		})
}

func list(names []string) string { return clean(strings.Join(names, ", ")) }

// roomsCommand lists rooms.
type roomsCommand struct {
	Namespace string   `short:"n" env:"-" group:"Which" placeholder:"NAME" help:"The namespace. Default /."`
	Room      []string `short:"r" env:"-" group:"Which" sep:"none" placeholder:"ROOM" help:"This room alone, also when nobody is in it; again for more rooms. The id of a socket is a room with it alone."`
	Prefix    string   `env:"-" group:"Which" placeholder:"TEXT" help:"Rooms whose name begins with this. Default: all, without those of single sockets."`
	Limit     int      `env:"-" group:"Which" placeholder:"N" help:"At most so many. Default: all."`
	format
	connection
}

// Validate is called by kong.
func (c *roomsCommand) Validate() error {
	switch {
	case c.Limit < 0:
		return failure(Usage, "--limit: %d is not above zero", c.Limit)
	case len(c.Room) > 0 && c.Prefix != "":
		return errors.New("--room and --prefix exclude each other")
	}
	return nil
}

// Run prints the rooms.
func (c *roomsCommand) Run(ctx context.Context, k *kong.Context, sys *System) error {
	at, err := c.open(k, sys)
	if err != nil {
		return err
	}
	defer at.close()
	client := foyerv1.NewRoomServiceClient(at.conn)
	t := sys.table("SOCKETS", "ROOM").numbers(0)
	show := func(rooms []*foyerv1.Room) error {
		if c.json() {
			return printLines(sys, rooms...)
		}
		for _, r := range rooms {
			if err := t.add(cells(strconv.Itoa(int(r.GetSize())), r.GetName())...); err != nil {
				return err
			}
		}
		return t.flush()
	}
	coverage := new(foyerv1.Coverage)
	if len(c.Room) > 0 {
		here := 0
		for _, name := range c.Room {
			got, err := call(ctx, at, client.GetRoom, &foyerv1.GetRoomRequest{Namespace: c.Namespace, Room: name})
			if err == nil {
				err = show([]*foyerv1.Room{got.GetRoom()})
			}
			if err != nil {
				return err
			}
			here += int(got.GetRoom().GetSize())
			widen(coverage, got.GetCoverage())
		}
		return at.listed(here, coverage, "nobody is in it")
	}
	n, err := pages(at, c.Limit, "rooms", func(token string, size int32) (int, string, error) {
		got, err := call(ctx, at, client.ListRooms, &foyerv1.ListRoomsRequest{Namespace: c.Namespace, Prefix: c.Prefix, PageSize: size, PageToken: token})
		if err == nil {
			err = show(got.GetRooms())
		}
		widen(coverage, got.GetCoverage())
		return len(got.GetRooms()), got.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	return at.listed(n, coverage, "there are no such rooms")
}

const pageSize = 1000 // the most that a node gives

// pages turns pages until the last one, or until there are so many items, and says how many there were.
func pages(at *caller, limit int, what string, turn func(token string, size int32) (n int, next string, err error)) (int, error) {
	var so atomic.Int64
	stop := at.sys.wait(func() string { return strconv.FormatInt(so.Load(), 10) + " " + what })
	defer stop()
	token := ""
	for {
		size := pageSize
		if limit > 0 {
			size = min(size, limit-int(so.Load()))
		}
		n, next, err := turn(token, int32(size)) //nolint:gosec // a page
		if err != nil {
			return 0, err
		}
		total := int(so.Add(int64(n)))
		if next == "" || limit > 0 && total >= limit {
			return total, nil
		}
		token = next
	}
}

// widen adds what another answer does not speak for.
func widen(all, one *foyerv1.Coverage) {
	for _, name := range one.GetUnreachable() {
		if !slices.Contains(all.GetUnreachable(), name) {
			all.Unreachable = append(all.Unreachable, name)
		}
	}
	all.UnreachableUnnamed = max(all.GetUnreachableUnnamed(), one.GetUnreachableUnnamed())
	all.UncountedNodes = max(all.GetUncountedNodes(), one.GetUncountedNodes())
}
