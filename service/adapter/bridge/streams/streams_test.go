package streams

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"foyer/service/adapter/freeport"
	"foyer/service/adapter/official"
	"foyer/service/adapter/redistest"
)

// The library goes on to dial for up to a second after a client is closed whose server is away.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// ear is a node's medium, and what its bridge was told.
type ear struct {
	*Medium
	t      testing.TB
	came   chan *official.Message
	logged *observer.ObservedLogs
	gate   sync.RWMutex // held by a test that wants the bridge to wait
}

// open makes a node of cluster "c", or of another one that the name says before a dot: that one is a peer.
func open(t testing.TB, name string, c Config) *ear {
	t.Helper()
	cluster, node, ok := strings.Cut(name, ".")
	if !ok {
		cluster, node = "c", name
	}
	c.Ours, c.Marker = "foyer:"+cluster+":", cluster
	c.UID = c.Ours + node
	core, logged := observer.New(zap.InfoLevel)
	c.Logger = zap.New(core)
	c.callTimeout = cmp.Or(c.callTimeout, redistest.Patience/4) // a busy server may answer late
	e := &ear{Medium: New(c), t: t, came: make(chan *official.Message, 100_000), logged: logged}
	t.Cleanup(func() { _ = e.Close() })
	if err := e.Open(func(m *official.Message) {
		e.gate.RLock()
		defer e.gate.RUnlock()
		e.came <- m
	}); err != nil {
		t.Fatal(err)
	}
	return e
}

// follow follows a namespace, and waits until it is heard.
func (e *ear) follow(namespace string) {
	e.t.Helper()
	select {
	case <-e.Follow(namespace, true):
	case <-time.After(redistest.Patience):
		e.t.Fatalf("%s is not heard", namespace)
	}
}

func (e *ear) say(m official.Message) {
	e.t.Helper()
	if m.UID == "" {
		m.UID = e.cfg.UID
	}
	if m.Namespace == "" {
		m.Namespace = "/"
	}
	if err := e.Publish(&m, ""); err != nil && !errors.Is(err, official.ErrDoubt) {
		e.t.Fatal(err)
	}
}

func emit(event string) official.Message {
	return official.Message{Kind: official.Broadcast, Payload: []byte(`["` + event + `"]`)}
}

// next is what the bridge is told next.
func (e *ear) next() *official.Message {
	e.t.Helper()
	select {
	case m := <-e.came:
		return m
	case <-time.After(redistest.Patience):
		e.t.Fatalf("nothing comes: %v", e.logged.All())
		return nil
	}
}

// hears wants events, one after the other and no others.
func (e *ear) hears(events ...string) {
	e.t.Helper()
	for _, event := range events {
		if m := e.next(); m.Event != event {
			e.t.Fatalf("heard %v %q, want %q", m.Kind, m.Event, event)
		}
	}
}

// told waits for a line of the log.
func (e *ear) told(message string) {
	e.t.Helper()
	redistest.Await(e.t, message, func() bool { return e.logged.FilterMessage(message).Len() > 0 })
}

// stranger is who is no node, as a server on Node or an emitter.
func stranger(t testing.TB, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DisableIdentity: true})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// write appends an entry with the fields of the official form.
func write(t testing.TB, c redis.Cmdable, stream string, fields ...string) {
	t.Helper()
	if err := c.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, Values: fields}).Err(); err != nil {
		t.Fatal(err)
	}
}

// emitData is the data of a broadcast.
func emitData(event string) string {
	return `{"packet":{"type":2,"data":["` + event + `"]},"opts":{"rooms":[],"except":[],"flags":{}}}`
}

func writeEmit(t testing.TB, c redis.Cmdable, stream, namespace, event string) {
	t.Helper()
	write(t, c, stream, "uid", "aaaabbbbccccdddd", "nsp", namespace, "type", "3", "data", emitData(event))
}

// TestANamespaceIsGivenBackAtTheEnd: the reader of its stream has ended with the medium by then.
func TestANamespaceIsGivenBackAtTheEnd(t *testing.T) {
	m := New(Config{Addresses: []string{"127.0.0.1:1"}, UID: "foyer:c:AAAA", Ours: "foyer:c:"})
	r := &reader{medium: m, stream: m.stream("/"), namespaces: 1}
	m.readers[r.stream] = r
	m.spaces["/"] = &space{is: true, heard: make(chan struct{})}
	defer func() { _ = errors.Join(m.talk.Close(), m.disconnect()) }()
	m.cancel()
	if r.wanted() {
		t.Error("the reader goes on")
	}
	if err := m.settle("/"); err != nil || r.namespaces != 0 {
		t.Errorf("%d namespaces of the stream are followed, %v", r.namespaces, err)
	}
}

