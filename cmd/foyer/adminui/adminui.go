package adminui

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	foyerv1 "foyer/gen/foyer/v1"
)

// Namespace is the one that the pages connect to, in the hall of the operators.
const Namespace = "/admin"

const (
	maxSaid = 256
	// Commands wait until earlier ones of the same operator are carried out. At most maxCommands of one operator wait, and
	// at most maxAllCommands of all operators. The panel drops a command that comes when either number is reached.
	maxCommands    = 16
	maxAllCommands = 256
	maxLine        = 6 << 20 // bytes of arguments
	again          = time.Second
)

// Config is what Run needs.
type Config struct {
	Hall grpc.ClientConnInterface // the API of the hall
	API  grpc.ClientConnInterface // the API of the node that is shown
	// Users are those who may log in with a password. They may change at any time.
	Users *Users
	// Token says whether a word is a token of the API, which is as good as a password. Default: none is.
	Token func(word string) bool
	// ReadOnly keeps all operators from changing anything.
	ReadOnly bool
	// Namespaces returns the namespaces in use on this node, at most so many.
	Namespaces func(most int) []string
	// Links returns the numbers of the links of this node. It may take some ms, and is called every 2 s.
	Links func() Links
	// Hostname and PID are what the pages show of this node.
	Hostname string
	PID      int
	Log      *zap.Logger
	Told     *zap.Logger // for what strangers can cause at any rate
	// Count is called for each login that is refused and each page that is closed, with ReasonLogin or ReasonSlow, from
	// any goroutine. Default: nobody counts them.
	Count func(reason string)
}

func (cfg *Config) count(reason string) {
	if cfg.Count != nil {
		cfg.Count(reason)
	}
}

// panel is the server side of all pages. Run owns it.
type panel struct {
	cfg      Config
	hall     foyerv1.HandlerService_AttachClient
	logins   logins
	attempts attempts
	ops      map[string]*operator // by socket id
	said     chan said
	turn     chan *attempt // the one whose password is to be checked
	decided  chan decision
	pending  atomic.Int64 // commands of all operators that are not done yet
	helpers  sync.WaitGroup
	ctx      context.Context //nolint:containedctx // that of the stream to the hall; a panel lives as long as it
	watch    *watch          // nil: no operator is there
}

