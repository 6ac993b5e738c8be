package adminui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	foyerv1 "foyer/gen/foyer/v1"
)

// Namespace is that of the pages in the hall of the operators.
const Namespace = "/admin"

const (
	maxOutbox   = 256
	maxCommands = 64 // that wait for those before them; more are not carried out
	again       = time.Second
)

// Config is what Run needs.
type Config struct {
	Hall grpc.ClientConnInterface // the API of the hall
	API  grpc.ClientConnInterface // the API of the node that is shown
	// Users are those who may log in with a password. It may change.
	Users *Users
	// Token says whether a word is a token of the API, which is as good as a password. Default: none is.
	Token func(word string) bool
	// ReadOnly keeps all operators from changing anything.
	ReadOnly bool
	// Namespaces are those in use on this node, at most so many.
	Namespaces func(most int) []string
	// Hostname and PID are told of this node.
	Hostname string
	PID      int
	Log      *zap.Logger
	Told     *zap.Logger // for what strangers can cause at any rate
	// Refused is called for each login that is refused. Default: nobody counts them.
	Refused func()
}

// panel is the server side of all pages. Run owns it.
type panel struct {
	cfg      Config
	hall     foyerv1.HandlerService_AttachClient
	logins   *logins
	ops      map[string]*operator // by socket id
	outbox   chan said
	decided  chan decision
	commands chan command
	helpers  sync.WaitGroup
	ctx      context.Context //nolint:containedctx // that of one stream to the hall, which is what a panel lives for
	watch    *watch          // nil: no operator is there
}

// operator is a page that is in, or about to be.
type operator struct {
	name     string
	readOnly bool
	session  string // to be told once it is connected; "": it has shown one
	object   socketObject
}

// said is an event for the pages: of one socket, or of all ("").
type said struct {
	to    string
	event string
	args  []any
}

// Run serves the pages until ctx ends; when the hall's API is away, it tries again. It returns nil.
func Run(ctx context.Context, cfg Config) error {
	for ctx.Err() == nil {
		if err := serve(ctx, cfg); err != nil && ctx.Err() == nil {
			cfg.Log.Warn("the pages of operators are not served", zap.NamedError("err", err))
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
		}
	}
	return nil
}

