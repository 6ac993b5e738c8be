package streams

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"foyer/service/adapter/freeport"
	"foyer/service/adapter/official"
	"foyer/service/adapter/redistest"
)

// TestQuestionsComeBehindEntries: when a question is heard, what was said before it is in the stream.
func TestQuestionsComeBehindEntries(t *testing.T) {
	server := redistest.Start(t, freeport.New(t))
	own := stranger(t, server.Addr)
	a := open(t, "AAAA", Config{Addresses: []string{server.Addr}})
	sub := own.Subscribe(t.Context(), "socket.io#/#")
	defer sub.Close()
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	const most = 200
	for i := range most {
		a.say(official.Message{Kind: official.Join, Rooms: []string{"a"}, Change: []string{"b"}})
		a.say(official.Message{Kind: official.FetchSockets, Rooms: []string{"room " + strconv.Itoa(i)}, Request: "q"})
	}
	for i := range most {
		m, err := sub.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		read, fault := official.ReadCluster("/", []byte(m.Payload), 1<<20)
		if fault != 0 || read.Rooms[0] != "room "+strconv.Itoa(i) {
			t.Fatalf("question %d is %+v, %v", i, read, fault)
		}
		if n := own.XLen(t.Context(), "socket.io").Val(); n <= int64(i) {
			t.Fatalf("question %d is heard when the stream has %d entries", i, n)
		}
	}
}

// TestWhatWaitsIsBounded: while there is no server, so much waits and no more, and a node closes nevertheless. When the
// server comes, what waits is written in its order.
func TestWhatWaitsIsBounded(t *testing.T) {
	port := freeport.New(t)
	c := Config{Addresses: []string{"127.0.0.1:" + port}, callTimeout: redistest.Patience}
	full, a := open(t, "BBBB", c), open(t, "AAAA", c)
	a.Follow("/", true)
	m := emit(strings.Repeat("x", 100_000))
	m.UID, m.Namespace = full.cfg.UID, "/"
	taken := 0
	for range 1000 {
		err := full.Publish(&m, "")
		if errors.Is(err, errFull) {
			break
		}
		taken++
	}
	if bytes := taken * len(m.Payload); bytes < outBytes/2 || bytes > outBytes {
		t.Errorf("%d bytes wait", bytes)
	}
	if err := full.Close(); err != nil {
		t.Error(err)
	}
	if err := full.Publish(&m, ""); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed medium says %v", err)
	}

	const most = 1000
	for i := range most {
		a.say(emit(strconv.Itoa(i)))
	}
	said := int64(most)
	try := func() error {
		m := emit(strconv.FormatInt(said, 10))
		said++
		m.UID, m.Namespace = a.cfg.UID, "/"
		return a.Publish(&m, "")
	}
	redistest.Await(t, "doubt", func() bool { return errors.Is(try(), official.ErrDoubt) })
	server := redistest.Start(t, port)
	own := stranger(t, server.Addr)
	redistest.Await(t, "what has waited", func() bool { return own.XLen(t.Context(), "socket.io").Val()+a.Dropped()["lost"] == said })
	var last int
	for _, e := range own.XRange(t.Context(), "socket.io", "-", "+").Val() {
		read, fault := official.ReadEntry(entryOf(e.Values), 1<<20)
		n, err := strconv.Atoi(read.Event)
		if fault != 0 || err != nil || n < last {
			t.Fatalf("%v stands behind %d", e.Values, last)
		}
		last = n
	}
	redistest.Await(t, "the end of all doubt", func() bool { return try() == nil })
	redistest.Await(t, "an entry", func() bool {
		writeEmit(t, own, "socket.io", "/", "hello")
		return len(a.came) > 0
	})
}

