package streams

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"foyer/service/adapter/bridge/queue"
	"foyer/service/adapter/official"
)

const (
	outBytes  = 8 << 20 // that wait to be written; more are refused
	batchMost = 512     // commands that are written before answers are waited for
	keepFor   = 10 * time.Second

	finishTimeout = time.Second
	// answersWait is how long questions, and all behind them, wait until their answers are heard: where a node asks first.
	answersWait = 500 * time.Millisecond
)

// errFull is the answer while too much waits to be written.
var errFull = errors.New("too much waits to be written")

// command is a message on its way to the server.
type command struct {
	at      time.Time // when it was handed over
	key     string    // a server that has it is the one to write to
	channel string    // "": it goes into the stream
	text    []byte    // what is published
	then    func()    // is called when all before is done, in place of a command; nil: there is one
	entry   official.Entry
	heard   <-chan struct{} // closed when answers are heard; nil: there will be none
}

func (c *command) size() int {
	return len(c.key) + len(c.channel) + len(c.text) + len(c.entry.UID) + len(c.entry.NSP) + len(c.entry.Data) + 128
}

// append makes a command one of those that go out together.
func (c *command) append(ctx context.Context, pipe redis.Pipeliner, length int) {
	if c.channel != "" {
		pipe.Publish(ctx, c.channel, c.text)
		return
	}
	e := &c.entry
	pipe.XAdd(ctx, &redis.XAddArgs{
		Stream: c.key, MaxLen: int64(length), Approx: true, Values: []string{"uid", e.UID, "nsp", e.NSP, "type", e.Type, "data", e.Data},
	})
}

// writer has commands done, one after the other.
type writer struct {
	*link
	out     *queue.Queue[command]
	closing chan struct{} // closed when no more is put
	written chan struct{} // closed when nothing is left
	once    sync.Once
	began   atomic.Bool
	waiting atomic.Int64 // commands that were put and are neither done nor lost
	away    atomic.Bool  // the server was, when something was written last
}

func newWriter(l *link) *writer {
	return &writer{link: l, out: queue.New[command](outBytes), closing: make(chan struct{}), written: make(chan struct{})}
}

// put hands over a command.
func (w *writer) put(c command) error {
	select {
	case <-w.closing:
		return net.ErrClosed
	default:
	}
	c.at = time.Now()
	w.waiting.Add(1) // before it may be done
	if !w.out.Put(c, c.size()) {
		w.waiting.Add(-1)
		return errFull
	}
	if w.away.Load() {
		return official.ErrDoubt
	}
	return nil
}

// idle says whether all that was put before is done.
func (w *writer) idle() bool { return w.waiting.Load() == 0 }

// done makes room.
func (w *writer) done(list []command) {
	w.out.Done(size(list))
	w.waiting.Add(-int64(len(list)))
}

// finish takes nothing more, and waits until all is written, or that has had its time.
func (w *writer) finish() {
	w.once.Do(func() { close(w.closing) })
	if !w.began.Load() {
		return
	}
	late := time.NewTimer(finishTimeout)
	defer late.Stop()
	select {
	case <-w.written:
	case <-late.C:
	}
}

// run writes what waits, until finish or the end of the link.
func (w *writer) run() {
	w.began.Store(true)
	defer close(w.written)
	var wait retry
	for last := false; ; {
		list := w.out.Take()
		for len(list) > 0 && w.ctx.Err() == nil {
			if then := list[0].then; then != nil {
				then()
				w.done(list[:1])
				list = list[1:]
				continue
			}
			n := 1
			for n < min(len(list), batchMost) && list[n].then == nil {
				n++
			}
			w.awaitAnswers(list[:n])
			left := w.write(list[:n])
			w.away.Store(len(left) > 0)
			if list = append(left, list[n:]...); len(left) == 0 {
				wait = retry{}
				continue
			}
			wait.pause(w.ctx)
			list = w.young(list)
		}
		if last || w.ctx.Err() != nil {
			return
		}
		select {
		case <-w.out.Filled():
		case <-w.closing:
			last = true
		case <-w.ctx.Done():
		}
	}
}