// TestWhatGoesWhere: what has no answer goes into the stream, in the order in which it was said, and nothing else does.
// A peer hears it, and nodes of the same cluster pass it over.
func TestWhatGoesWhere(t *testing.T) {
	server := redistest.Start(t, freeport.New(t))
	c := Config{Addresses: []string{server.Addr}}
	a, b, peer := open(t, "AAAA", c), open(t, "BBBB", c), open(t, "other.PEER", c)
	for _, e := range []*ear{a, b, peer} {
		e.follow("/")
	}
	opts := official.Message{Rooms: []string{"r"}}
	all := []official.Message{
		emit("first"),
		{Kind: official.Broadcast, Rooms: []string{"r"}, Payload: []byte(`["bin",{"_placeholder":true,"num":0}]`), Attachments: [][]byte{{1, 2}}},
		{Kind: official.Join, Rooms: opts.Rooms, Change: []string{"x"}},
		{Kind: official.Leave, Rooms: opts.Rooms, Change: []string{"x"}},
		{Kind: official.Disconnect, Rooms: opts.Rooms, Close: true},
	}
	questions := []official.Message{
		{Kind: official.Broadcast, Request: "q1", Payload: []byte(`["ask"]`)},
		{Kind: official.FetchSockets, Request: "q2"},
		{Kind: official.ServerSideEmit, Payload: []byte(`["news"]`)},
		{Kind: official.ServerSideEmit, Request: "q3", Payload: []byte(`["news"]`)},
	}
	for i := range all {
		a.say(all[i])
		if i < len(questions) {
			a.say(questions[i])
		}
	}
	var entries, published []string
	for range len(all) + len(questions) {
		m := peer.next()
		if m.UID != "foyer:c:AAAA" {
			t.Errorf("it comes from %s", m.UID)
		}
		if what := fmt.Sprint(m.Kind, m.Event, m.Request, m.Rooms, m.Change, m.Attachments, m.Close); official.Streamed(m) {
			entries = append(entries, what)
		} else {
			published = append(published, what)
		}
	}
	if want := []string{
		"broadcastfirst[] [] [] false", "broadcastbin[r] [] [[1 2]] false", "join[r] [x] [] false", "leave[r] [x] [] false", "disconnect[r] [] [] true",
	}; !slices.Equal(entries, want) {
		t.Errorf("entries %q, want %q", entries, want)
	}
	if want := []string{
		"broadcastaskq1[] [] [] false", "fetch_socketsq2[] [] [] false", "server_side_emitnews[] [] [] false", "server_side_emitnewsq3[] [] [] false",
	}; !slices.Equal(published, want) {
		t.Errorf("published %q, want %q", published, want)
	}
	peer.say(official.Message{Kind: official.Broadcast, Payload: []byte(`["last"]`)})
	for _, e := range []*ear{a, b} { // what was published is the bridge's to pass over
		redistest.Await(t, "the last event", func() bool { return e.next().Event == "last" })
	}
	own := stranger(t, server.Addr)
	if n := own.XLen(t.Context(), "socket.io").Val(); n != int64(len(all)+1) {
		t.Errorf("the stream has %d entries, want %d", n, len(all)+1)
	}
	for _, e := range own.XRange(t.Context(), "socket.io", "-", "+").Val() {
		if len(e.Values) != 4 {
			t.Errorf("an entry has the fields %v", e.Values)
		}
	}
}