// said is an event for one page or for all.
type said struct {
	to    string // a socket id; "": all
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

// serve opens a stream to the hall and serves the pages until it ends.
func serve(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithCancel(ctx)
	hall, err := foyerv1.NewHandlerServiceClient(cfg.Hall).Attach(ctx)
	if err != nil {
		cancel()
		return err
	}
	p := &panel{
		cfg: cfg, hall: hall, logins: logins{map[string]session{}}, ops: map[string]*operator{}, said: make(chan said, maxSaid), turn: make(chan *attempt), decided: make(chan decision), ctx: ctx,
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
	p.helpers.Go(func() { p.check(ctx) })
	err = p.run(heard, failed)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// run handles what comes until the stream to the hall ends. It never waits for a page.
func (p *panel) run(heard <-chan *foyerv1.AttachResponse, failed <-chan error) (err error) {
	patience := time.NewTimer(0)
	defer patience.Stop()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for err == nil {
		next, turn := p.attempts.next(), p.turn
		if next == nil {
			turn = nil
		} else {
			patience.Reset(time.Until(p.attempts.impatient().until))
		}
		select {
		case m := <-heard:
			err = p.take(m)
		case turn <- next:
			p.attempts.remove(next)
		case <-patience.C:
			if late := p.attempts.impatient(); late != nil && !time.Now().Before(late.until) {
				p.attempts.remove(late)
				err = p.leave(late)
			}
		case d := <-p.decided:
			err = p.decide(d)
		case s := <-p.said:
			p.tell(s)
		case <-tick.C:
			p.closeGone()
		case err = <-failed:
		}
	}
	return err
}

// closeGone closes the pages of operators whose password or token holds no more.
func (p *panel) closeGone() {
	for _, op := range p.ops {
		if op.end != nil && !p.cfg.holds(op.account) {
			op.end(errGone)
		}
	}
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

// take handles one message of the hall.
func (p *panel) take(m *foyerv1.AttachResponse) error {
	switch m := m.GetMessage().(type) {
	case *foyerv1.AttachResponse_Connect:
		return p.look(m.Connect)
	case *foyerv1.AttachResponse_Connected:
		p.welcome(m.Connected.GetSocket())
	case *foyerv1.AttachResponse_Disconnected:
		p.farewell(m.Disconnected.GetSocket().GetId())
	case *foyerv1.AttachResponse_Event:
		p.event(m.Event)
		return p.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Handled{Handled: &foyerv1.Handled{UpTo: m.Event.GetCallId()}}})
	}
	return nil
}

// welcome sends a page what it needs at first, in the order in which it needs that.
func (p *panel) welcome(s *foyerv1.Socket) {
	op := p.ops[s.GetId()]
	if op == nil || op.end != nil {
		return // of an earlier stream: its page comes back when its link ends
	}
	p.start(op, s)
	if op.session != "" {
		p.tell(said{s.GetId(), "session", []any{op.session}})
		op.session = ""
	}
	p.tell(said{s.GetId(), "config", []any{map[string]any{"supportedFeatures": features(op.readOnly)}}})
	p.tell(said{"", "socket_connected", []any{op.object, stamp(time.Now())}})
	p.cfg.Log.Info("operator connected", zap.String("operator", op.name), zap.Bool("readonly", op.readOnly), zap.String("address", op.address))
	if p.watch == nil {
		p.watch = begin(p.ctx, p.cfg, p.said)
	}
	p.watch.ask(s.GetId()) // all_sockets follows when the list is complete; the page chooses its namespace from that list
}

func (p *panel) farewell(id string) {
	op := p.ops[id]
	if op == nil {
		return
	}
	delete(p.ops, id)
	op.stop()
	p.cfg.Log.Info("operator disconnected", zap.String("operator", op.name))
	if !p.attended() {
		p.endWatch()
		return
	}
	p.tell(said{"", "socket_disconnected", []any{Namespace, id, "transport close", stamp(time.Now())}})
}

// attended reports whether a page is connected. The length of ops does not answer this: a page that closed before it
// was connected stays in ops, since the hall does not report such a page.
func (p *panel) attended() bool {
	for _, op := range p.ops {
		if op.end != nil {
			return true
		}
	}
	return false
}

func (p *panel) endWatch() {
	if p.watch != nil {
		p.watch.end(p.said)
		p.watch = nil
	}
}

// objects returns the operators' own sockets. They are sent with the sockets of the node, because a page lists only
// those namespaces in which it has seen a socket, and the operators are in Namespace.
func (p *panel) objects() []socketObject {
	list := make([]socketObject, 0, len(p.ops))
	for _, op := range p.ops {
		if op.object.ID != "" {
			list = append(list, op.object)
		}
	}
	return list
}

// tell queues an event for one page, or for all pages when it names none. It does not block. A page whose outbox is
// full is closed.
func (p *panel) tell(s said) {
	list, ok := s.args[0].([]socketObject) // of all_sockets: a page forgets the sockets that are not in it
	if ok {
		s.args[0] = append(p.objects(), list...)
	}
	raw, err := encode(s.args)
	for ; ok && len(raw) > maxLine && len(list) > 0; raw, err = encode(s.args) { // escapes can make a text six times as long
		list = list[:len(list)/2]
		s.args[0] = append(p.objects(), list...)
	}
	if err != nil {
		p.cfg.Told.Error("an event for operators cannot be written", zap.String("event", s.event), zap.NamedError("err", err))
		return
	}
	l := line{s.event, raw}
	for id, op := range p.ops {
		if op.end != nil && (s.to == "" || s.to == id) && !op.lines.put(l) {
			op.end(errSlow)
		}
	}
}

// encode writes arguments as JSON.
func encode(args []any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(args)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// features lists what a page may show and do, in the words of the Admin UI.
func features(readOnly bool) []string {
	if readOnly {
		return []string{"AGGREGATED_EVENTS", "ALL_EVENTS"}
	}
	return []string{"EMIT", "JOIN", "LEAVE", "DISCONNECT", "MJOIN", "MLEAVE", "MDISCONNECT", "AGGREGATED_EVENTS", "ALL_EVENTS"}
}
