package adminui

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	foyerv1 "foyer/gen/foyer/v1"
)

const (
	tellEvery = 2 * time.Second // the page takes a server for unhealthy after 10 s
	// Up to fewSockets sockets, the pages show each one with all that it does. Beyond that they show numbers and a sample,
	// until there are a fifth less than fewSockets.
	fewSockets = 1000
	// fewChanges is the same bound for changes of all sockets between two looks.
	fewChanges = 1000
	// fewBytes bounds the memory that the sockets take here. When they take more, the pages show a sample for largeFor.
	fewBytes      = 4 << 20
	largeFor      = 5 * time.Minute
	maxNamespaces = 32
	maxEvents     = 200 // events of browsers that the pages are told between two looks
	maxEventBytes = 4 << 10
	callTimeout   = 5 * time.Second
	listsFor      = 4 * time.Second // all lists of one look
	maxAsked      = 64
)

// watch looks at the node for the pages, from the first operator to the last.
type watch struct {
	cfg    Config
	out    chan<- said
	asked  chan string // pages that want all sockets
	cancel context.CancelFunc
	done   chan struct{}

	// Owned by run.
	ctx       context.Context //nolint:containedctx // its own life
	helpers   sync.WaitGroup
	news      chan news
	few       bool
	sockets   map[key]socketObject // all, or a sample
	bytes     int                  // that sockets takes
	followed  map[string]context.CancelFunc
	unsynced  map[string]bool // those of followed whose snapshot is not complete yet
	waiting   []string        // pages that have asked
	looks     int
	until     time.Time          // when lists have to end
	stopTail  context.CancelFunc // ends the stream of copies of browsers' events; nil: there is none
	tailed    []string           // the namespaces of that stream
	changes   int
	events    int
	links     Links // as they were told last
	sample    sample
	calmSince time.Time // when it last had few changes after many
	large     time.Time // when few sockets last took more than fewBytes
	nobody    string    // a room that nobody is in
}

type key struct{ namespace, id string }

// news is what a stream brings.
type news struct {
	namespace string
	watched   *foyerv1.WatchResponse
	event     *foyerv1.Event
	ended     bool
	exhausted bool // by a bound of the node
}

func begin(ctx context.Context, cfg Config, out chan<- said) *watch {
	w := newWatch(ctx, cfg, out)
	go w.run()
	return w
}

func newWatch(ctx context.Context, cfg Config, out chan<- said) *watch {
	w := &watch{
		cfg: cfg, out: out, asked: make(chan string, maxAsked), done: make(chan struct{}), news: make(chan news),
		sockets: map[key]socketObject{}, followed: map[string]context.CancelFunc{}, unsynced: map[string]bool{},
		few: true, links: cfg.Links(), nobody: "nobody " + rand.Text(),
	}
	w.ctx, w.cancel = context.WithCancel(ctx)
	return w
}

// ask has all sockets sent to a page. When too many pages ask at once, it drops the question.
func (w *watch) ask(id string) {
	select {
	case w.asked <- id:
	default:
	}
}

// end ends the watch and waits. It takes what the watch still says from out, so that nothing blocks, and forgets it.
func (w *watch) end(out <-chan said) {
	w.cancel()
	for {
		select {
		case <-out:
		case <-w.done:
			return
		}
	}
}

func (w *watch) run() {
	defer close(w.done)
	defer w.helpers.Wait()
	defer w.cancel()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	w.look()
	for {
		select {
		case <-tick.C:
			w.look()
		case id := <-w.asked:
			w.waiting = append(w.waiting, id)
			w.answer()
		case n := <-w.news:
			w.take(n)
		case <-w.ctx.Done():
			return
		}
	}
}

func (w *watch) say(to, event string, args ...any) {
	select {
	case w.out <- said{to, event, args}:
	case <-w.ctx.Done():
	}
}

// keep stores a socket as it is now.
func (w *watch) keep(k key, o socketObject) {
	w.drop(k)
	w.sockets[k] = o
	w.bytes += o.bytes()
}

func (w *watch) drop(k key) {
	if o, ok := w.sockets[k]; ok {
		w.bytes -= o.bytes()
		delete(w.sockets, k)
	}
}

func (w *watch) dropAll() {
	clear(w.sockets)
	w.bytes = 0
}

func (w *watch) all() []socketObject {
	return slices.AppendSeq(make([]socketObject, 0, len(w.sockets)), maps.Values(w.sockets))
}

// answer sends all sockets to the pages that have asked, once all snapshots are complete.
func (w *watch) answer() {
	if len(w.unsynced) > 0 {
		return
	}
	for _, id := range w.waiting {
		w.say(id, "all_sockets", w.all())
	}
	w.waiting = nil
}