// TestAnswersComeHome: an answer goes to the node that has asked and to nobody else, also where that node follows
// nothing, and the channels of answers are given back when there are too many.
func TestAnswersComeHome(t *testing.T) {
	server := redistest.Start(t, freeport.New(t))
	c := Config{Addresses: []string{server.Addr}}
	a, b, peer := open(t, "AAAA", c), open(t, "BBBB", c), open(t, "other.PEER", c)
	peer.follow("/chat")
	b.follow("/chat")
	a.say(official.Message{Kind: official.FetchSockets, Namespace: "/chat", Request: "q"})
	q := peer.next()
	redistest.Await(t, "the answer", func() bool { // the node may not listen for answers yet
		if err := peer.Publish(&official.Message{Kind: official.Sockets, UID: peer.cfg.UID, Namespace: "/chat", Request: q.Request}, q.UID); err != nil && !errors.Is(err, official.ErrDoubt) {
			t.Fatal(err)
		}
		return len(a.came) > 0
	})
	if m := a.next(); m.Kind != official.Sockets || m.Request != "q" {
		t.Errorf("heard %+v", m)
	}
	peer.say(official.Message{Kind: official.Broadcast, Namespace: "/chat", Payload: []byte(`["end"]`)})
	if m := b.next(); m.Kind != official.FetchSockets {
		t.Errorf("heard %+v", m)
	}
	b.hears("end")

	subscribed := func() int64 {
		return int64(len(stranger(t, server.Addr).PubSubChannels(t.Context(), "socket.io#*AAAA#").Val()))
	}
	for i := range maxAsked {
		a.say(official.Message{Kind: official.FetchSockets, Namespace: "/n" + strconv.Itoa(i), Request: "q"})
	}
	redistest.Await(t, "what is given back", func() bool { return subscribed() == 1 })
	a.Follow("/chat", false)
	if n := subscribed(); n > 1 {
		t.Errorf("%d channels of answers are left", n)
	}
}

// TestWhoIsCounted: servers that are no nodes are counted, as long as they listen, and a namespace that nobody follows
// any more is given back.
func TestWhoIsCounted(t *testing.T) {
	server := redistest.Start(t, freeport.New(t))
	c := Config{Addresses: []string{server.Addr}}
	a, b := open(t, "AAAA", c), open(t, "BBBB", c)
	counted := func(want int) {
		t.Helper()
		redistest.Await(t, fmt.Sprint(want, " peers"), func() bool {
			n, err := a.Peers(t.Context(), "/")
			return err == nil && n == want
		})
	}
	listeners := func() int64 {
		return stranger(t, server.Addr).PubSubNumSub(t.Context(), "socket.io#/#").Val()["socket.io#/#"]
	}
	counted(0)
	a.follow("/")
	b.follow("/")
	if n := listeners(); n != 2 {
		t.Errorf("%d servers are counted by those on Node, want 2", n)
	}
	counted(0)
	peer := open(t, "other.PEER", c)
	peer.follow("/")
	counted(1)
	gone := func() (list []string) {
		redistest.Await(t, "who is gone", func() (ok bool) {
			var err error
			list, err = a.Gone(t.Context(), "/", []string{peer.cfg.UID, b.cfg.UID, "nobody"})
			return err == nil
		})
		return list
	}
	if got := gone(); !slices.Equal(got, []string{"nobody"}) {
		t.Errorf("%q are gone", got)
	}
	if err := peer.Close(); err != nil {
		t.Error(err)
	}
	counted(0)
	if got := gone(); !slices.Equal(got, []string{peer.cfg.UID, "nobody"}) {
		t.Errorf("%q are gone", got)
	}
	a.Follow("/", false)
	redistest.Await(t, "what is given back", func() bool { return listeners() == 1 })
	a.follow("/")
	counted(0)
	if n := listeners(); n != 2 {
		t.Errorf("%d servers are counted by those on Node, want 2", n)
	}
	b.Follow("/", false)
	b.follow("/")
	writeEmit(t, stranger(t, server.Addr), "socket.io", "/", "both")
	a.hears("both")
	b.hears("both")
}

// TestNothingIsMissedFromTheFirstCount: a node that is counted reads already. It hears what is written from then on,
// and not what was written before.
func TestNothingIsMissedFromTheFirstCount(t *testing.T) {
	server := redistest.Start(t, freeport.New(t))
	own := stranger(t, server.Addr)
	for i := range 20 {
		name := "/" + strconv.Itoa(i)
		writeEmit(t, own, "socket.io", name, "before")
		e := open(t, "AAAA", Config{Addresses: []string{server.Addr}})
		e.Follow(name, true)
		main := "socket.io#" + name + "#"
		redistest.Await(t, "the count", func() bool { return own.PubSubNumSub(t.Context(), main).Val()[main] == 1 })
		writeEmit(t, own, "socket.io", name, "after")
		e.hears("after")
		_ = e.Close()
	}
}

