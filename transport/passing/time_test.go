package passing

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"foyer/service"
	"foyer/transport/engineio"
)

// pipes is an in-memory net.Listener, for bubbles.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	eager bool // what the listening side writes is taken at once, as by a kernel
}

// eager is a connection that takes some writes before its other side reads.
type eager struct {
	net.Conn
	out  chan []byte
	once sync.Once
	done chan struct{}
}

func newEager(c net.Conn) *eager {
	e := &eager{Conn: c, out: make(chan []byte, 1000), done: make(chan struct{})}
	go func() {
		defer func() { _ = e.Conn.Close() }()
		for {
			select {
			case b := <-e.out:
				_, _ = e.Conn.Write(b)
				continue
			default:
			}
			select {
			case b := <-e.out:
				_, _ = e.Conn.Write(b)
			case <-e.done:
				return
			}
		}
	}()
	return e
}

func (e *eager) Write(b []byte) (int, error) {
	e.out <- bytes.Clone(b)
	return len(b), nil
}

func (e *eager) Close() error {
	e.once.Do(func() { close(e.done) })
	_ = e.SetDeadline(time.Now().Add(time.Second))
	return nil
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipes) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	if l.eager {
		there = newEager(there)
	}
	select {
	case l.conns <- there:
		return here, nil
	case <-l.done:
		return nil, errors.New("refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pair is a node that passes, and the node whose sessions are asked for, over pipes.
type pair struct {
	*cluster
	t            *testing.T
	other, owner *node
	edge         *pipes // of the node that passes
	at           *pipes // the owner's peer listener
	client       *http.Client

	later struct {
		sync.Mutex
		close []io.Closer // when the test is over
	}
}

// inBubble runs two nodes in virtual time.
func inBubble(t *testing.T, run func(p *pair)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{TB: t, members: map[service.NodeID]Member{}}
		p := &pair{cluster: c, t: t, edge: newPipes(), at: newPipes()}
		make1 := func(name service.NodeID) *node {
			n := &node{cluster: c, name: name}
			var err error
			if n.passing, err = New(Config{Self: name, Key: secret, Where: c.where}); err != nil {
				t.Fatal(err)
			}
			n.engine, err = engineio.New(engineio.Config{NewSID: n.passing.NewSID, Unknown: n.passing.Pass}, func(s *engineio.Session) engineio.Receiver {
				n.mu.Lock()
				defer n.mu.Unlock()
				n.all = append(n.all, s)
				s.Admit()
				return echo{n, s}
			})
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		p.at.eager = true
		p.other, p.owner = make1("aaaa"), make1("bbbb")
		p.other.passing.dial = p.at.dial
		c.put("bbbb", "owner:1")
		var serving sync.WaitGroup
		var servers []*http.Server
		for l, h := range map[*pipes]http.Handler{p.edge: p.other.engine, p.at: p.owner.passing.Handler(p.owner.engine)} {
			s := &http.Server{Handler: h, ErrorLog: quietLog}
			servers = append(servers, s)
			serving.Go(func() { _ = s.Serve(l) })
		}
		tr := &http.Transport{DialContext: p.edge.dial, DisableCompression: true}
		p.client = &http.Client{Transport: tr}
		run(p)
		p.later.Lock()
		for _, c := range p.later.close {
			_ = c.Close()
		}
		p.later.Unlock()
		tr.CloseIdleConnections()
		p.owner.engine.Close()
		p.other.passing.Close()
		for _, s := range servers {
			_ = s.Close()
		}
		serving.Wait()
		p.other.engine.Close()
		p.owner.passing.Close()
	})
}

func (p *pair) closeLater(c io.Closer) {
	p.later.Lock()
	defer p.later.Unlock()
	p.later.close = append(p.later.close, c)
}

// open makes a session of the owner's, which the other node is asked for.
func (p *pair) open() (query string, s *engineio.Session) {
	p.t.Helper()
	res := p.direct(polling)
	return polling + "&sid=" + sidIn(p.t, res.body), p.owner.all[len(p.owner.all)-1]
}

// direct asks the owner itself.
func (p *pair) direct(query string) response {
	p.t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		l := newPipes()
		srv := &http.Server{Handler: p.owner.engine, ErrorLog: quietLog}
		go func() { _ = srv.Serve(l) }()
		p.closeLater(srv)
		return l.dial(ctx, network, addr)
	}}
	defer tr.CloseIdleConnections()
	res, err := request1(p.t.Context(), &http.Client{Transport: tr}, "http://owner", http.MethodGet, query, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return res
}

