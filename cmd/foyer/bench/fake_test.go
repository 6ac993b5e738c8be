package bench

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/gorilla/websocket"
)

// network is one of pipes, so that time in a bubble can pass. Everybody who dials reaches the one who listens by the
// address.
type network struct {
	mu        sync.Mutex
	listeners map[string]*pipeListener
}

func (n *network) listen(addr string) *pipeListener {
	l := &pipeListener{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners == nil {
		n.listeners = map[string]*pipeListener{}
	}
	n.listeners[addr] = l
	return l
}

func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type pipeListener struct {
	addr   string
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr  { return l }
func (l *pipeListener) Network() string { return "pipe" }
func (l *pipeListener) String() string  { return l.addr }

// fake is a small Engine.IO and Socket.IO server whose ways a test may change. What it is asked, it does on the
// goroutine of the link that asks.
type fake struct {
	network

	// Set before it serves; nil or zero: as a good server does.
	other     string                                            // address of another server of its cluster
	handshake func(w http.ResponseWriter, r *http.Request) bool // false: it has answered by itself
	connect   string                                            // answer to CONNECT
	deliver   func(to *session, nth int, packet string)         // nth counts from 1, in each room
	ask       func(from *session, event, id, args string) bool  // an event and its acknowledgement's id; false: it was dealt with
	probe     string                                            // answer to a probe

	end     chan struct{}  // closed when the test is over
	serving sync.WaitGroup // requests and links

	mu       sync.Mutex
	last     int
	sessions map[string]*session
	rooms    map[string][]*session
	emitted  map[string]int // by room
	pongs    int
}

// session is one client of the fake.
type session struct {
	f   *fake
	sid string
	n   int // its place, by age; the client of the load generator that asks for emits is among them

	writes chan func(*websocket.Conn) // of a websocket's writer: a pipe has no buffer, so the reader must not wait for it

	mu    sync.Mutex
	queue []string      // what waits for a poll
	ready chan struct{} // 1: there is something
}

const fakeAddr = "server:80"

// serve starts the fake and returns options for a run against it.
func (f *fake) serve(t *testing.T, scenario string) Options {
	t.Helper()
	f.start(t).Start()
	return f.options(scenario)
}

func (f *fake) start(t *testing.T) *httptest.Server {
	f.sessions, f.rooms, f.emitted = map[string]*session{}, map[string][]*session{}, map[string]int{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(f.serveHTTP))
	s.Listener.Close()
	s.Listener = f.listen(fakeAddr)
	if f.other != "" {
		other := httptest.NewUnstartedServer(s.Config.Handler)
		other.Listener.Close()
		other.Listener, other.Config.ConnContext = f.listen(f.other), connContext
		other.Start()
		t.Cleanup(other.Close)
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.ConnContext = connContext
	f.end = make(chan struct{})
	t.Cleanup(func() {
		close(f.end)
		s.Close()
		f.serving.Wait() // links are none of the server's any more
	})
	return s
}

type connKey struct{}

func connContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

func (f *fake) options(scenario string) Options {
	return Options{
		Scenario: scenario, URL: "http://" + fakeAddr, Transport: transportWebSocket, Clients: 3, Parallel: 1, Rooms: 1, Window: 4,
		Rate: 10, Bytes: 100, Duration: 1050e6, Patience: 15e9, dial: f.dial,
	}
}

var upgrader = websocket.Upgrader{WriteBufferSize: 64}

func (f *fake) serveHTTP(w http.ResponseWriter, r *http.Request) {
	f.serving.Add(1)
	defer f.serving.Done()
	q := r.URL.Query()
	sid := q.Get("sid")
	if sid == "" && f.handshake != nil && !f.handshake(w, r) {
		return
	}
	f.mu.Lock()
	s := f.sessions[sid]
	if sid == "" {
		f.last++
		s = &session{f: f, n: f.last, sid: "s" + strconv.Itoa(f.last), ready: make(chan struct{}, 1)}
		f.sessions[s.sid] = s
	}
	f.mu.Unlock()
	switch {
	case s == nil || q.Get("EIO") != "4":
		http.Error(w, `{"code":1,"message":"Session ID unknown"}`, http.StatusBadRequest)
	case q.Get("transport") == "websocket":
		s.serveWebSocket(w, r, sid != "")
	case r.Method == http.MethodPost:
		body, _ := io.ReadAll(r.Body)
		for packet := range strings.SplitSeq(string(body), "\x1e") {
			s.receive(packet)
		}
		io.WriteString(w, "ok")
	case sid == "":
		io.WriteString(w, s.open())
	default:
		s.servePoll(w, r)
	}
}

func (s *session) open() string {
	return `0{"sid":"` + s.sid + `","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`
}

// servePoll answers in chunks, cut anywhere.
func (s *session) servePoll(w http.ResponseWriter, r *http.Request) {
	select {
	case <-s.ready:
	case <-s.f.end:
	case <-r.Context().Done():
		return
	}
	s.mu.Lock()
	body := strings.Join(s.queue, "\x1e")
	s.queue = nil
	s.mu.Unlock()
	for chunk := range slices.Chunk([]byte(body), 30) {
		w.Write(chunk)
		w.(http.Flusher).Flush()
	}
}

func (s *session) serveWebSocket(w http.ResponseWriter, r *http.Request, upgrade bool) {
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer ws.Close()
	ws.SetPongHandler(func(string) error {
		s.f.count(&s.f.pongs)
		return nil
	})
	if upgrade {
		if _, p, _ := ws.ReadMessage(); string(p) != "2probe" {
			return
		}
		answer := s.f.probe
		if answer == "" {
			answer = "3probe"
		}
		ws.WriteMessage(websocket.TextMessage, []byte(answer))
	} else {
		over := make(chan struct{})
		defer close(over)
		s.mu.Lock()
		s.writes = make(chan func(*websocket.Conn), 1000)
		s.mu.Unlock()
		s.f.serving.Go(func() {
			for {
				select {
				case write := <-s.writes:
					write(ws)
				case <-over:
					return
				}
			}
		})
		s.send(s.open())
	}
	for {
		_, p, err := ws.ReadMessage()
		if err != nil {
			return
		}
		s.receive(string(p))
	}
}

// send sends a packet, or lets it wait for a poll.
func (s *session) send(packet string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writes != nil {
		s.writes <- func(ws *websocket.Conn) { ws.WriteMessage(websocket.TextMessage, []byte(packet)) }
		return
	}
	s.queue = append(s.queue, packet)
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// write does to a websocket what send cannot.
func (s *session) write(what func(ws *websocket.Conn)) { s.writes <- what }

// raw writes bytes below the websocket, and closes it then if there is to be an end.
func (s *session) raw(bytes []byte, end bool) {
	s.write(func(ws *websocket.Conn) {
		ws.NetConn().Write(bytes)
		if end {
			ws.NetConn().Close()
		}
	})
}

func (f *fake) count(what *int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*what++
}

func (f *fake) counted(what *int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *what
}

func (s *session) receive(packet string) {
	rest, event := strings.CutPrefix(packet, "42")
	switch {
	case packet == "40":
		answer := s.f.connect
		if answer == "" {
			answer = `40{"sid":"` + s.sid + `"}`
		}
		s.send(answer)
	case packet == "3":
		s.f.count(&s.f.pongs)
	case event:
		id := rest[:strings.IndexByte(rest, '[')]
		args := rest[len(id):]
		var list []any
		if json.Unmarshal([]byte(args), &list) != nil {
			return
		}
		name := list[0].(string)
		if s.f.ask == nil || s.f.ask(s, name, id, args) {
			s.event(name, id, args, list)
		}
	}
}

// event does what the package comment asks of an application.
func (s *session) event(name, id, args string, list []any) {
	f := s.f
	switch name {
	case "bench:join":
		f.join(s, list[1].(string))
		s.send("43" + id + "[]")
	case "bench:leave":
		s.send("43" + id + "[]")
	case "bench:echo":
		s.send("43" + id + "[" + strings.TrimPrefix(args, echoPrefix))
	case "bench:emit":
		room := list[1].(string)
		f.emit(room, `42["bench",`+strings.TrimPrefix(args, `["bench:emit","`+room+`",`))
	}
}

func (f *fake) join(s *session, room string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rooms[room] = append(f.rooms[room], s)
}

func (f *fake) emit(room, packet string) {
	f.mu.Lock()
	members := f.rooms[room]
	f.emitted[room]++
	nth := f.emitted[room]
	f.mu.Unlock()
	for _, m := range members {
		if f.deliver != nil {
			f.deliver(m, nth, packet)
		} else {
			m.send(packet)
		}
	}
}