// TestStreamsByNumber: with several streams a namespace has its own by its name, as at the official servers: those
// write also to streams with a negative number, which they do not read. A stream is not read for other namespaces.
func TestStreamsByNumber(t *testing.T) {
	server := redistest.Start(t, freeport.New(t))
	own := stranger(t, server.Addr)
	e := open(t, "AAAA", Config{Addresses: []string{server.Addr}, Count: 3, Stream: "s", Length: 5})
	streams := map[string]string{"/": "s-2", "/chat": "s-1", "/socket.io": "s--1"}
	for name, stream := range streams {
		if got := e.stream(name); got != stream {
			t.Errorf("%s has the stream %s, want %s", name, got, stream)
		}
		e.follow(name)
		writeEmit(t, own, stream, "/other", "of another")
		writeEmit(t, own, stream, name, "of "+name)
		e.hears("of " + name)
		m := emit("x")
		m.Namespace = name
		for range 500 {
			e.say(m)
		}
		redistest.Await(t, "trimming", func() bool {
			n := own.XInfoStream(t.Context(), stream).Val()
			return n.EntriesAdded == 502 && n.Length < 250
		})
	}
	if n := own.DBSize(t.Context()).Val(); n != 3 {
		t.Errorf("there are %d keys, want 3", n)
	}
}

// TestEmitters: what the emitter of streams writes is heard.
func TestEmitters(t *testing.T) {
	server := redistest.Start(t, freeport.New(t))
	own := stranger(t, server.Addr)
	e := open(t, "AAAA", Config{Addresses: []string{server.Addr}})
	e.follow("/")
	for _, tc := range []struct{ typ, data, want string }{
		{"3", `{"packet":{"type":2,"data":["hi",1],"nsp":"/"},"opts":{"rooms":[],"flags":{},"except":[]}}`, `broadcast hi ["hi",1] [] [] false`},
		{"3", "gqZwYWNrZXSCpHR5cGUCpGRhdGGSoWLEAgECpG9wdHODpXJvb21zkKZleGNlcHSQpWZsYWdzgA==", `broadcast b ["b",{"_placeholder":true,"num":0}] [] [] false`},
		{"4", `{"opts":{"rooms":["r1"],"except":[],"flags":{}},"rooms":["a"]}`, "join   [r1] [a] false"},
		{"5", `{"opts":{"rooms":[5],"except":["x"]},"rooms":["a","b"]}`, "leave   [5] [a b] false"},
		{"6", `{"opts":{"rooms":[],"except":[],"flags":{}},"close":true}`, "disconnect   [] [] true"},
		{"9", `{"packet":["p",1]}`, `server_side_emit p ["p",1] [] [] false`},
	} {
		write(t, own, "socket.io", "uid", "emitter", "nsp", "/", "type", tc.typ, "data", tc.data)
		m := e.next()
		if got := fmt.Sprintf("%v %s %s %v %v %t", m.Kind, m.Event, m.Payload, m.Rooms, m.Change, m.Close); got != tc.want || m.UID != official.Emitter {
			t.Errorf("heard %q, want %q", got, tc.want)
		}
	}
}