// ask sends a request to the node that passes, and says how long the answer took.
func (p *pair) ask(method, query string, body io.Reader) (response, time.Duration) {
	began := time.Now()
	res, err := request1(p.t.Context(), p.client, "http://other", method, query, body)
	if err != nil {
		res.body = err.Error()
	}
	return res, time.Since(began)
}

func (p *pair) dial(query string) (*websocket.Conn, error) {
	d := websocket.Dialer{NetDialContext: p.edge.dial}
	c, res, err := d.Dial("ws://other/socket.io/?"+strings.Replace(query, "polling", "websocket", 1), nil)
	if res != nil && err != nil {
		res.Body.Close()
	}
	return c, err
}

// upgrade moves a session to a websocket that the other node passes.
func (p *pair) upgrade(query string) *websocket.Conn {
	p.t.Helper()
	c, err := p.dial(query)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, step := range []struct{ say, want string }{{"2probe", "3probe"}, {"5", ""}} {
		_ = c.WriteMessage(websocket.TextMessage, []byte(step.say))
		if step.want == "" {
			continue
		}
		if _, b, err := c.ReadMessage(); err != nil || string(b) != step.want {
			p.t.Fatalf("%q %v", b, err)
		}
	}
	return c
}

// freeze has the owner accept connections and say nothing, as a process that is stopped.
func (p *pair) freeze() {
	frozen := newPipes()
	p.other.passing.dial = frozen.dial
	p.other.passing.lines.closeIdle(false)
	go func() {
		for {
			c, err := frozen.Accept()
			if err != nil {
				return
			}
			p.closeLater(c)
		}
	}()
	p.closeLater(frozen)
}

// TestSilentOwner: a node that does not answer and has no heartbeats costs a second, whatever is asked for, and whether
// it takes the connection or not.
func TestSilentOwner(t *testing.T) {
	for name, silence := range map[string]func(p *pair){
		"frozen": (*pair).freeze,
		"no way": func(p *pair) {
			p.other.passing.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(p *pair) {
				query, _ := p.open()
				silence(p)
				p.miss("bbbb")
				for _, bytes := range []int{0, 10, 90_000} {
					method, body := http.MethodGet, io.Reader(nil)
					if bytes > 0 {
						method, body = http.MethodPost, strings.NewReader("4"+strings.Repeat("x", bytes))
					}
					res, took := p.ask(method, query, body)
					refused := res.body == unknownSession || res.status == 0 && bytes > 10 // whose client may still be sending
					if !refused || took != time.Second {
						t.Errorf("%s: %v after %v", method, res, took)
					}
				}
				began := time.Now()
				if _, err := p.dial(query); !errors.Is(err, websocket.ErrBadHandshake) || time.Since(began) != time.Second {
					t.Errorf("upgrade: %v after %v", err, time.Since(began))
				}
				if n := p.other.count(countSilent); n != 4 {
					t.Errorf("%d were silent", n)
				}
			})
		})
	}
}

// TestSlowOwnerIsNotSilent: a node whose heartbeats come is waited for, though it has no time to answer, until they do
// not come any more, and not for ever.
func TestSlowOwnerIsNotSilent(t *testing.T) {
	for name, tt := range map[string]struct{ missAfter, want time.Duration }{
		"until it is silent": {5500 * time.Millisecond, 6 * time.Second},
		"not for ever":       {time.Hour, mostRounds * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(p *pair) {
				query, _ := p.open()
				p.freeze()
				defer time.AfterFunc(tt.missAfter, func() { p.miss("bbbb") }).Stop()
				if res, took := p.ask(http.MethodGet, query, nil); res.body != unknownSession || took != tt.want {
					t.Errorf("%v after %v, want %v", res, took, tt.want)
				}
			})
		})
	}
}

// TestPollWaits: a poll waits at its session's node as long as it likes; so does a POST of a session that is paused.
func TestPollWaits(t *testing.T) {
	inBubble(t, func(p *pair) {
		query, session := p.open()
		if res, took := p.ask(http.MethodGet, query, nil); res.body != "2" || took < 24*time.Second || took > 26*time.Second {
			t.Errorf("%v after %v", res, took)
		}
		p.ask(http.MethodPost, query, strings.NewReader("3"))
		session.Pause()
		time.AfterFunc(100*time.Second, session.Resume)
		if res, took := p.ask(http.MethodPost, query, strings.NewReader("4late")); res.body != "ok" || took != 100*time.Second {
			t.Errorf("%v after %v", res, took)
		}
		if res, _ := p.ask(http.MethodGet, query, nil); !strings.HasSuffix(res.body, "4late") { // behind some pings
			t.Errorf("%v", res)
		}
		for name, n := range p.other.passing.drops() {
			if n != 0 {
				t.Errorf("%s is %d", name, n)
			}
		}
	})
}

