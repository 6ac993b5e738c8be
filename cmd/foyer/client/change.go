package client

import (
	"context"

	"github.com/alecthomas/kong"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	foyerv1 "foyer/gen/foyer/v1"
)

// rpc is a call of the API.
type rpc[Q, A any] = func(context.Context, Q, ...grpc.CallOption) (A, error)

// changed is the answer of a call that does something to the sockets of a target.
type changed interface {
	proto.Message
	GetMatched() int32
	GetCoverage() *foyerv1.Coverage
}

// change does something to the sockets of a target, and prints how many these were. What it has done is said as "joined
// r1".
func change[Q any, A changed](
	ctx context.Context, k *kong.Context, sys *System, c *connection, f format, what string, q Q, do func(*grpc.ClientConn) rpc[Q, A],
) error {
	at, err := c.open(k, sys)
	if err != nil {
		return err
	}
	defer at.close()
	got, err := call(ctx, at, do(at.conn), q)
	if err != nil {
		return err
	}
	if f.json() {
		err = printLines(sys, got)
	} else {
		err = sys.print([]byte(count(int(got.GetMatched()), "socket") + " " + what + ".\n"))
	}
	if err != nil {
		return err
	}
	return at.verdict(got.GetMatched(), got.GetCoverage())
}
