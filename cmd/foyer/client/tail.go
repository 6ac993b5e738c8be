package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alecthomas/kong"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	foyerv1 "foyer/gen/foyer/v1"
)

const (
	// Bounds of what waits to be printed. The rest is left out, so that the node never waits.
	tailItems = 1024
	tailBytes = 16 << 20
	// The node may have so many copies on the way to a tail.
	tailInFlight = 1024
	tellEvery    = 5 * time.Second
)

// tailCommand shows what browsers send, as they send it. It is an observer handler: it gets copies, and no client ever
// waits for it.
type tailCommand struct {
	Namespace string   `short:"n" env:"-" group:"Whom" placeholder:"NAME" help:"The namespace; NAME* is all that begin so. Default /."`
	Local     bool     `env:"-" group:"Whom" help:"Of the node that is asked alone."`
	Socket    []string `env:"-" group:"Whom" placeholder:"ID" help:"What this socket sends; again for more. Default: all."`
	Event     []string `env:"-" group:"Whom" sep:"none" placeholder:"NAME" help:"Events of this name; again for more. Default: all."`
	Every     int      `env:"-" default:"1" placeholder:"N" help:"One of so many. Default ${default}: each."`
	Rate      int      `env:"-" default:"100" placeholder:"N" help:"So many a second at most; 0: any number. Default ${default}."`
	Payloads  bool     `env:"-" help:"Show the arguments too. Default: how large they are."`
	live
	format
	connection
}

// Validate is called by kong.
func (c *tailCommand) Validate() error {
	if c.Every < 1 {
		return fmt.Errorf("--every: %d is not above zero", c.Every)
	}
	if c.Rate < 0 {
		return fmt.Errorf("--rate: %d is below zero", c.Rate)
	}
	return nil
}

// Run prints events until ctx ends, and then how many it has left out.
func (c *tailCommand) Run(ctx context.Context, k *kong.Context, sys *System) error {
	at, err := c.open(k, sys)
	if err != nil {
		return err
	}
	defer at.close()
	before := at.observerDrops(ctx)
	if before >= 0 { // the node answers
		at.tellEmpty(ctx, c.Namespace, c.Local)
	}
	q := &tailQueue{command: c, more: make(chan struct{}, 1)}
	printed := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel() // nobody takes what comes any more
		printed <- q.print(ctx, sys)
	}()
	err = c.keep(ctx, at, func(ctx context.Context, heard func()) error { return c.follow(ctx, at, q, heard) })
	cancel()
	if e := <-printed; e != nil {
		err = e
	}
	q.tell(sys)
	if lost := at.observerDrops(context.WithoutCancel(ctx)) - before; before >= 0 && lost > 0 {
		sys.note(fmt.Sprintf("the node did not send %d copies meanwhile, to this one or to other observers that were too slow", lost))
	}
	return err
}

// observerDrops is how many copies for observers the node has dropped; -1: it does not say.
func (c *caller) observerDrops(ctx context.Context) int64 {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	info, err := foyerv1.NewNodeServiceClient(c.conn).GetInfo(ctx, &foyerv1.GetInfoRequest{})
	if err != nil {
		return -1
	}
	return info.GetDropped()["observer_slow"]
}

// follow receives on one stream. It answers each event before it does anything with it.
func (c *tailCommand) follow(ctx context.Context, at *caller, q *tailQueue, heard func()) error {
	stream, err := foyerv1.NewHandlerServiceClient(at.conn).Attach(ctx)
	if err != nil {
		return err
	}
	namespace := c.Namespace
	if namespace == "" {
		namespace = "/"
	}
	register := &foyerv1.Register{
		Namespaces: []string{namespace}, Group: "foyer-tail-" + rand.Text()[:12], Observer: true, Events: c.Event,
		MaxInFlight: tailInFlight, SocketView: foyerv1.SocketView_SOCKET_VIEW_REF, Local: c.Local,
	}
	// An error of Send is told by Recv, with its reason.
	_ = stream.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: register}})
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		heard()
		if m.GetRegistered() != nil {
			q.begin()
		}
		if m.GetDraining() != nil {
			return status.Error(codes.Unavailable, "the node is going down")
		}
		if e := m.GetEvent(); e != nil {
			release(stream, e)
			q.add(e)
		}
	}
}