// tellAll sends all sockets to all pages.
func (w *watch) tellAll() {
	w.waiting = nil
	w.say("", "all_sockets", w.all())
}

// look counts, chooses between single sockets and a sample, and sends the numbers.
func (w *watch) look() {
	total, err := w.count()
	if err != nil {
		if w.ctx.Err() == nil {
			w.cfg.Told.Warn("the node cannot be looked at for operators", zap.NamedError("err", err))
		}
		return
	}
	now := time.Now()
	w.until = now.Add(listsFor)
	busy := w.changes > fewChanges
	if busy {
		w.calmSince = now.Add(10 * tellEvery)
	}
	bound := fewSockets
	if !w.few {
		bound = fewSockets * 4 / 5
	}
	few := total.sockets <= bound && now.After(w.calmSince) && now.Sub(w.large) >= largeFor
	if few != w.few {
		w.few = few
		w.unfollow()
		w.dropAll()
		w.sample = sample{}
	}
	if w.few {
		w.follow(total)
		if w.looks++; w.looks%3 == 0 {
			w.transports()
		}
	} else {
		w.lookAtSample(total, now)
	}
	w.tellStats(total, now)
	w.changes, w.events = 0, 0
}

// follow opens a stream for each namespace that has sockets and no stream yet, and one for copies of the events of all
// of them. It ends those of namespaces that have lost their last socket, so that there is room for others.
func (w *watch) follow(c *counted) {
	known := w.known()
	for _, of := range c.namespaces {
		if cancel := w.followed[of.name]; cancel != nil && !of.shown() && !w.unsynced[of.name] && known[of.name] == nil {
			cancel()
			delete(w.followed, of.name)
		}
	}
	for _, of := range c.namespaces {
		name := of.name
		if w.followed[name] != nil || len(w.followed) >= maxNamespaces || !of.shown() {
			continue
		}
		ctx, cancel := context.WithCancel(w.ctx)
		w.followed[name], w.unsynced[name] = cancel, true
		w.helpers.Go(func() { w.followNamespace(ctx, name) })
	}
	if names := slices.Sorted(maps.Keys(w.followed)); !slices.Equal(names, w.tailed) {
		w.endTail()
		if len(names) > 0 {
			ctx, cancel := context.WithCancel(w.ctx)
			w.stopTail, w.tailed = cancel, names
			w.helpers.Go(func() { w.tail(ctx, names) })
		}
	}
}

func (w *watch) endTail() {
	if w.stopTail != nil {
		w.stopTail()
	}
	w.stopTail, w.tailed = nil, nil
}

func (w *watch) unfollow() {
	for _, cancel := range w.followed {
		cancel()
	}
	clear(w.followed)
	clear(w.unsynced)
	w.endTail()
}

func (w *watch) tellNews(ctx context.Context, n news) bool {
	if ctx.Err() != nil { // the watch has ended this stream
		return false
	}
	select {
	case w.news <- n:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func (w *watch) followNamespace(ctx context.Context, name string) {
	stream, err := foyerv1.NewPresenceServiceClient(w.cfg.API).Watch(ctx, &foyerv1.WatchRequest{
		Namespace: name, All: true, View: foyerv1.SocketView_SOCKET_VIEW_FULL,
	})
	for err == nil {
		var m *foyerv1.WatchResponse
		if m, err = stream.Recv(); err == nil && !w.tellNews(ctx, news{namespace: name, watched: m}) {
			return
		}
	}
	w.toldEnd(ctx, err)
	w.tellNews(ctx, news{namespace: name, ended: true, exhausted: status.Code(err) == codes.ResourceExhausted})
}

// tail follows copies of what browsers emit, in the namespaces that are shown only.
func (w *watch) tail(ctx context.Context, names []string) {
	defer func() { w.tellNews(ctx, news{ended: true}) }()
	stream, err := foyerv1.NewHandlerServiceClient(w.cfg.API).Attach(ctx)
	if err == nil {
		err = stream.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{
			Namespaces: names, Group: "admin-ui", Observer: true, SocketView: foyerv1.SocketView_SOCKET_VIEW_REF,
		}}})
	}
	for err == nil {
		var m *foyerv1.AttachResponse
		if m, err = stream.Recv(); err != nil {
			break
		}
		if e := m.GetEvent(); e != nil {
			if !w.tellNews(ctx, news{event: e}) {
				return
			}
			err = stream.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Handled{Handled: &foyerv1.Handled{UpTo: e.GetCallId()}}})
		}
	}
	w.toldEnd(ctx, err)
}

func (w *watch) toldEnd(ctx context.Context, err error) {
	if ctx.Err() == nil && status.Code(err) != codes.Canceled && !errors.Is(err, context.Canceled) {
		w.cfg.Told.Info("what operators are shown has ended, and begins anew", zap.NamedError("err", err))
	}
}