// slowly is a body that comes in pieces.
type slowly struct {
	pieces int
	every  time.Duration
}

func (s *slowly) Read(b []byte) (int, error) {
	if s.pieces--; s.pieces < 0 {
		return 0, io.EOF
	}
	time.Sleep(s.every)
	b[0] = '4'
	return 1, nil
}

// TestSlowBody: a client may take its time for a body, which is not its node's silence; but not for ever.
func TestSlowBody(t *testing.T) {
	inBubble(t, func(p *pair) {
		query, session := p.open()
		if res, took := p.ask(http.MethodPost, query, &slowly{5, 4 * time.Second}); res.body != "ok" || took != 20*time.Second {
			t.Errorf("%v after %v", res, took)
		}
		if res, _ := p.ask(http.MethodGet, query, nil); res.body != "44444" {
			t.Errorf("%v", res)
		}
		began := time.Now()
		res, _ := p.ask(http.MethodPost, query, &slowly{100, 4 * time.Second})
		synctest.Wait()
		if took := time.Since(began); res.body == "ok" || took > 35*time.Second {
			t.Errorf("%v after %v", res, took)
		}
		if session.Transport() != "polling" || p.other.passing.Len() != 0 {
			t.Errorf("%d are still passed", p.other.passing.Len())
		}
		time.Sleep(5 * time.Second) // for the body to see that nobody wants it
	})
}

// TestLostMember: when a member is lost, a client that waits for it hears so within the time between two looks.
func TestLostMember(t *testing.T) {
	inBubble(t, func(p *pair) {
		poll, _ := p.open()
		up, _ := p.open()
		ws := p.upgrade(up)
		defer ws.Close()
		var answer response
		var took time.Duration
		var asking sync.WaitGroup
		asking.Go(func() { answer, took = p.ask(http.MethodGet, poll, nil) })
		time.Sleep(10 * time.Second)
		p.lose("bbbb")
		began := time.Now()
		if _, _, err := ws.ReadMessage(); err == nil || time.Since(began) > lookEvery {
			t.Errorf("stream: %v after %v", err, time.Since(began))
		}
		asking.Wait()
		if answer.body != unknownSession || took > 10*time.Second+lookEvery {
			t.Errorf("poll: %v after %v", answer, took)
		}
		time.Sleep(2 * lingerTimeout)
		if p.other.passing.Len() != 0 || p.other.count(countGone) != 2 {
			t.Errorf("%d are passed, %d ended", p.other.passing.Len(), p.other.count(countGone))
		}
		if p.other.passing.look != nil {
			t.Error("it is still looked, though nothing is passed")
		}
	})
}