// awaitAnswers waits until the answers to questions are heard, or that has had its time.
func (w *writer) awaitAnswers(list []command) {
	var late <-chan time.Time
	for _, c := range list {
		select {
		case <-c.heard:
			continue
		default:
		}
		if c.heard == nil {
			continue
		}
		if late == nil {
			timer := time.NewTimer(answersWait)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-c.heard:
		case <-late:
			return
		case <-w.ctx.Done():
			return
		}
	}
}

// young are those of commands that have not waited for too long: a question that nobody waits for any more, or an emit
// of long ago, is not to be heard when the server is back.
func (w *writer) young(list []command) []command {
	n := 0
	for n < len(list) && time.Since(list[n].at) > keepFor {
		n++
	}
	w.lose(list[:n], errors.New("the server did not take them in time"))
	return list[n:]
}

// lose counts commands that are not done.
func (w *writer) lose(list []command, why error) {
	if len(list) == 0 {
		return
	}
	w.done(list)
	if w.ctx.Err() != nil {
		return
	}
	w.count("lost", int64(len(list)))
	w.log.Warn("messages not written: servers on Node do not hear them", zap.Int("messages", len(list)), zap.NamedError("err", why))
}

func size(list []command) (bytes int) {
	for i := range list {
		bytes += list[i].size()
	}
	return bytes
}

// write has commands done, and returns those that are not and may be tried again, in their order.
func (w *writer) write(list []command) (left []command) {
	client := w.client()
	if _, ok := client.(*redis.ClusterClient); !ok {
		return w.writeTo(client.Pipelined, list)
	}
	// What is of one stream is at one server, and so are the publications beside it.
	for len(list) > 0 {
		var these, others []command
		for _, c := range list {
			if c.key == list[0].key {
				these = append(these, c)
			} else {
				others = append(others, c)
			}
		}
		left = append(left, w.writeToMaster(these)...)
		list = others
	}
	slices.SortStableFunc(left, func(a, b command) int { return a.at.Compare(b.at) })
	return left
}

// writeToMaster is writeTo for commands of one key.
func (w *writer) writeToMaster(list []command) (left []command) {
	ctx, stop := context.WithTimeout(w.ctx, w.cfg.callTimeout)
	defer stop()
	at, err := server(ctx, w.client(), list[0].key)
	if err != nil {
		return list
	}
	return w.writeTo(at.Pipelined, list)
}

func (w *writer) writeTo(pipelined func(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error), list []command) (left []command) {
	ctx, stop := context.WithTimeout(w.ctx, w.cfg.callTimeout)
	defer stop()
	answers, err := pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range list {
			list[i].append(ctx, pipe, w.cfg.Length)
		}
		return nil
	})
	fault := func(i int) error {
		if i < len(answers) {
			return answers[i].Err()
		}
		return err
	}
	// What failed before something that was done would come out of order.
	n := len(list)
	for n > 0 && notDone(fault(n-1)) {
		n--
	}
	if n < len(list) {
		w.lookAgain(w.ctx)
	}
	var done, lost []command
	var why error
	for i := range list[:n] {
		if err := fault(i); err != nil {
			lost, why = append(lost, list[i]), err
		} else {
			done = append(done, list[i])
		}
	}
	w.done(done)
	w.lose(lost, why)
	return list[n:]
}

// passing are the words of servers that have not done a command, and may later.
var passing = []string{"MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "LOADING", "MASTERDOWN", "READONLY", "NOREPLICAS", "BUSY"}

// notDone says whether a command was surely not done, and may be when it is tried again.
func notDone(err error) bool {
	if err == nil {
		return false
	}
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" || errors.Is(err, redis.ErrClosed) {
		return true // ErrClosed: the client of one server has become that of a Redis Cluster
	}
	word, _, _ := strings.Cut(err.Error(), " ")
	return slices.Contains(passing, word)
}