// TestEntriesThatSayNothing: what an official server goes deaf by, what no server can read, and what older ones put
// into the stream is stepped over; what comes behind it is heard.
func TestEntriesThatSayNothing(t *testing.T) {
	server := redistest.Start(t, freeport.New(t))
	own := stranger(t, server.Addr)
	e := open(t, "AAAA", Config{Addresses: []string{server.Addr}, MaxBytes: 1 << 20})
	e.follow("/")
	typed := func(typ, data string) []string { return []string{"uid", "u", "nsp", "/", "type", typ, "data", data} }
	opts := `"opts":{"rooms":[],"except":[]}`
	for _, tc := range []struct {
		name   string
		fields []string
		want   string // reason
	}{
		{"3 without opts", typed("3", `{"packet":{"type":2,"data":["e"]}}`), "shape"},
		{"3 without packet", typed("3", `{`+opts+`}`), "shape"},
		{"4 without opts", typed("4", `{"rooms":["a"]}`), "shape"},
		{"6 without opts", typed("6", `{}`), "shape"},
		{"7 without opts", typed("7", `{"requestId":"x"}`), "shape"},
		{"rooms of opts a number", typed("3", `{"packet":{"type":2,"data":["e"]},"opts":{"rooms":5}}`), "shape"},
		{"5 with rooms a number", typed("5", `{`+opts+`,"rooms":5}`), "shape"},
		{"9 whose packet is a text", typed("9", `{"packet":"x"}`), "event_name"},
		{"msgpack of a number", typed("3", "BQ=="), "shape"},
		{"no base64", typed("3", "%%%"), "garbled"},
		{"cut JSON", typed("3", `{"packet":`), "garbled"},
		{"no data", []string{"uid", "u", "nsp", "/", "type", "3"}, "shape"},
		{"no type", []string{"uid", "u", "nsp", "/"}, "shape"},
		{"unknown type", typed("99", "{}"), "unknown_type"},
		{"too large", typed("3", `{"x":"`+strings.Repeat("x", 1<<20)+`"}`), "too_large"},
		{"disconnect as a broadcast", typed("3", `{"packet":{"type":1,"data":[]},`+opts+`}`), "packet_type"},
		{"reserved name", typed("3", `{"packet":{"type":2,"data":["connect"]},`+opts+`}`), "event_name"},
		{"of no namespace", []string{"uid", "u", "type", "3", "data", emitData("e")}, ""},
		{"other fields", []string{"a", "b"}, ""},
		{"of a namespace without its slash", []string{"uid", "emitter", "nsp", "admin", "type", "3", "data", emitData("e")}, ""},
	} {
		before := e.Dropped()
		write(t, own, "socket.io", tc.fields...)
		writeEmit(t, own, "socket.io", "/", "behind "+tc.name)
		e.hears("behind " + tc.name)
		if tc.want != "" {
			before[tc.want]++
		}
		if after := e.Dropped(); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%s: counted %v, want %v", tc.name, after, before)
		}
	}
	// Servers with adapter 0.2 put all their messages into the stream.
	old := []string{"1", "2", "13"}
	for _, typ := range old {
		write(t, own, "socket.io", "uid", "0123456789abcdef", "nsp", "/", "type", typ)
	}
	write(t, own, "socket.io", typed("7", `{`+opts+`,"requestId":"x"}`)...)
	write(t, own, "socket.io", typed("8", `{"requestId":"x","sockets":[]}`)...)
	write(t, own, "socket.io", typed("3", `{"packet":{"type":2,"data":["with acks"]},"requestId":"x",`+opts+`}`)...)
	var kinds []string
	for range len(old) + 3 {
		kinds = append(kinds, e.next().Kind.String())
	}
	if want := []string{"hello", "heartbeat", "goodbye", "fetch_sockets", "sockets", "broadcast"}; !slices.Equal(kinds, want) {
		t.Errorf("heard %q, want %q", kinds, want)
	}
}

