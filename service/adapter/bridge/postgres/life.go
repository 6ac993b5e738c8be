package postgres

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"foyer/service/adapter/pgdial"
)

var (
	errSplit  = errors.New("what this node publishes does not come back to it; the URL has to lead to one server, and not to a pooler that lends sessions to statements")
	errOver   = errors.New("the connection is given up")
	errClosed = errors.New("closed")

	binaryFormat = []int16{1}
)

// life are three connections to one server, which live and break together.
type life struct {
	medium         *Medium
	sub, pub, look *pgdial.Conn
	lookMu         sync.Mutex   // guards look
	echoed         atomic.Int64 // when something of this node's own came back, in nanoseconds since the epoch
	waits          bool         // guarded by Medium.mu: sub is read, and a change has to wake it

	// Set before the goroutines begin.
	begun []*hearing // those that were listened to from the beginning
	given []string   // namespaces that nobody wants any more

	closing atomic.Bool
	quiet   chan struct{} // closed when closing and all is published

	ctx    context.Context // ends with this life
	cancel context.CancelFunc
	over   chan struct{} // closed by end
	once   sync.Once
	err    error // set before over is closed
	ended  sync.WaitGroup
}

// newProbe names the channel on which a node hears itself.
func newProbe() string {
	raw := make([]byte, 8)
	_, _ = rand.Read(raw) // it never fails
	return "foyer.probe." + hex.EncodeToString(raw)
}

