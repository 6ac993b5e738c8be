package grpcapi

import (
	"context"

	"foyer/service"
)

// node is what this package calls of the service. *service.Node is one, but for the types of handlers, watchers and acks.
type node interface {
	Emit(ctx context.Context, e service.Emit) (service.Receipt, error)
	EmitBatch(ctx context.Context, emits []service.Emit) []service.Receipt
	// CollectAcks also tells how many recipients there are.
	CollectAcks(ctx context.Context, e service.Emit, limit int) (a acks, matched int, err error)
	// ServerSideEmit calls told once the event is with everybody and only replies are waited for; never, when none are. from
	// stands for e.From; nil: none.
	ServerSideEmit(ctx context.Context, from handler, e service.ServerSideEmit, told func()) (service.ServerSideResult, error)
	Join(ctx context.Context, t service.Target, rooms []string) (int, service.Coverage, error)
	Leave(ctx context.Context, t service.Target, rooms []string) (int, service.Coverage, error)
	Disconnect(ctx context.Context, t service.Target, mode service.DisconnectMode) (int, service.Coverage, error)
	Room(ctx context.Context, namespace, room string) (size int, c service.Coverage, err error)
	Rooms(ctx context.Context, namespace, prefix, after string, limit int) (list []service.RoomInfo, more bool, c service.Coverage, err error)
	Socket(namespace string, id service.SocketID) (service.SocketInfo, bool)
	Update(namespace string, id service.SocketID, u service.Update) (service.SocketInfo, error)
	Sockets(ctx context.Context, t service.Target, cursor uint64, limit int, more func(*service.SocketInfo) bool) (service.Page, error)
	Info() service.Info
	Config() service.Config
	Watch(s service.Scope, token string) (watcher, error)
	Attach(r service.Registration) (handler, error)
}

// acks is what waits for acknowledgements: see service.Acks.
type acks interface {
	Next(ctx context.Context) ([]service.AckOutcome, error)
	Finish() []service.AckOutcome
}

// watcher is what a watch calls: see service.Watcher.
type watcher interface {
	Next(ctx context.Context) (service.WatchStep, error)
	Done() <-chan struct{}
	Close()
}

// handler is what a handler stream calls: see service.Handler.
type handler interface {
	ID() string
	MaxInFlight() int
	Done() <-chan struct{}
	Next(ctx context.Context, buf []service.Notice) ([]service.Notice, error)
	Decide(callID uint64, d service.Decision)
	Reply(callID uint64, payload []byte, attachments [][]byte)
	Handled(upTo uint64)
	Drain()
	Detach()
	// Post appends v to what Next returns, as a notice of kind NoticePosted; false: the handler
	// has ended, and Next says why.
	Post(v any) bool
}

// serviceNode is the real one.
type serviceNode struct{ *service.Node }

func (n serviceNode) CollectAcks(ctx context.Context, e service.Emit, limit int) (acks, int, error) {
	a, err := n.Node.CollectAcks(ctx, e, limit)
	if err != nil {
		return nil, 0, err
	}
	return a, a.Matched, nil
}

func (n serviceNode) ServerSideEmit(ctx context.Context, from handler, e service.ServerSideEmit, told func()) (service.ServerSideResult, error) {
	e.From, _ = from.(*service.Handler)
	e.Told = told
	return n.Node.ServerSideEmit(ctx, e)
}

func (n serviceNode) Watch(s service.Scope, token string) (watcher, error) {
	w, err := n.Node.Watch(s, token)
	if err != nil {
		return nil, err // and no typed nil
	}
	return w, nil
}

func (n serviceNode) Attach(r service.Registration) (handler, error) {
	h, err := n.Node.Attach(r)
	if err != nil {
		return nil, err
	}
	return h, nil
}
