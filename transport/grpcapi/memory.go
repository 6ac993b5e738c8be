package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"net"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn" // its package is for tests by its name, and a pipe with deadlines by what it does
)

// memoryBytes is what a connection in memory holds in each direction.
const memoryBytes = 64 << 10

// Memory is a listener in memory, by which other parts of the process call the API as any client does, without TLS.
type Memory struct{ lis *bufconn.Listener }

// NewMemory makes a listener. ServeMemory closes it.
func NewMemory() *Memory { return &Memory{bufconn.Listen(memoryBytes)} }

// Dial opens a connection. It waits until it is accepted, or ctx ends.
func (m *Memory) Dial(ctx context.Context) (net.Conn, error) { return m.lis.DialContext(ctx) }

// Close ends all that waits for a connection.
func (m *Memory) Close() { _ = m.lis.Close() }

// ServeMemory answers calls of connections in memory until Shutdown or Stop, which make it return nil.
func (s *Server) ServeMemory(m *Memory) error {
	if err := s.grpc.Serve(gateListener{m.lis, s.gate}); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve gRPC in memory: %w", err)
	}
	return nil
}

// ClientAddress is the metadata in which a call by a connection in memory tells the address of the client for whom it
// is made, without the port. The log names that client, and without tokens it is the caller. Of other connections
// nobody believes it.
const ClientAddress = "foyer-client-address"

// memoryNetwork is what bufconn calls itself.
const memoryNetwork = "bufconn"

func inMemory(c net.Conn) bool { return isMemory(c.RemoteAddr()) }

func isMemory(addr net.Addr) bool { return addr.Network() == memoryNetwork }

// madeFor is the admission of a call by a connection in memory, once it is known for whom the call is made.
func (a *admission) madeFor(ctx context.Context, open bool) *admission {
	told := metadata.ValueFromIncomingContext(ctx, ClientAddress)
	if len(told) != 1 || told[0] == "" {
		return a
	}
	of := *a
	of.address = told[0]
	if open {
		of.caller = of.address
	}
	return &of
}

// Admit says what is wrong with the authorization of a call that is about to come by a connection in memory, as a
// status. A caller without a known token must not take part in a connection that others share. Admit counts and logs a
// refusal as that of a connection of its own.
func (s *Server) Admit(ctx context.Context, method string, authorization []string, address string) error {
	if s.gate.open {
		return nil
	}
	a := s.auth.Load().admit(metadata.NewIncomingContext(ctx, metadata.MD{"authorization": authorization}), method)
	if a.refused == nil && !a.nobody {
		return nil
	}
	if a.nobody { // of health, which is not for this way in
		a = noToken
	}
	s.gate.refuse(refusedCalls, address, a.refused.Error(), zap.String("method", cut(method)))
	return a.status
}