// open makes a life. It waits for as long as dials and answers may take.
func (m *Medium) open() (*life, error) {
	l := &life{medium: m, quiet: make(chan struct{}), over: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(m.ctx)
	if err := l.greet(); err != nil {
		l.end(err)
		l.buried()
		if _, ok := errors.AsType[*TableError](err); ok {
			return nil, err
		}
		return nil, pgdial.Judge(err)
	}
	l.echoed.Store(time.Now().UnixNano())
	m.begin(l)
	for _, run := range []func() error{l.hear, l.publish, l.probe, l.clean} {
		l.ended.Go(func() { l.end(run()) })
	}
	return l, nil
}

// greet makes the connections, looks at the table, and listens.
func (l *life) greet() (err error) {
	m := l.medium
	ctx, stop := context.WithTimeout(l.ctx, 2*m.cfg.callTimeout)
	defer stop()
	for _, c := range []struct {
		conn *(*pgdial.Conn)
		name string
		of   pgdial.Options
	}{
		{&l.sub, "listens", pgdial.Options{Notified: l.notified}},
		{&l.pub, "publishes", pgdial.Options{}},
		{&l.look, "reads attachments", pgdial.Options{MaxMessage: m.cfg.MaxBytes + 1<<10}},
	} {
		c.of.Name = "foyer for Node, " + c.name
		if *c.conn, err = m.cfg.Server.Dial(ctx, c.of); err != nil {
			return err
		}
	}
	if err := m.haveTable(ctx, l.pub); err != nil {
		return err
	}
	if _, err = l.pub.Prepare(ctx, insertStatement, fmt.Sprintf(insert, m.table), nil); err != nil {
		return err
	}
	if err := l.pub.PrepareNotify(ctx); err != nil {
		return err
	}
	if _, err = l.look.Prepare(ctx, lookStatement, fmt.Sprintf(look, m.table), nil); err != nil {
		return err
	}
	channels := []string{m.probe}
	m.mu.Lock()
	for channel, h := range m.channels {
		if h.is = h.wanted(); h.is {
			channels = append(channels, channel)
		}
	}
	m.mu.Unlock()
	return l.listen(ctx, "LISTEN", channels)
}

// listen executes LISTEN or UNLISTEN for some channels.
func (l *life) listen(ctx context.Context, word string, channels []string) error {
	var sql strings.Builder
	for _, channel := range channels {
		sql.WriteString(word + " " + pgdial.Quote(channel) + ";")
	}
	return l.sub.Do(ctx, sql.String())
}

// keep makes the next life when one has ended.
func (m *Medium) keep(l *life) {
	wait := retryWait
	for {
		if l != nil {
			select {
			case <-l.over:
			case <-m.ctx.Done():
				l.end(m.ctx.Err())
			}
			l.buried()
			if m.ctx.Err() == nil {
				m.count("connection_lost", 1)
				m.log.Warn("connection lost: servers on Node are not heard until it is back", zap.NamedError("err", l.err))
			}
			wait = retryWait
		}
		pause := time.NewTimer(wait/2 + mrand.N(wait)) // all nodes lose a server at the same moment
		select {
		case <-m.ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		var err error
		l, err = m.open()
		_, table := errors.AsType[*TableError](err)
		switch {
		case m.ctx.Err() != nil:
		case err == nil:
			m.log.Info("servers on Node are heard")
		case pgdial.Refused(err) || table:
			m.log.Warn("servers on Node not reached", zap.Error(err))
			wait = recheckEvery
		default:
			m.log.Debug("servers on Node not reached", zap.Error(err))
			wait = min(2*wait, retryMost)
		}
	}
}

// end has a life end. What was not published is lost.
func (l *life) end(err error) {
	l.once.Do(func() {
		l.err = err
		l.medium.ends(l)
		close(l.over)
		for _, c := range []*pgdial.Conn{l.sub, l.pub, l.look} {
			switch {
			case c == nil:
			case !errors.Is(err, errClosed):
				c.Break()
			case c == l.sub: // nothing is on its way: buried says goodbye
				c.Wake()
			}
		}
		l.cancel()
	})
}

// buried waits until nothing of a life that ends is left.
func (l *life) buried() {
	l.ended.Wait()
	l.medium.lose(l.medium.out.Take())
	for _, c := range []*pgdial.Conn{l.sub, l.pub, l.look} {
		if c != nil {
			c.End()
		}
	}
}

// finish ends a life when all is published, or soon.
func (l *life) finish() {
	l.closing.Store(true)
	l.medium.out.Put(saying{}, 0) // so that publish looks
	wait := time.NewTimer(lastTimeout)
	defer wait.Stop()
	select {
	case <-l.quiet:
		l.lookMu.Lock() // nobody uses it from then on
		l.end(errClosed)
		l.lookMu.Unlock()
	case <-l.over:
	case <-wait.C:
	}
}

// hear takes what comes, by notified, and says to the server what is to come. It alone tells beats where this node
// listens, so that they hear of each beginning and end in the order in which the server does.
func (l *life) hear() error {
	m := l.medium
	for _, namespace := range l.given {
		m.beats.End(namespace)
	}
	m.greetIn(l.begun)
	for {
		m.mu.Lock()
		changes := m.changes
		m.changes, l.waits = nil, len(changes) == 0
		m.mu.Unlock()
		l.sub.Sleep()
		if len(changes) > 0 {
			if err := l.change(changes); err != nil {
				return err
			}
			continue
		}
		// Who has woken the connection before it was put to sleep does not do it again.
		if isClosed(l.over) {
			return errOver
		}
		if m.pending() {
			continue
		}
		var err error
		for err == nil {
			err = l.sub.WaitForNotification(context.Background())
		}
		if isClosed(l.over) {
			return errOver
		}
		if !pgconn.Timeout(err) {
			return err
		}
	}
}

// probe publishes something for this node itself when nothing of its own came back for a while, which shows that the
// one connection still leads to the other, and has namespaces given back that nobody uses any more.
func (l *life) probe() error {
	m := l.medium
	tick := time.NewTicker(probeEvery / 2)
	defer tick.Stop()
	for {
		select {
		case <-l.over:
			return errOver
		case <-tick.C:
		}
		silent := time.Since(time.Unix(0, l.echoed.Load()))
		switch {
		case silent > splitAfter:
			return errSplit
		case silent >= probeEvery:
			m.out.Put(saying{channel: m.probe, text: []byte("probe")}, 0)
		}
		m.tidy()
	}
}

func appendInt8(dst []byte, n int64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(n)) }
func appendInt4(dst []byte, n int) []byte   { return binary.BigEndian.AppendUint32(dst, uint32(n)) }