// TestLargeEntries: few of them are read at once, all are heard, and small ones go fast again.
func TestLargeEntries(t *testing.T) {
	server := redistest.Start(t, freeport.New(t))
	own := stranger(t, server.Addr)
	e := open(t, "AAAA", Config{Addresses: []string{server.Addr}})
	e.follow("/")
	e.gate.Lock()
	const most = 40
	for i := range most {
		write(t, own, "socket.io", "uid", "u", "nsp", "/", "type", "3", "data",
			`{"packet":{"type":2,"data":["`+strconv.Itoa(i)+`","`+strings.Repeat("x", 1<<20)+`"]},"opts":{"rooms":[],"except":[],"flags":{}}}`)
	}
	e.gate.Unlock()
	for i := range most {
		e.hears(strconv.Itoa(i))
	}
	for i := range 1000 {
		writeEmit(t, own, "socket.io", "/", "small "+strconv.Itoa(i))
		e.hears("small " + strconv.Itoa(i))
	}
	if n := e.Dropped()["trimmed"]; n != 0 {
		t.Errorf("%d are missed", n)
	}
}

// proxy passes bytes on to a server, and cuts connections.
type proxy struct {
	net.Listener
	to  string
	cut atomic.Bool // the next entry that is written is passed on, and its answer is not
	did atomic.Int64
}

func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p := &proxy{Listener: l, to: to}
	go func() { // it ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			go p.pass(c, s, p.entry)
			go p.pass(s, c, nil)
		}
	}()
	return p
}

// pass passes on what comes until one end closes. stop says that enough has come.
func (p *proxy) pass(from, to net.Conn, stop func([]byte) bool) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		over := stop != nil && stop(buf[:n])
		if over {
			_ = from.Close() // before the answer can come
		}
		if _, err := to.Write(buf[:n]); err != nil || over {
			return
		}
	}
}

func (p *proxy) entry(b []byte) bool {
	if bytes.Contains(b, []byte("xadd")) && p.cut.CompareAndSwap(true, false) {
		p.did.Add(1)
		return true
	}
	return false
}

// TestWrittenOnce: an entry whose answer does not come may have been written. It is not written again, and is counted.
func TestWrittenOnce(t *testing.T) {
	server := redistest.Start(t, freeport.New(t))
	own := stranger(t, server.Addr)
	p := startProxy(t, server.Addr)
	a := open(t, "AAAA", Config{Addresses: []string{p.Addr().String()}})
	for i := range 5 {
		lost := a.Dropped()["lost"]
		p.cut.Store(true)
		a.say(emit("cut " + strconv.Itoa(i)))
		redistest.Await(t, "a loss", func() bool { return a.Dropped()["lost"] == lost+1 })
		a.say(emit("whole " + strconv.Itoa(i)))
		redistest.Await(t, "an entry", func() bool { return a.writer.idle() })
	}
	var got []string
	for _, e := range own.XRange(t.Context(), "socket.io", "-", "+").Val() {
		read, _ := official.ReadEntry(entryOf(e.Values), 1<<20)
		got = append(got, read.Event)
	}
	seen := slices.Clone(got)
	slices.Sort(seen)
	if len(slices.Compact(seen)) != len(got) || !slices.Contains(got, "whole 4") || p.did.Load() != 5 {
		t.Errorf("the stream has %q", got)
	}
}

