// Package streams carries messages of the official form over Redis as @socket.io/redis-streams-adapter does: it is the
// bridge.Medium to servers on Node with that adapter. What has no answer (emits, room changes, disconnects) is appended
// to a stream, which each server reads from where it has stopped; questions and answers are published.
//
//	streams.go   Medium, and the namespaces that it follows
//	read.go      what is in a stream, and what the server has trimmed before it was read (id.go)
//	plain.go     what is published: who listens, and how many there are (listen.go)
//	writer.go    the way out, for both
//	link.go      the way to the servers
//	check.go     what a server or the rights of a user do not allow
//
// A node reads the streams of the namespaces that it follows, each by a goroutine on a connection of its own, which has
// the bridge do what an entry says before it goes on: nothing waits in between, since the stream keeps it. A stream is
// read on behind the entry that was read last, whatever became of the connection meanwhile. So nothing is read twice,
// and what is missed is what was trimmed, which is counted and told.
//
// In each namespace that it follows a node subscribes to the channel of the official servers, by which it is counted as
// one of them, and to one of the cluster's own. How many more listen to the first is how many servers are no nodes.
// Both are in one command, and the place in the stream is known before. So a node that is counted misses nothing.
// Answers come on a channel of the namespace that has this node's UID in its name. Before this node asks where it
// follows nothing, it subscribes to that alone. A pattern for all of them would need rights of its own: Redis compares
// those by their text.
//
// One goroutine writes what waits, in its order, and waits for the answers before it goes on. What the server has
// surely not done is written again for some seconds. What has no answer may have been done: it is not written again.
//
// Goroutines, from Open to Close: of the Medium the writer, change (follows namespaces), one for each stream that is
// read and one for each namespace that is about to be heard; of plain the writer, change (subscribes), listen (reads
// what comes, and never waits) and deliver (gives it to the bridge). The library has its own.
package streams

import (
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"foyer/service/adapter/official"
)

// Config is how a node reaches Redis, and by which names.
type Config struct {
	Addresses      []string // host:port; several are of one Redis Cluster
	Master         string   // what sentinels, whose Addresses are, call the server; "": none
	User, Password string
	TLS            func() (*tls.Config, error) // asked for each connection; nil: none

	// Options of the official adapter.
	Prefix string // channelPrefix; default "socket.io"
	Stream string // streamName; default "socket.io"
	Count  int    // streamCount; default 1
	Length int    // maxLen; default 10,000

	UID      string // of this node
	Ours     string // what the UIDs of all nodes of the cluster begin with
	Marker   string // what the channels of the cluster's own begin with; no # in it
	MaxBytes int    // largest message that is read; default 16 MiB
	Logger   *zap.Logger

	// Talk carries what is not put into a stream, as option useShardedPubSub says. nil: by Pub/Sub without shards.
	Talk Talk

	callTimeout time.Duration // how long Redis may take to answer; for tests; default callWait
}

// Talk is what a Medium asks of what carries questions and answers. It is a bridge.Medium itself, and a bridge.Roll.
type Talk interface {
	Open(each func(m *official.Message)) error
	Publish(m *official.Message, to string) error
	Follow(namespace string, on bool) <-chan struct{}
	Peers(ctx context.Context, namespace string) (int, error)
	Gone(ctx context.Context, namespace string, uids []string) ([]string, error)
	Dropped() map[string]int64
	Close() error
}

// Defaults of the official adapter.
const (
	DefaultStream = "socket.io"
	DefaultCount  = 1
	DefaultLength = 10_000
)

// MaxCount is the most streams that one node reads, besides those with a negative number.
const MaxCount = 128

const maxBytes = 16 << 20

// Medium is a bridge.Medium.
type Medium struct {
	*link
	talk   Talk
	writer *writer
	each   func(*official.Message)
	turn   sync.Mutex // the bridge is given one message at a time

	mu      sync.Mutex
	spaces  map[string]*space  // by namespace
	changes []string           // namespaces that are to be followed, or no more, in order
	changed chan struct{}      // has a value when there are some
	readers map[string]*reader // by stream
}

