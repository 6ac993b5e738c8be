package grpcapi

import (
	"context"

	"foyer/service"
)

// node is what this package calls of the service: a Node, but for the types of handlers, watchers and acks.
//
// For all of its methods: any goroutine may call them, and many at once, with no lock held that a link, a handler or a
// watcher could need. What blocks ends at the latest when ctx does. Requests are valid and are copied or only read,
// unless it says otherwise; what is returned is the caller's, but the slices and maps inside of it are shared and not
// to be changed. An error means that nothing was done; other nodes that an answer does not speak for are in its
// coverage and are no error. Errors are those of ctx, or a *service.Error; the words of an Error that can be told apart
// are named.
type node interface {
	asked
	// CollectAcks delivers an event and blocks as Emit does, for the other nodes' counts too; the answers come by the
	// acks, which the caller has to finish. matched is how many recipients there are, with those elsewhere. More than
	// limit, if it is not 0: TOO_MANY_RECIPIENTS. INVALID_PAYLOAD as Emit.
	CollectAcks(ctx context.Context, e service.Emit, limit int) (a acks, matched int, err error)
	// ServerSideEmit calls told on the caller's goroutine once the event is with everybody, before it waits for replies.
	// from stands for e.From; nil: none. It blocks until all replies are there, e.Timeout is over or ctx ends. A handler
	// that has not replied is missing, and that is no error.
	ServerSideEmit(ctx context.Context, from handler, e service.ServerSideEmit, told func()) (service.ServerSideResult, error)
	// Watch begins to follow a scope; ctx is for the beginning only, and the caller has to close the watcher.
	// INVALID_TOKEN: the token is of another scope or none of ours. LIMIT_REACHED: too many watchers, or namespaces.
	// DRAINING.
	Watch(ctx context.Context, s service.Scope, token string) (watcher, error)
	// Attach makes a handler, which the caller has to detach. It blocks until the other nodes have agreed to the claim;
	// those that have not are in the coverage. The registration's lists are copied. ALREADY_CLAIMED, LIMIT_REACHED,
	// DRAINING.
	Attach(ctx context.Context, r service.Registration) (handler, service.Coverage, error)
}

// asked is the part of node that has no types of this package.
type asked interface {
	// Emit delivers an event, and waits for the other nodes' part of the receipt unless e.Accepted. An event whose only
	// recipient has a full link waits until there is room, or ctx ends: that is no error. The receiver keeps the packet,
	// and nobody changes it any more. INVALID_PAYLOAD: a parser cannot say it.
	Emit(ctx context.Context, e service.Emit) (service.Receipt, error)
	// EmitBatch is Emit for events in their order, with a receipt or its Err for each. It waits no longer than
	// Config.HoldStream for a link, from when that became full, and for other nodes at the end, for all events
	// together. The list is the caller's again when it returns, the packets as with Emit.
	EmitBatch(ctx context.Context, emits []service.Emit) []service.Receipt
	// Join and Leave return when an emit that follows finds the rooms as they are then. Nobody's rooms are changed by
	// Join if one would be in too many: LIMIT_REACHED. Names are copied.
	Join(ctx context.Context, t service.Target, rooms []string) (int, service.Coverage, error)
	Leave(ctx context.Context, t service.Target, rooms []string) (int, service.Coverage, error)
	// Disconnect returns when the sockets of the target are on their way out; those that come meanwhile stay.
	Disconnect(ctx context.Context, t service.Target, mode service.DisconnectMode) (int, service.Coverage, error)
	// Room tells the size of a room; of none, or an unknown namespace, 0.
	Room(ctx context.Context, namespace, room string) (size int, c service.Coverage, err error)
	// Rooms is a page of rooms by name. One that is there throughout is listed once.
	Rooms(ctx context.Context, r service.RoomsRequest) (service.RoomsPage, error)
	// Socket is what is known of one socket. One node is asked, so there is no coverage: SOCKET_NOT_FOUND, also in an
	// unknown namespace, or NODE_UNREACHABLE when that node does not answer.
	Socket(ctx context.Context, namespace string, id service.SocketID) (service.SocketInfo, error)
	// Update changes a socket's notes and returns it as it is then. The update's JSON is kept: the caller does not
	// change it any more. Errors as Socket, and INVALID_FIELD (merge_data is no object), PAYLOAD_TOO_LARGE,
	// LIMIT_REACHED (no memory). With NODE_UNREACHABLE, and with that alone, it may have been done.
	Update(ctx context.Context, namespace string, id service.SocketID, u service.Update) (service.SocketInfo, error)
	// Sockets is a page of the sockets of a target. One that is there throughout is listed once. INVALID_TOKEN: the
	// place is of a node that nobody knows.
	Sockets(ctx context.Context, t service.Target, r service.PageRequest) (service.Page, error)
	// Explain says whom an emit would reach and why not the others, and changes nothing. A socket or user that is asked
	// for and is not known is told as such: that is no error.
	Explain(ctx context.Context, r service.ExplainRequest) (service.Explanation, error)
	// Handlers is a page of the handlers. One that is attached throughout is listed once. INVALID_TOKEN: the place is of a
	// node that nobody knows.
	Handlers(ctx context.Context, r service.HandlersRequest) (service.HandlersPage, error)
	// Info, Config and Nodes never block. Config is the same for the node's life. Nodes are those of the cluster by
	// name, with this one.
	Info() service.Info
	Config() service.Config
	Nodes() []service.NodeStatus
}

