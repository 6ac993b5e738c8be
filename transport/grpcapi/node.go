package grpcapi

import (
	"context"
	"time"

	"foyer/service"
)

// node is what this package calls of the service. *service.Node is one, but for the types that Watch and Attach return.
type node interface {
	Emit(ctx context.Context, e service.Emit) (service.Receipt, error)
	EmitWithAck(ctx context.Context, e service.Emit, timeout time.Duration, limit int) (service.AckResult, error)
	Join(ctx context.Context, t service.Target, rooms []string) (int, service.Coverage, error)
	Leave(ctx context.Context, t service.Target, rooms []string) (int, service.Coverage, error)
	Disconnect(ctx context.Context, t service.Target, mode service.DisconnectMode) (int, service.Coverage, error)
	Socket(namespace string, id service.SocketID) (service.SocketInfo, bool)
	Sockets(ctx context.Context, t service.Target, cursor uint64, limit int, more func(*service.SocketInfo) bool) (service.Page, error)
	Info() service.Info
	Config() service.Config
	Watch(s service.Scope, token string) (watcher, error)
	Attach(r service.Registration) (handler, error)
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