// release gives the place of an event back.
func release(stream grpc.BidiStreamingClient[foyerv1.AttachRequest, foyerv1.AttachResponse], e *foyerv1.Event) {
	m := &foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Handled{Handled: &foyerv1.Handled{UpTo: e.GetCallId()}}}
	if e.GetWantsAck() {
		m.Message = &foyerv1.AttachRequest_EventReply{EventReply: &foyerv1.EventReply{CallId: e.GetCallId()}}
	}
	_ = stream.Send(m)
}

// tailQueue is what waits to be printed, and how many were left out.
type tailQueue struct {
	command *tailCommand
	more    chan struct{} // has an item when there may be events

	// Guarded by mu.
	mu     sync.Mutex
	begun  bool // the node sends copies
	events []*foyerv1.Event
	bytes  int
	came   int       // events that are asked for
	second time.Time // that taken counts in
	taken  int
	// Left out: not their turn, more than may be shown a second, and more than could be printed.
	bySample, byRate, bySlow int
	told                     int // of those, when they were told
}

// add takes an event or leaves it out. It does not block.
func (q *tailQueue) add(e *foyerv1.Event) {
	c, now, bytes := q.command, time.Now(), proto.Size(e)
	if len(c.Socket) > 0 && !slices.Contains(c.Socket, e.GetSocket().GetId()) {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.came++
	if now.Sub(q.second) >= time.Second {
		q.second, q.taken = now, 0
	}
	switch {
	case q.came%c.Every != 0:
		q.bySample++
	case c.Rate > 0 && q.taken >= c.Rate:
		q.byRate++
	case len(q.events) >= tailItems || q.bytes+bytes > tailBytes && len(q.events) > 0:
		q.bySlow++
	default:
		q.taken++
		q.events = append(q.events, e)
		q.bytes += bytes
		q.wakeLocked()
	}
}

// begin has the headings printed, so that people see that it has begun.
func (q *tailQueue) begin() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.begun = true
	q.wakeLocked()
}

func (q *tailQueue) wakeLocked() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (q *tailQueue) take() (events []*foyerv1.Event, begun bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	events = q.events
	q.events, q.bytes = nil, 0
	return events, q.begun
}

// print prints what comes until ctx ends, and what is there then.
func (q *tailQueue) print(ctx context.Context, sys *System) error {
	heads := []string{"TIME", "SOCKET", "NAMESPACE", "EVENT", "SIZE"}
	if q.command.Payloads {
		heads = append(heads, "ARGUMENTS")
	}
	t := sys.table(heads...).numbers(4).least(12, 20, 9, 12, 8)
	tell := time.NewTicker(tellEvery)
	defer tell.Stop()
	for {
		ended := false
		select {
		case <-q.more:
		case <-tell.C:
			q.tell(sys)
		case <-ctx.Done():
			ended = true
		}
		events, begun := q.take()
		for _, e := range events {
			if err := q.show(sys, t, e); err != nil {
				return err
			}
		}
		if begun && !q.command.json() && (len(events) > 0 || !t.headed) {
			if err := t.flush(); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
	}
}

func (q *tailQueue) show(sys *System, t *table, e *foyerv1.Event) error {
	c, p := q.command, e.GetPayload()
	bytes := len(p.GetJson())
	for _, a := range p.GetAttachments() {
		bytes += len(a)
	}
	if c.json() {
		if !c.Payloads {
			e.Payload = &foyerv1.Payload{Event: p.GetEvent()}
		}
		return printLines(sys, e)
	}
	row := cells(clock(e.GetTime()), e.GetSocket().GetId(), e.GetSocket().GetNamespace(), p.GetEvent(), size(bytes))
	if c.Payloads {
		row = append(row, cell{text: brief(p.GetJson(), answerRunes)})
	}
	return t.add(row...)
}

// tell says how many were left out, when there are more than were told.
func (q *tailQueue) tell(sys *System) {
	q.mu.Lock()
	sample, rate, slow, came := q.bySample, q.byRate, q.bySlow, q.came
	news := sample + rate + slow - q.told
	q.told += news
	q.mu.Unlock()
	if news == 0 {
		return
	}
	var why []string
	for _, one := range []struct {
		n    int
		text string
	}{{sample, "by --every"}, {rate, "by --rate"}, {slow, "since what is printed was not taken in time"}} {
		if one.n > 0 {
			why = append(why, fmt.Sprintf("%d %s", one.n, one.text))
		}
	}
	sys.note(fmt.Sprintf("of %s so far, %d are not shown: %s", count(came, "event"), sample+rate+slow, strings.Join(why, ", ")))
}