// serve is one stream to the hall.
func serve(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithCancel(ctx)
	hall, err := foyerv1.NewHandlerServiceClient(cfg.Hall).Attach(ctx)
	if err != nil {
		cancel()
		return err
	}
	p := &panel{
		cfg: cfg, hall: hall, logins: newLogins(&cfg), ops: map[string]*operator{}, outbox: make(chan said, maxOutbox),
		decided: make(chan decision), commands: make(chan command, maxCommands), ctx: ctx,
	}
	defer func() {
		cancel()
		p.endWatch()
		p.helpers.Wait()
	}()
	err = p.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{
		Namespaces: []string{Namespace}, Group: "pages", DecideConnects: true, SocketView: foyerv1.SocketView_SOCKET_VIEW_FULL,
	}}})
	if err != nil {
		return err
	}
	heard := make(chan *foyerv1.AttachResponse)
	failed := make(chan error, 1)
	p.helpers.Go(func() { failed <- receive(ctx, hall, heard) })
	p.helpers.Go(p.carryOut)
	for err == nil {
		select {
		case m := <-heard:
			err = p.take(m)
		case d := <-p.decided:
			err = p.decide(d)
		case s := <-p.outbox:
			err = p.tell(s)
		case err = <-failed:
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func receive(ctx context.Context, hall foyerv1.HandlerService_AttachClient, to chan<- *foyerv1.AttachResponse) error {
	for {
		m, err := hall.Recv()
		if err != nil {
			return err
		}
		select {
		case to <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *panel) send(m *foyerv1.AttachRequest) error { return p.hall.Send(m) }

// take does what the hall tells.
func (p *panel) take(m *foyerv1.AttachResponse) error {
	switch m := m.GetMessage().(type) {
	case *foyerv1.AttachResponse_Connect:
		p.look(m.Connect)
	case *foyerv1.AttachResponse_Connected:
		return p.welcome(m.Connected.GetSocket())
	case *foyerv1.AttachResponse_Disconnected:
		return p.farewell(m.Disconnected.GetSocket().GetId())
	case *foyerv1.AttachResponse_Event:
		p.event(m.Event)
		return p.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Handled{Handled: &foyerv1.Handled{UpTo: m.Event.GetCallId()}}})
	}
	return nil
}

// welcome tells a page what it begins with, in the order that it needs.
func (p *panel) welcome(s *foyerv1.Socket) error {
	op := p.ops[s.GetId()]
	if op == nil {
		return nil // of an earlier stream: its page comes back when its link ends
	}
	op.object = objectOf(s)
	var list []said
	if op.session != "" {
		list = append(list, said{s.GetId(), "session", []any{op.session}})
		op.session = ""
	}
	list = append(list, said{s.GetId(), "config", []any{map[string]any{"supportedFeatures": features(op.readOnly)}}})
	list = append(list, said{"", "socket_connected", []any{op.object, stamp(time.Now())}})
	for _, one := range list {
		if err := p.tell(one); err != nil {
			return err
		}
	}
	p.cfg.Log.Info("operator connected", zap.String("operator", op.name), zap.Bool("readonly", op.readOnly),
		zap.String("address", s.GetHandshake().GetAddress()))
	if p.watch == nil {
		p.watch = begin(p.ctx, p.cfg, p.outbox)
	}
	p.watch.ask(s.GetId()) // it tells all_sockets once it has them: the page then takes the namespace that it shows from these
	return nil
}

func (p *panel) farewell(id string) error {
	op := p.ops[id]
	if op == nil {
		return nil
	}
	delete(p.ops, id)
	p.cfg.Log.Info("operator disconnected", zap.String("operator", op.name))
	if len(p.ops) == 0 {
		p.endWatch()
		return nil
	}
	return p.tell(said{"", "socket_disconnected", []any{Namespace, id, "transport close", stamp(time.Now())}})
}

func (p *panel) endWatch() {
	if p.watch != nil {
		p.watch.end(p.outbox)
		p.watch = nil
	}
}

// objects are the operators themselves, which a page counts among the sockets: it has to have one to show a namespace.
func (p *panel) objects() []socketObject {
	list := make([]socketObject, 0, len(p.ops))
	for _, op := range p.ops {
		if op.object.ID != "" {
			list = append(list, op.object)
		}
	}
	return list
}

// tell sends an event to the pages. Of many pages the one that does not read loses it; of a single one the hall waits for
// it for a while.
func (p *panel) tell(s said) error {
	if list, ok := s.args[0].([]socketObject); ok { // all_sockets, which forgets those that are not in it
		s.args[0] = append(list, p.objects()...)
	}
	raw, err := json.Marshal(s.args)
	if err != nil {
		return fmt.Errorf("write the event %s: %w", s.event, err)
	}
	target := &foyerv1.Target{Namespace: Namespace, All: s.to == ""}
	if s.to != "" {
		target.Rooms = []string{s.to}
	}
	return p.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Command{Command: &foyerv1.Command{
		Command: &foyerv1.Command_Emit{Emit: &foyerv1.EmitRequest{
			Target: target, Payload: &foyerv1.Payload{Event: s.event, Args: &foyerv1.Payload_Json{Json: string(raw)}},
		}},
	}}})
}

// features are what a page may show and do.
func features(readOnly bool) []string {
	if readOnly {
		return []string{"AGGREGATED_EVENTS", "ALL_EVENTS"}
	}
	return []string{"EMIT", "JOIN", "LEAVE", "DISCONNECT", "MJOIN", "MLEAVE", "MDISCONNECT", "AGGREGATED_EVENTS", "ALL_EVENTS"}
}