// New makes the medium; nothing is connected before Open or a call that needs it.
func New(c Config) *Medium {
	if c.Stream == "" {
		c.Stream = DefaultStream
	}
	if c.Count == 0 {
		c.Count = DefaultCount
	}
	if c.Length == 0 {
		c.Length = DefaultLength
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = maxBytes
	}
	if c.callTimeout == 0 {
		c.callTimeout = callWait
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	m := &Medium{
		link: newLink(&c, 2*c.Count), talk: c.Talk, spaces: map[string]*space{}, changed: make(chan struct{}, 1), readers: map[string]*reader{},
	}
	m.writer = newWriter(m.link)
	if m.talk == nil {
		m.talk = newPlain(&c)
	}
	return m
}

// Open implements bridge.Medium.
func (m *Medium) Open(each func(*official.Message)) error {
	m.each = each
	if err := m.check(); err != nil {
		return err
	}
	if err := m.talk.Open(m.give); err != nil {
		return err
	}
	m.ended.Go(m.writer.run)
	m.ended.Go(m.change)
	return nil
}

// Close implements bridge.Medium. What waits to be written goes out first, if the server takes it now.
func (m *Medium) Close() error {
	var other error
	var both sync.WaitGroup
	both.Go(func() { other = m.talk.Close() })
	m.writer.finish()
	m.cancel()
	err := m.disconnect()
	m.ended.Wait()
	both.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.spaces {
		shut(s.heard)
	}
	return errors.Join(err, other)
}

// Dropped implements bridge.Medium.
func (m *Medium) Dropped() map[string]int64 {
	sum := m.talk.Dropped()
	for reason, n := range m.link.Dropped() {
		sum[reason] += n
	}
	return sum
}

// Publish implements bridge.Medium. The order of what goes into a stream is kept, and so is that of what is published.
// A question is published when the entries before it are in their streams: most servers on Node hear it behind them.
func (m *Medium) Publish(message *official.Message, to string) error {
	if official.Streamed(message) {
		e, err := official.NewEntry(message)
		if err != nil {
			return err
		}
		return m.writer.put(command{key: m.stream(message.Namespace), entry: e})
	}
	if message.Kind.Answer() || m.writer.idle() {
		return m.talk.Publish(message, to)
	}
	text, err := official.AppendStreams(nil, message)
	if err != nil { // talk says it later, when nobody hears of it
		return err
	}
	later := kept(message)
	return m.writer.put(command{text: text, then: func() {
		if err := m.talk.Publish(later, to); err != nil && !errors.Is(err, official.ErrDoubt) {
			m.count("lost", 1)
		}
	}})
}

// kept is a question that outlives the one it is a copy of.
func kept(m *official.Message) *official.Message {
	c := *m
	c.Rooms, c.Except, c.Payload = slices.Clone(m.Rooms), slices.Clone(m.Except), slices.Clone(m.Payload)
	c.Attachments = slices.Clone(m.Attachments)
	for i, part := range c.Attachments {
		c.Attachments[i] = slices.Clone(part)
	}
	return &c
}

// Peers implements bridge.Medium.
func (m *Medium) Peers(ctx context.Context, namespace string) (int, error) {
	return m.talk.Peers(ctx, namespace)
}

// Gone implements bridge.Roll.
func (m *Medium) Gone(ctx context.Context, namespace string, uids []string) ([]string, error) {
	return m.talk.Gone(ctx, namespace, uids)
}

// give has the bridge do what a message says.
func (m *Medium) give(message *official.Message) {
	m.turn.Lock()
	defer m.turn.Unlock()
	if m.ctx.Err() == nil {
		m.each(message)
	}
}

func (m *Medium) stream(namespace string) string {
	return official.StreamName(m.cfg.Stream, namespace, m.cfg.Count)
}

// space is a namespace that is followed, or is to be. Guarded by Medium.mu.
type space struct {
	on    bool // it is to be
	is    bool // it is
	heard chan struct{}
}

// Follow implements bridge.Medium.
func (m *Medium) Follow(namespace string, on bool) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.spaces[namespace]
	if s == nil {
		s = &space{heard: make(chan struct{})}
		m.spaces[namespace] = s
	}
	s.on = on
	m.changeLocked(namespace)
	if m.ctx.Err() != nil {
		shut(s.heard)
	}
	return s.heard
}

func (m *Medium) changeLocked(namespace string) {
	if !slices.Contains(m.changes, namespace) {
		m.changes = append(m.changes, namespace)
		poke(m.changed)
	}
}

// change follows namespaces and ends that, until Close.
func (m *Medium) change() {
	var wait retry
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.changed:
		}
		for namespace, ok := m.nextChange(); ok && m.ctx.Err() == nil; namespace, ok = m.nextChange() {
			if err := m.settle(namespace); err != nil {
				m.log.Warn("namespace not followed yet", zap.String("nsp", namespace), zap.NamedError("err", err))
				wait.pause(m.ctx)
				m.mu.Lock()
				m.changeLocked(namespace) // behind the others: their servers may be there
				m.mu.Unlock()
				continue
			}
			wait = retry{}
		}
	}
}

func (m *Medium) nextChange() (namespace string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.changes) == 0 {
		return "", false
	}
	namespace, m.changes = m.changes[0], m.changes[1:]
	return namespace, true
}

// settle makes a namespace what it is to be. An error: the place in its stream is not known. This node is counted as
// one that hears the namespace only when it reads the stream.
func (m *Medium) settle(namespace string) error {
	m.mu.Lock()
	s := m.spaces[namespace]
	on, was := s.on, s.is
	if !on {
		delete(m.spaces, namespace)
		shut(s.heard)
		if was {
			m.readers[m.stream(namespace)].namespaces--
		}
	}
	m.mu.Unlock()
	switch {
	case on == was:
	case on:
		if err := m.readFrom(m.stream(namespace)); err != nil {
			return err
		}
		m.mu.Lock()
		s.is = true
		m.mu.Unlock()
		heard := m.talk.Follow(namespace, true)
		m.ended.Go(func() {
			select {
			case <-heard:
			case <-m.ctx.Done():
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			shut(s.heard)
		})
	default:
		m.talk.Follow(namespace, false)
	}
	return nil
}
