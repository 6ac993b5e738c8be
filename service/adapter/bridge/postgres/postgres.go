// Package postgres carries messages of the official form over the notifications of a PostgreSQL database, as
// @socket.io/postgres-adapter does: it is the bridge.Medium to servers on Node with that adapter, and to the emitter
// that belongs to it.
//
//	postgres.go   Medium, what it is made of and its end
//	life.go       three connections that live and break together
//	hear.go       namespaces, and who listens to which
//	in.go         what comes
//	out.go        what goes
//	table.go      the table of attachments
//
// Each namespace has a channel of its own, to which all that is said in it goes: requests, and answers to anybody. A
// node knows from what is said which servers are there (package beats). A server that has said anything counts as there
// for 10 s, and all others wait for its answers. So a node listens before it says the first word in a namespace, and
// for a while after the last one, whether it has sockets there or not. What is too long for a notification, or has
// binaries, goes into the table of attachments, and the notification names its row.
//
// One connection publishes, so what this node says keeps its order, and all that waits goes by one statement.
// PostgreSQL gives equal notifications of one statement once, so an equal one gets spaces behind it, which JSON does
// not mind. One connection listens, and is read without a pause. A third one reads rows for the goroutine that gives
// messages to the bridge: so messages keep the order in which they came, those in rows too. The official servers do not
// keep that.
//
// A life is the time of these connections. While there is none, what this node says is refused, and the node does not
// know which servers are there. Nothing is published again, since what has no answer may have been published.
//
// Goroutines, from Open to Close: keep, which owns the four of a life (hear: reads; publish; probe: looks after the
// connections; clean: deletes old rows), deliver (gives messages to the bridge), and that of package beats.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"

	"foyer/service/adapter/bridge/beats"
	"foyer/service/adapter/bridge/queue"
	"foyer/service/adapter/official"
	"foyer/service/adapter/pgdial"
)

// Config is how a node reaches PostgreSQL, and by which names.
type Config struct {
	Server   *pgdial.Server
	Prefix   string // option channelPrefix of the official adapter; default "socket.io"
	Table    string // option tableName, as ParseTable takes it; default official.DefaultTable
	UID      string // of this node; its requests have ids that begin with it and a colon
	Ours     string // what the UIDs of all nodes of the cluster begin with
	MaxBytes int    // largest message that is read; default 16 MiB
	Logger   *zap.Logger

	callTimeout time.Duration // how long PostgreSQL may take to answer; for tests; default answerTimeout
	listenWait  time.Duration // as the constant; for tests
}

const (
	maxBytes   = 16 << 20
	outBytes   = 8 << 20   // that wait to be published; more are refused
	inBytes    = 32 << 20  // that wait for the bridge; more are dropped
	batchMost  = 512       // notifications of one statement
	batchBytes = 512 << 10 // of them
	rowsBytes  = 4 << 20   // of the rows that they name
	overhead   = 256       // bytes that a message takes beside its own

	answerTimeout = 5 * time.Second
	lastTimeout   = time.Second
	listenWait    = 2 * time.Second  // how long what asks waits until the answers would be heard
	keepFor       = 30 * time.Second // how long a namespace is listened to after it was used; the others count who has spoken for 10 s
	maxUsed       = 4096             // namespaces beyond which a new one has to be followed to be used
	probeEvery    = 2 * time.Second
	splitAfter    = 15 * time.Second
	retryWait     = 250 * time.Millisecond
	retryMost     = 2 * time.Second
	recheckEvery  = 5 * time.Second
)

// Errors of Publish and Peers, when nothing can be said now.
var (
	errFull = errors.New("too much waits to be published")
	errAway = errors.New("the PostgreSQL server is away")
	errMany = errors.New("too many namespaces are used")
)

// Medium is a bridge.Medium.
type Medium struct {
	cfg    Config
	table  string // as SQL has it
	mine   string // what the ids of this node's requests begin with
	probe  string // the channel on which this node hears itself
	log    *zap.Logger
	beats  *beats.Beats
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	ended  sync.WaitGroup
	out    *queue.Queue[saying]
	in     *queue.Queue[came]

	mu       sync.Mutex
	life     *life               // guarded by mu; nil: the server is away
	hearings map[string]*hearing // guarded by mu; by namespace
	channels map[string]*hearing // guarded by mu; the same by channel
	changes  []*hearing          // guarded by mu; those to which this node is to begin or cease to listen
	dropped  map[string]int64    // guarded by mu
}

// New makes the medium; nothing is connected before Open. It is an error when the name of the table is none.
func New(c Config) (*Medium, error) {
	if c.Table == "" {
		c.Table = official.DefaultTable
	}
	table, err := ParseTable(c.Table)
	if err != nil {
		return nil, err
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = maxBytes
	}
	c.callTimeout, c.listenWait = cmp.Or(c.callTimeout, answerTimeout), cmp.Or(c.listenWait, listenWait)
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	m := &Medium{
		cfg: c, table: table, mine: c.UID + ":", probe: newProbe(), log: c.Logger, out: queue.New[saying](outBytes), in: queue.New[came](inBytes),
		hearings: map[string]*hearing{}, channels: map[string]*hearing{}, dropped: map[string]int64{},
	}
	m.beats = beats.New(beats.Config{Self: c.UID, Ours: c.Ours, Say: m.beat})
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m, nil
}

// beat says that this node is there, or goes.
func (m *Medium) beat(namespace string, kind official.Kind) {
	if err := m.Publish(&official.Message{Kind: kind, UID: m.cfg.UID, Namespace: namespace}, ""); err != nil && m.ctx.Err() == nil {
		m.log.Debug("heartbeat not said", zap.String("namespace", namespace), zap.Error(err))
	}
}

// Open implements bridge.Medium. A server that cannot be reached now is no error; one that refuses what is needed is,
// and a TableError where that is about the table.
func (m *Medium) Open(each func(*official.Message)) error {
	l, err := m.open()
	var table *TableError
	if pgdial.Refused(err) || errors.As(err, &table) {
		return err
	}
	if err != nil {
		m.log.Warn("servers on Node not reached yet", zap.Error(err))
	}
	m.ended.Go(func() { m.keep(l) })
	m.ended.Go(func() { m.deliver(each) })
	m.ended.Go(func() { m.beats.Run(m.ctx) })
	return nil
}

// Close implements bridge.Medium. It says Goodbye, and does not wait for a server that is silent.
func (m *Medium) Close() error {
	m.beats.EndAll()
	m.mu.Lock()
	l := m.life
	m.mu.Unlock()
	if l != nil {
		l.finish()
	}
	m.cancel()
	m.ended.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.hearings {
		h.confirm()
	}
	return nil
}

// Dropped implements bridge.Medium.
func (m *Medium) Dropped() map[string]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.dropped)
}

func (m *Medium) count(reason string, n int) {
	if n == 0 {
		return
	}
	m.mu.Lock()
	m.dropped[reason] += int64(n)
	m.mu.Unlock()
}

func (m *Medium) drop(reason, namespace string, err error) {
	m.count(reason, 1)
	m.log.Warn("message dropped", zap.String("reason", reason), zap.String("namespace", namespace), zap.Error(err))
}