// TestRefusals: a server that will not do what a node needs is found out at the start, in one line that says what it
// is.
func TestRefusals(t *testing.T) {
	server := redistest.Start(t, freeport.New(t))
	own := stranger(t, server.Addr)
	all := []any{"ACL", "SETUSER", "u", "reset", "on", ">secret", "~*", "&*", "+@all"}
	for _, tc := range []struct {
		rule string
		want string // "": it may
	}{
		{"+@all", ""},
		{"-xadd", `XADD to the key "socket.io"`},
		{"-xread", `XREAD of the key "socket.io"`},
		{"-xrange", `XRANGE of the key "socket.io"`},
		{"-xinfo", `XINFO STREAM of the key "socket.io"`},
		{"-publish", `PUBLISH on the channel "socket.io#/#foyer:c:AAAA#"`},
		{"-pubsub", "PUBSUB NUMSUB"},
		{"-subscribe", `SUBSCRIBE to the channels "socket.io#/#foyer:c:AAAA#" and "c.in.foyer:c:AAAA"`},
		{"resetchannels &socket.io* &c.*", ""},
		{"resetchannels &c.*", `PUBLISH on the channel`},
		{"resetkeys ~other", `XINFO STREAM of the key "socket.io"`},
		{"allcommands -psubscribe -script -xtrim", ""},
	} {
		rules := slices.Clone(all)
		for _, rule := range strings.Fields(tc.rule) {
			rules = append(rules, rule)
		}
		if err := own.Do(t.Context(), rules...).Err(); err != nil {
			t.Fatal(err)
		}
		m := New(Config{
			Addresses: []string{server.Addr}, User: "u", Password: "secret", UID: "foyer:c:AAAA", Ours: "foyer:c:", Marker: "c", callTimeout: redistest.Patience,
		})
		err := m.Open(func(*official.Message) {})
		if (err == nil) != (tc.want == "") || err != nil && (!strings.Contains(err.Error(), "does not take "+tc.want) || !strings.Contains(err.Error(), "NOPERM") || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: got %v, want %q", tc.rule, err, tc.want)
		}
		_ = m.Close()
	}
	if n := own.Exists(t.Context(), "socket.io").Val(); n != 0 {
		t.Error("what was tried is in the stream")
	}
	own.Set(t.Context(), "socket.io", "x", 0)
	m := New(Config{Addresses: []string{server.Addr}, UID: "foyer:c:AAAA", Ours: "foyer:c:", Marker: "c", callTimeout: redistest.Patience})
	if err := m.Open(func(*official.Message) {}); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("a key that is no stream: %v", err)
	}
	_ = m.Close()
}

// TestSilentServer: a server that takes connections and says nothing holds up nobody who closes.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e := open(t, "AAAA", Config{Addresses: []string{l.Addr().String()}, callTimeout: callWait})
	e.Follow("/", true)
	e.say(emit("x"))
	e.say(official.Message{Kind: official.FetchSockets, Request: "q"})
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestFlood: garbage on a channel, and entries that say nothing, are counted, and what is said amid them is heard.
func TestFlood(t *testing.T) {
	server := redistest.Start(t, freeport.New(t))
	own := stranger(t, server.Addr)
	e := open(t, "AAAA", Config{Addresses: []string{server.Addr}})
	e.follow("/")
	const most = 3000
	for i := range most {
		if err := own.Publish(t.Context(), "socket.io#/#", "\xc1garbage").Err(); err != nil {
			t.Fatal(err)
		}
		write(t, own, "socket.io", "uid", "u", "nsp", "/", "type", "3", "data", "{")
		if i%1000 == 0 {
			writeEmit(t, own, "socket.io", "/", fmt.Sprint(i))
			e.hears(fmt.Sprint(i))
		}
	}
	redistest.Await(t, "the count of garbage", func() bool { return e.Dropped()["garbled"]+e.Dropped()["busy"] == 2*most })
}

// TestFrozenServer: a server that is silent for longer than a connection may be is found out, and when it goes on each
// entry is there once at most, in its order, and what it has not taken is counted.
func TestFrozenServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, freeport.New(t))
	c := Config{Addresses: []string{server.Addr}, callTimeout: callWait}
	a, peer := open(t, "AAAA", c), open(t, "other.PEER", c)
	a.follow("/")
	peer.follow("/")
	if err := server.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	const most = 100
	for i := range most {
		a.say(emit(fmt.Sprint("0.", i)))
	}
	redistest.Await(t, "that it is silent", func() bool { _, err := a.Peers(t.Context(), "/"); return errors.Is(err, errLost) })
	if err := server.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	redistest.Await(t, "the count of peers", func() bool { n, err := a.Peers(t.Context(), "/"); return n == 1 && err == nil })
	redistest.Await(t, "what waits", a.writer.idle)
	a.say(emit("1.0"))
	last, heard := "", 0
	for last != "1.0" {
		m := peer.next()
		if last != "" && compare(last, m.Event) >= 0 {
			t.Errorf("%s is heard after %s", m.Event, last)
		}
		last, heard = m.Event, heard+1
	}
	if lost := int(a.Dropped()["lost"]); heard+lost < most+1 {
		t.Errorf("heard %d and lost %d of %d", heard, lost, most+1)
	}
	a.say(official.Message{Kind: official.FetchSockets, Request: "q"})
	if m := peer.next(); m.Request != "q" {
		t.Errorf("heard %+v", m)
	}
}