// TestClientTakesNothing: a client that does not read what is passed to it is let go of after SlowAfter, and not one
// that reads a little. Another SlowAfter may hold from some moment on.
func TestClientTakesNothing(t *testing.T) {
	inBubble(t, func(p *pair) {
		query, session := p.open()
		ws := p.upgrade(query)
		defer ws.Close()
		synctest.Wait()
		began := time.Now()
		session.Send(engineio.NewMessage([]byte(strings.Repeat("x", 200)), nil), 0)
		session.Flush()
		under := ws.NetConn()
		for range 3 { // a byte every 9 seconds is little, and something
			time.Sleep(9 * time.Second)
			if _, err := under.Read(make([]byte, 1)); err != nil {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
		}
		if p.other.passing.Len() != 1 {
			t.Fatalf("it is let go of after %v", time.Since(began))
		}
		time.Sleep(20 * time.Second) // the last byte came within one wait, and nothing came within the next
		if p.other.passing.Len() != 0 || p.other.count(countSlow) != 1 {
			t.Errorf("%d are passed, %d were slow", p.other.passing.Len(), p.other.count(countSlow))
		}

		query, session = p.open()
		greedy := p.upgrade(query)
		defer greedy.Close()
		synctest.Wait()
		session.Send(engineio.NewMessage([]byte(strings.Repeat("x", 10*smallBytes)), nil), 0)
		session.Flush()
		for range 3 { // it reads until the stream has a large buffer
			if _, err := io.ReadFull(greedy.NetConn(), make([]byte, smallBytes)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := p.other.passing.buffers.lent.Load(); n != 1 {
			t.Errorf("%d large buffers are lent to the stream", n)
		}
		time.Sleep(25 * time.Second)
		if n := p.other.passing.buffers.lent.Load(); n != 0 || p.other.count(countSlow) != 2 {
			t.Errorf("%d large buffers are lent to nobody, %d were slow", n, p.other.count(countSlow))
		}

		p.other.passing.SetSlowAfter(2 * time.Second)
		query, session = p.open()
		session.Send(engineio.NewMessage([]byte(strings.Repeat("x", 100_000)), nil), 0)
		conn, err := p.edge.dial(context.Background(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET /socket.io/?"+query+" HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(4 * time.Second)
		if p.other.passing.Len() != 0 || p.other.count(countCut) != 1 {
			t.Errorf("%d are passed, %d were cut", p.other.passing.Len(), p.other.count(countCut))
		}
	})
}

// TestDrain: streams end one by one over the window, upgrades are refused, and requests are passed until the end.
func TestDrain(t *testing.T) {
	inBubble(t, func(p *pair) {
		const streams = 20
		var ends []time.Duration
		var mu sync.Mutex
		var reading sync.WaitGroup
		began := time.Now()
		for range streams {
			query, _ := p.open()
			ws := p.upgrade(query)
			reading.Go(func() {
				defer ws.Close()
				_, _, err := ws.ReadMessage()
				mu.Lock()
				defer mu.Unlock()
				ends = append(ends, time.Since(began))
				if err == nil {
					t.Error("a message instead of an end")
				}
			})
		}
		query, _ := p.open()
		var draining sync.WaitGroup
		draining.Go(func() { p.other.passing.Drain(context.Background(), 10*time.Second) })
		synctest.Wait()
		if _, err := p.dial(query); !errors.Is(err, websocket.ErrBadHandshake) {
			t.Errorf("an upgrade meanwhile: %v", err)
		}
		if res, _ := p.ask(http.MethodPost, query, strings.NewReader("4x")); res.body != "ok" {
			t.Errorf("a request meanwhile: %v", res)
		}
		draining.Wait()
		reading.Wait()
		slices.Sort(ends)
		for i, at := range ends { // each has its own part of the window
			part := 10 * time.Second / streams
			if at < time.Duration(i)*part || at > time.Duration(i+1)*part {
				t.Errorf("stream %d ended after %v", i, at)
			}
		}
		if len(ends) != streams || p.other.passing.Len() != 0 {
			t.Errorf("%d have ended, %d are passed", len(ends), p.other.passing.Len())
		}
	})
}

// TestPollsOfALeavingMember: a poll that a member has passed is answered when that member is about to leave, which
// waits for it; its session is as good as before, and its client's next poll has what was said meanwhile.
func TestPollsOfALeavingMember(t *testing.T) {
	inBubble(t, func(p *pair) {
		var polls []string
		var answers [3]response
		var asking sync.WaitGroup
		for i := range answers {
			query, _ := p.open()
			polls = append(polls, query)
			asking.Go(func() { answers[i], _ = p.ask(http.MethodGet, query, nil) })
		}
		time.Sleep(10 * time.Second) // nothing is said
		synctest.Wait()
		if n := p.other.passing.Len(); n != len(polls) {
			t.Fatalf("%d are passed", n)
		}
		p.leave("aaaa")
		began := time.Now()
		p.other.passing.Drain(context.Background(), 0)
		if took := time.Since(began); took > lookEvery+drainRound {
			t.Errorf("it waited %v", took)
		}
		p.other.passing.Close()
		asking.Wait()
		for i, query := range polls {
			if answers[i].status != http.StatusOK || answers[i].body != "6" {
				t.Errorf("poll: %v", answers[i])
			}
			p.owner.all[i].Send(engineio.NewMessage([]byte("x"), nil), 0)
			if res := p.direct(query); res.body != "4x" {
				t.Errorf("the next poll: %v", res)
			}
		}
	})
}

// TestClose: what is under way when the node ends is ended, and a request that comes later is not passed.
func TestClose(t *testing.T) {
	inBubble(t, func(p *pair) {
		poll, _ := p.open()
		up, _ := p.open()
		ws := p.upgrade(up)
		defer ws.Close()
		var answer response
		var asking sync.WaitGroup
		asking.Go(func() { answer, _ = p.ask(http.MethodGet, poll, nil) })
		synctest.Wait()
		p.other.passing.Close()
		asking.Wait()
		if answer.body != unknownSession {
			t.Errorf("poll: %v", answer)
		}
		if _, _, err := ws.ReadMessage(); err == nil {
			t.Error("the stream goes on")
		}
		if res, _ := p.ask(http.MethodGet, up, nil); res.status != 0 {
			t.Errorf("later it is answered, so that no balancer asks another node: %v", res)
		}
	})
}
