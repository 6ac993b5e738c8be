package client

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
	"google.golang.org/grpc"

	foyerv1 "foyer/gen/foyer/v1"
)

// socketsCommand lists sockets.
type socketsCommand struct {
	anyone
	Limit int `env:"-" placeholder:"N" help:"At most so many. Default: all."`
	format
	connection
}

// Validate is called by kong.
func (c *socketsCommand) Validate() error {
	if c.Limit < 0 {
		return failure(Usage, "--limit: %d is not above zero", c.Limit)
	}
	return c.scope.Validate()
}

// Run prints the sockets.
func (c *socketsCommand) Run(ctx context.Context, k *kong.Context, sys *System) error {
	at, err := c.open(k, sys)
	if err != nil {
		return err
	}
	defer at.close()
	client := foyerv1.NewSocketServiceClient(at.conn)
	view := foyerv1.SocketView_SOCKET_VIEW_BASIC
	if c.json() {
		view = foyerv1.SocketView_SOCKET_VIEW_FULL
	}
	t := sys.table("SOCKET", "NODE", "TRANSPORT", "FOR", "USER", "ROOMS")
	coverage := new(foyerv1.Coverage)
	n, err := pages(at, c.Limit, "sockets", func(token string, size int32) (int, string, error) {
		got, err := call(ctx, at, client.ListSockets, &foyerv1.ListSocketsRequest{Target: c.target(), View: view, PageSize: size, PageToken: token})
		if err != nil {
			return 0, "", err
		}
		if c.json() {
			err = printLines(sys, got.GetSockets()...)
		} else {
			for _, s := range got.GetSockets() {
				if err = t.add(cells(s.GetId(), s.GetNodeId(), s.GetTransport(), since(s.GetConnectedAt()), s.GetUserId(), strings.Join(s.GetRooms(), " "))...); err != nil {
					break
				}
			}
			if err == nil {
				err = t.flush()
			}
		}
		widen(coverage, got.GetCoverage())
		return len(got.GetSockets()), got.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	return at.listed(n, coverage, "the target matches no socket")
}

// listed is how a list ends. One without those who cannot be counted is not whole.
func (c *caller) listed(n int, coverage *foyerv1.Coverage, nobody string) error {
	without := ""
	if servers := coverage.GetUncountedNodes(); servers > 0 {
		without = "the list is without what is at " + count(int(servers), "Socket.IO server") + " on Node"
		coverage.UncountedNodes = 0 // told so
	}
	if without == "" && missing(coverage) == "" && n == 0 {
		return failure(Nobody, "%s", nobody)
	}
	return c.verdict(1, coverage, without)
}

// disconnectCommand ends sockets.
type disconnectCommand struct {
	target
	Mode string `env:"-" default:"namespace" enum:"namespace,connection,transport" placeholder:"MODE" help:"namespace: they leave it, and their links stay. connection: their links are closed, with all namespaces, and the clients stay away. transport: their links are closed as by a lost network, and the clients come back. Default ${default}."`
	format
	connection
}

var modes = map[string]foyerv1.DisconnectMode{
	"namespace":  foyerv1.DisconnectMode_DISCONNECT_MODE_NAMESPACE,
	"connection": foyerv1.DisconnectMode_DISCONNECT_MODE_CONNECTION,
	"transport":  foyerv1.DisconnectMode_DISCONNECT_MODE_TRANSPORT,
}

// Run disconnects them.
func (c *disconnectCommand) Run(ctx context.Context, k *kong.Context, sys *System) error {
	return change(ctx, k, sys, &c.connection, c.format, "disconnected", &foyerv1.DisconnectSocketsRequest{Target: c.target.target(), Mode: modes[c.Mode]},
		func(conn *grpc.ClientConn) rpc[*foyerv1.DisconnectSocketsRequest, *foyerv1.DisconnectSocketsResponse] {
			return foyerv1.NewSocketServiceClient(conn).DisconnectSockets
		})
}

// socketCommand shows one socket.
type socketCommand struct {
	ID        string `arg:"" name:"id" help:"Its id, 20 characters."`
	Namespace string `short:"n" env:"-" placeholder:"NAME" help:"Its namespace. Default /."`
	format
	connection
}

// Run prints it.
func (c *socketCommand) Run(ctx context.Context, k *kong.Context, sys *System) error {
	at, err := c.open(k, sys)
	if err != nil {
		return err
	}
	defer at.close()
	got, err := call(ctx, at, foyerv1.NewSocketServiceClient(at.conn).GetSocket, &foyerv1.GetSocketRequest{
		Namespace: c.Namespace, SocketId: c.ID, View: foyerv1.SocketView_SOCKET_VIEW_FULL,
	})
	if err != nil {
		return err
	}
	s := got.GetSocket()
	if c.json() {
		return printLines(sys, s)
	}
	t := sys.table("SOCKET", s.GetId())
	add := func(name, text string) {
		if err == nil {
			err = t.add(cells(name, text)...)
		}
	}
	add("namespace", s.GetNamespace())
	add("node", s.GetNodeId())
	add("user", s.GetUserId())
	add("rooms", strings.Join(s.GetRooms(), " "))
	add("transport", s.GetTransport())
	add("for", since(s.GetConnectedAt()))
	add("session", s.GetSessionId())
	add("generation", strconv.FormatUint(s.GetGeneration(), 10))
	h := s.GetHandshake()
	add("address", h.GetAddress())
	add("url", h.GetUrl())
	for _, name := range slices.Sorted(maps.Keys(h.GetHeaders())) {
		add("header "+name, h.GetHeaders()[name])
	}
	for _, name := range slices.Sorted(maps.Keys(s.GetData().GetFields())) {
		text, e := line(s.GetData().GetFields()[name])
		if e != nil {
			return e
		}
		add("data "+name, strings.TrimSpace(string(text)))
	}
	if err != nil {
		return err
	}
	return t.flush()
}