// acks is what waits for acknowledgements: see service.Acks. For one goroutine.
type acks interface {
	// Next blocks until further outcomes are there, ctx ends, or the wait does: io.EOF after the last of them, TOO_SLOW
	// when more had come than may wait. Outcomes, with their payloads, are the caller's.
	Next(ctx context.Context) ([]service.AckOutcome, error)
	// Finish ends the wait and returns what was not taken: a recipient that has not answered has timed out. It never
	// blocks, and may be called again.
	Finish() []service.AckOutcome
	// Coverage says which nodes the recipients and outcomes do not speak for; after Finish it changes no more.
	Coverage() service.Coverage
}

// watcher is what a watch calls: see service.Watcher.
type watcher interface {
	// Next blocks until there is a step, ctx ends, or the watch does: TOO_SLOW, DRAINING (with a last bookmark beside
	// the error), LIMIT_REACHED (no memory). For one goroutine. A step is good until the next call.
	Next(ctx context.Context) (service.WatchStep, error)
	// Done is closed when the watch is over though nobody calls Next.
	Done() <-chan struct{}
	// Close ends the watch, once. A call of Next may be on its way, with a ctx that has ended.
	Close()
}

// handler is what a handler stream calls: see service.Handler. All but Next may be called by any goroutine, and only
// Drain and Detach take time: they go over all sockets of the registration. Unknown call ids are ignored and counted.
type handler interface {
	ID() string
	MaxInFlight() int
	// Done is closed when the node ends the handler though nobody calls Next.
	Done() <-chan struct{}
	// Next appends to buf[:0] what the handler is to be told, in order. It blocks until there is something, ctx ends or
	// the handler does: io.EOF after Drain, once all is answered; REPLACED, TOO_SLOW, DRAINING. For one goroutine.
	// Notices are shared and not to be changed.
	Next(ctx context.Context, buf []service.Notice) ([]service.Notice, error)
	// Decide answers a connect. The decision's lists and JSON are kept: the caller does not change them any more.
	Decide(callID uint64, d service.Decision)
	// Reply frees the slot of an event and acknowledges it, if the client wants that and payload is not nil. payload
	// and attachments are read before it returns.
	Reply(callID uint64, payload []byte, attachments [][]byte)
	// Handled frees the slots of all events up to one that want no acknowledgement.
	Handled(upTo uint64)
	// Drain gives the sockets to others; what is in flight may still be answered. Detach ends the handler for good:
	// what is in flight is lost and counted. It may be called again, and after Drain.
	Drain()
	Detach()
	// Post appends v to what Next returns, as a notice of kind NoticePosted; false: the handler has ended, and Next
	// says why.
	Post(v any) bool
}

// Node is what the API is of: a *service.Node, or what stands for all nodes of a cluster. Its methods are those of
// node, with the service's types.
type Node interface {
	asked
	CollectAcks(ctx context.Context, e service.Emit, limit int) (*service.Acks, error)
	ServerSideEmit(ctx context.Context, e service.ServerSideEmit) (service.ServerSideResult, error)
	Watch(ctx context.Context, s service.Scope, token string) (*service.Watcher, error)
	Attach(ctx context.Context, r service.Registration) (*service.Handler, service.Coverage, error)
}

// serviceNode is a Node with the types of this package.
type serviceNode struct{ Node }

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

func (n serviceNode) Watch(ctx context.Context, s service.Scope, token string) (watcher, error) {
	w, err := n.Node.Watch(ctx, s, token)
	if err != nil {
		return nil, err // and no typed nil
	}
	return w, nil
}

func (n serviceNode) Attach(ctx context.Context, r service.Registration) (handler, service.Coverage, error) {
	h, coverage, err := n.Node.Attach(ctx, r)
	if err != nil {
		return nil, coverage, err
	}
	return h, coverage, nil
}