// TestTrimmedGap: what the server trims before it is read is told and counted exactly, and the rest is heard in its
// order.
func TestTrimmedGap(t *testing.T) {
	server := redistest.Start(t, freeport.New(t))
	own := stranger(t, server.Addr)
	e := open(t, "AAAA", Config{Addresses: []string{server.Addr}})
	e.follow("/")
	writeEmit(t, own, "socket.io", "/", "0")
	e.hears("0")
	e.gate.Lock() // the bridge is busy
	const most = 3000
	for i := 1; i <= most; i++ {
		if err := own.XAdd(t.Context(), &redis.XAddArgs{
			Stream: "socket.io", MaxLen: 500, Approx: true,
			Values: []string{"uid", "u", "nsp", "/", "type", "3", "data", emitData(strconv.Itoa(i))},
		}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	e.gate.Unlock()
	heard, last := 0, 0
	for last < most {
		n, err := strconv.Atoi(e.next().Event)
		if err != nil || n <= last {
			t.Fatalf("heard %d after %d", n, last)
		}
		heard, last = heard+1, n
	}
	missed := e.Dropped()["trimmed"]
	if missed == 0 || int(missed)+heard != most {
		t.Errorf("heard %d and missed %d of %d", heard, missed, most)
	}
	lines := e.logged.FilterMessage("messages missed: entries were trimmed before they were read").All()
	if len(lines) != 1 || lines[0].ContextMap()["messages"] != missed || lines[0].ContextMap()["stream"] != "socket.io" {
		t.Errorf("told: %v", lines)
	}
}

// TestTrimmedBehindTheReader: a stream that is much shorter than what is read of it in one go is no gap, nor is it one
// that somebody deletes the entry that was read last.
func TestTrimmedBehindTheReader(t *testing.T) {
	server := redistest.Start(t, freeport.New(t))
	own := stranger(t, server.Addr)
	e := open(t, "AAAA", Config{Addresses: []string{server.Addr}})
	e.follow("/")
	for i := range 300 {
		at, err := own.XAdd(t.Context(), &redis.XAddArgs{
			Stream: "socket.io", MaxLen: 1, Values: []string{"uid", "u", "nsp", "/", "type", "3", "data", emitData(strconv.Itoa(i))},
		}).Result()
		if err != nil {
			t.Fatal(err)
		}
		e.hears(strconv.Itoa(i))
		if i%50 == 0 {
			own.XDel(t.Context(), "socket.io", at)
		}
		if i%20 == 0 {
			own.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes") // the reader looks when it is back
		}
	}
	if n := e.Dropped()["trimmed"]; n != 0 {
		t.Errorf("%d are missed: %v", n, e.logged.FilterMessageSnippet("missed").All())
	}
}

// TestRestart: while the server is away entries wait, and it is read on from where it was: each entry is heard once.
func TestRestart(t *testing.T) {
	port, dir := freeport.New(t), t.TempDir()
	kept := []string{"--appendonly", "yes", "--appendfsync", "always", "--dir", dir}
	server := redistest.Start(t, port, kept...)
	c := Config{Addresses: []string{server.Addr}}
	a, peer := open(t, "AAAA", c), open(t, "other.PEER", c)
	a.follow("/")
	peer.follow("/")
	const rounds, each = 3, 200
	for round := range rounds {
		for i := range each {
			a.say(emit(fmt.Sprint(round, ".", i)))
			if i == each/2 {
				server.Kill()
			}
		}
		if round == 0 {
			if _, err := a.Peers(t.Context(), "/"); err == nil {
				t.Error("peers are counted while there is no server")
			}
		}
		server = redistest.Start(t, port, kept...)
	}
	// A kill may lose what is being written, so the last event waits until nothing is.
	redistest.Await(t, "the end of all writing", a.writer.idle)
	a.say(emit("over"))
	last, heard := "", map[string]bool{}
	for m := peer.next(); m.Event != "over"; m = peer.next() {
		if heard[m.Event] {
			t.Errorf("%s is heard twice", m.Event)
		}
		heard[m.Event] = true
		if last != "" && compare(last, m.Event) >= 0 {
			t.Errorf("%s is heard after %s", m.Event, last)
		}
		last = m.Event
	}
	if lost := a.Dropped()["lost"]; len(heard)+int(lost) < rounds*each {
		t.Errorf("heard %d and lost %d, want %d", len(heard), lost, rounds*each)
	}
	if n := peer.Dropped()["trimmed"]; n != 0 {
		t.Errorf("%d are missed: %v", n, peer.logged.FilterMessageSnippet("missed").All())
	}
	redistest.Await(t, "the count of peers", func() bool { n, err := a.Peers(t.Context(), "/"); return n == 1 && err == nil })
	a.say(official.Message{Kind: official.FetchSockets, Request: "q"})
	if m := peer.next(); m.Request != "q" {
		t.Errorf("heard %+v", m)
	}
}

// compare compares events of the form ROUND.NUMBER.
func compare(a, b string) int {
	var x, y [2]int
	_, _ = fmt.Sscanf(a, "%d.%d", &x[0], &x[1])
	_, _ = fmt.Sscanf(b, "%d.%d", &y[0], &y[1])
	return slices.Compare(x[:], y[:])
}

// TestServerThatForgets: when the stream is gone that is told, and what is written from then on is heard.
func TestServerThatForgets(t *testing.T) {
	port := freeport.New(t)
	server := redistest.Start(t, port)
	e := open(t, "AAAA", Config{Addresses: []string{server.Addr}})
	e.follow("/")
	writeEmit(t, stranger(t, server.Addr), "socket.io", "/", "before")
	e.hears("before")
	server.Kill()
	server = redistest.Start(t, port)
	e.told("messages missed: the stream is gone")
	writeEmit(t, stranger(t, server.Addr), "socket.io", "/", "after")
	e.hears("after")
	if n := e.Dropped()["trimmed"]; n != 1 {
		t.Errorf("counted %v", e.Dropped())
	}
}
