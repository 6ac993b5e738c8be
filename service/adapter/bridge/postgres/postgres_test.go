package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"foyer/service/adapter/bridge/beats"
	"foyer/service/adapter/bridge/queue"
	"foyer/service/adapter/official"
	"foyer/service/adapter/pgdial"
	"foyer/service/adapter/pgdial/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// await waits until something holds that has no event.
func await(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(pgtest.Patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			tb.Fatalf("%s does not come", what)
		}
	}
}

// ear is a medium and what has come by it.
type ear struct {
	*Medium
	tb   testing.TB
	logs *observer.ObservedLogs
	gate chan struct{} // nothing is taken before it is closed

	mu  sync.Mutex
	got []string
}

var open = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// hear opens the medium of a node of a cluster and waits for its PostgreSQL server. Servers on Node are of another
// cluster.
func hear(tb testing.TB, url, cluster, node string, more ...func(c *Config)) *ear {
	tb.Helper()
	e := newEar(tb, url, cluster, node, more...)
	if err := e.Open(e.take); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { e.Close() })
	await(tb, "the server", func() bool { return !e.away() })
	return e
}

func newEar(tb testing.TB, url, cluster, node string, more ...func(c *Config)) *ear {
	tb.Helper()
	server, err := pgdial.ParseURL(url)
	if err != nil {
		tb.Fatal(err)
	}
	core, logs := observer.New(zap.InfoLevel)
	c := Config{Server: server, UID: "foyer:" + cluster + ":" + node, Ours: "foyer:" + cluster + ":", Logger: zap.New(core)}
	c.callTimeout, c.listenWait = pgtest.Patience/4, pgtest.Patience/4 // a busy server may answer late
	for _, change := range more {
		change(&c)
	}
	m, err := New(c)
	if err != nil {
		tb.Fatal(err)
	}
	return &ear{Medium: m, tb: tb, logs: logs, gate: open}
}

func (e *ear) take(m *official.Message) {
	<-e.gate
	e.mu.Lock()
	defer e.mu.Unlock()
	text := string(m.Payload)
	for _, part := range m.Attachments {
		text += fmt.Sprintf(" %x", part[:min(len(part), 4)])
	}
	if m.Kind != official.Broadcast {
		text = m.Kind.String() + text
	}
	e.got = append(e.got, text)
}

func (e *ear) taken() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.got)
}

// follows has it hear a namespace, and waits until it does.
func (e *ear) follows(namespace string) *ear {
	e.tb.Helper()
	late := time.NewTimer(pgtest.Patience)
	defer late.Stop()
	select {
	case <-e.Follow(namespace, true):
	case <-late.C:
		e.tb.Fatal("the namespace is not heard")
	}
	return e
}

// says publishes an event when there is room.
func (e *ear) says(namespace, payload string, attachments ...[]byte) {
	e.tb.Helper()
	m := official.Message{Kind: official.Broadcast, UID: e.cfg.UID, Namespace: namespace, Payload: []byte(payload), Attachments: attachments}
	await(e.tb, "room", func() bool { return !errors.Is(e.Publish(&m, ""), errFull) })
}

// wantPeers waits until so many are counted.
func (e *ear) wantPeers(namespace string, want int) {
	e.tb.Helper()
	var n int
	var err error
	await(e.tb, fmt.Sprint(want, " peers"), func() bool {
		n, err = e.Peers(e.tb.Context(), namespace)
		return err == nil && n == want
	})
}

// forger says what no server of ours says.
type forger struct {
	tb   testing.TB
	conn *pgconn.PgConn
}

func forge(tb testing.TB, url string) *forger {
	tb.Helper()
	c, err := pgconn.Connect(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close(context.Background()) })
	return &forger{tb, c}
}

func (f *forger) says(channel, text string) {
	f.tb.Helper()
	_, err := f.conn.ExecParams(f.tb.Context(), "SELECT pg_notify($1, $2)", [][]byte{[]byte(channel), []byte(text)}, nil, nil, nil).Close()
	if err != nil {
		f.tb.Errorf("%s %.50q: %v", channel, text, err)
	}
}

// TestOneServer are the tests that do no harm to their server, which takes some seconds to make.
func TestOneServer(t *testing.T) {
	server := pgtest.New(t)
	for name, test := range map[string]func(t *testing.T, server *pgtest.Server){
		"Order": testOrder, "Peers": testPeers, "Asked": testAsked, "Forms": testForms, "Names": testNames, "Bounds": testBounds, "Table": testTable,
		"OldRows": testOldRows, "GivenBack": testGivenBack, "NeverHeard": testNeverHeard,
	} {
		t.Run(name, func(t *testing.T) { test(t, server) })
	}
}

// What one node says comes in its order and each of it once, equal words and words with attachments too.
func testOrder(t *testing.T, server *pgtest.Server) {
	url := server.URL("postgres", "")
	a, b := hear(t, url, "order", "AAAA"), hear(t, url, "other", "BBBB").follows("/")
	long := strings.Repeat("é", 4000)
	var want []string
	for i := range 300 {
		switch i % 5 {
		case 0:
			a.says("/", `["equal"]`)
			want = append(want, `["equal"]`)
		case 1:
			text := fmt.Sprintf(`["text",%d]`, i)
			a.says("/", text)
			want = append(want, text)
		case 2:
			text := fmt.Sprintf(`["binary",%d,{"_placeholder":true,"num":0}]`, i)
			a.says("/", text, []byte{byte(i), 255, 0})
			want = append(want, fmt.Sprintf("%s %x", text, []byte{byte(i), 255, 0}))
		case 3:
			text := fmt.Sprintf(`["long",%d,"%s"]`, i, long)
			a.says("/", text)
			want = append(want, text)
		default: // too long for a space behind it
			text := fmt.Sprintf(`["%s"]`, strings.Repeat("x", 7880))
			a.says("/", text)
			want = append(want, text)
		}
	}
	await(t, "the last event", func() bool { return len(b.taken()) >= len(want) })
	got := b.taken()
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("event %d is %.60s, want %.60s", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d events, want %d", len(got), len(want))
	}
	if d := b.Dropped(); len(d) != 0 {
		t.Errorf("dropped: %v", d)
	}
}

// Who hears a namespace is counted there, nodes of the same cluster are not, and who goes says so.
func testPeers(t *testing.T, server *pgtest.Server) {
	url := server.URL("postgres", "")
	a, a2 := hear(t, url, "peers", "AAAA").follows("/p"), hear(t, url, "peers", "BBBB").follows("/p")
	a.wantPeers("/p", 0)
	b, c := hear(t, url, "peers2", "AAAA").follows("/p"), hear(t, url, "peers3", "AAAA").follows("/p")
	for _, e := range []*ear{a, a2} {
		e.wantPeers("/p", 2)
	}
	b.wantPeers("/p", 3)
	b.Close()
	a.wantPeers("/p", 1)
	c.Follow("/p", false)
	a.wantPeers("/p", 0)
	c.follows("/p")
	a.wantPeers("/p", 1)
	a.says("/p", `["x"]`)
	a2.says("/p", `["y",{"_placeholder":true,"num":0}]`, []byte{1})
	await(t, "what the cluster says", func() bool { return len(c.taken()) == 2 })
	if got := slices.Concat(a.taken(), a2.taken(), b.taken()); len(got) > 0 {
		t.Errorf("nodes of one cluster, and one that has left, hear %q", got)
	}
}

// A node that has nobody in a namespace hears there what it asks for, and gives the namespace back later.
func testAsked(t *testing.T, server *pgtest.Server) {
	url := server.URL("postgres", "")
	b := hear(t, url, "asked2", "BBBB").follows("/asked")
	a := hear(t, url, "asked", "AAAA")
	request := official.Message{Kind: official.FetchSockets, UID: a.cfg.UID, Namespace: "/asked", Request: a.cfg.UID + ":1"}
	if err := a.Publish(&request, ""); err != nil {
		t.Fatal(err)
	}
	await(t, "the request", func() bool { return slices.Contains(b.taken(), "fetch_sockets") })
	for _, r := range []string{"somebody else's", request.Request} {
		if err := b.Publish(&official.Message{Kind: official.ClientCount, UID: b.cfg.UID, Namespace: "/asked", Request: r, Count: 1}, ""); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the answer", func() bool { return len(a.taken()) > 0 })
	a.wantPeers("/asked", 1)
	b.wantPeers("/asked", 1)
	if got := a.taken(); !slices.Equal(got, []string{"client_count"}) {
		t.Errorf("it hears %q, want its own answer alone", got)
	}
	a.Medium.mu.Lock()
	a.hearings["/asked"].used = time.Now().Add(-2 * keepFor)
	a.Medium.mu.Unlock()
	b.wantPeers("/asked", 0)
	a.Medium.mu.Lock()
	defer a.Medium.mu.Unlock()
	if len(a.hearings) != 0 || len(a.channels) != 0 {
		t.Errorf("%d namespaces are kept", len(a.hearings))
	}
}

// Messages with a namespace and without, as the official emitter has them, are heard; whatever is none is dropped by
// its reason and does no harm.
func testForms(t *testing.T, server *pgtest.Server) {
	url := server.URL("postgres", "")
	f := forge(t, url)
	a := hear(t, url, "forms", "AAAA", func(c *Config) { c.MaxBytes = 1 << 20 }).follows("/f")
	row := func(bytes string) string {
		return server.Do("INSERT INTO socket_io_attachments (payload) VALUES (" + bytes + ") RETURNING id")[0]
	}
	const packed = "83a47479706503a46461746182a67061636b657482a47479706502a46461746191a5696e726f77a46f70747383a5726f6f6d7390a665786365707490a5666c61677380a3756964a7656d6974746572"
	const channel = "socket.io#/f"
	for _, text := range []string{
		`{"type":3,"data":{"packet":{"type":2,"data":["no nsp"],"nsp":"/f"},"opts":{"rooms":[],"flags":{},"except":[]}},"uid":"emitter"}`,
		`{"uid":"emitter","type":3,"attachmentId":"` + row(`'\x`+packed+`'`) + `"}`,
		`{"type":3,"data":{"packet":{"type":2,"data":["nsp"]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"7eff151d54287c3a","nsp":"/f","nodeId":"x"}`,
		"garbage", "", "{", `{"type":99,"uid":"x","nsp":"/f"}`, `{"type":3,"uid":"x","nsp":"/f"}`, `{"type":1,"uid":"x","nsp":"/g"}`,
		`{"uid":"x","type":3,"attachmentId":"0"}`, `{"uid":"x","type":3,"attachmentId":"999999999"}`,
		`{"uid":"x","type":3,"attachmentId":"` + row("'garbage'") + `"}`,
		`{"uid":"x","type":3,"attachmentId":"` + row("repeat('x', 2000000)::bytea") + `"}`,
		`{"uid":"foyer:forms:BBBB","type":3,"attachmentId":"1"}`,
		`{"type":3,"data":{"packet":{"type":2,"data":["last"]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"x","nsp":"/f"}`,
	} {
		f.says(channel, text)
	}
	f.says("socket.io#/g", `{"type":3,"data":{"packet":{"type":2,"data":["other"]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"x","nsp":"/g"}`)
	await(t, "the last event", func() bool { return slices.Contains(a.taken(), `["last"]`) })
	if got := a.taken(); !slices.Equal(got, []string{`["no nsp"]`, `["inrow"]`, `["nsp"]`, `["last"]`}) {
		t.Errorf("it hears %q", got)
	}
	want := map[string]int64{"garbled": 4, "unknown_type": 1, "shape": 2, "namespace": 1, "attachment_missing": 1, "too_large": 1}
	for reason, n := range a.Dropped() {
		if want[reason] != n {
			t.Errorf("%d dropped for %s, want %d", n, reason, want[reason])
		}
		delete(want, reason)
	}
	if len(want) > 0 {
		t.Errorf("not counted: %v", want)
	}
}

// Names are quoted: of namespaces, and of tables as the official adapter takes them. What PostgreSQL takes for no
// channel is not shared.
func testNames(t *testing.T, server *pgtest.Server) {
	server.Do(`CREATE SCHEMA "odd one"`)
	url := server.URL("postgres", "")
	other := func(c *Config) { c.Prefix, c.Table = `P"'%s`, `"odd one"."Attach'%d"` }
	a, b := hear(t, url, "names", "AAAA", other), hear(t, url, "names2", "AAAA", other)
	for _, namespace := range []string{"/", `/"; DROP TABLE x; --`, "/é 'a' \\ $1", "/" + strings.Repeat("x", 55)} {
		b.follows(namespace)
		a.says(namespace, `["text"]`)
		a.says(namespace, `["binary",{"_placeholder":true,"num":0}]`, []byte{1})
		a.wantPeers(namespace, 1)
	}
	await(t, "all events", func() bool { return len(b.taken()) == 8 })
	if n := server.Do(`SELECT count(*) FROM "odd one"."Attach'%d"`)[0]; n != "4" {
		t.Errorf("%s rows, want 4", n)
	}

	for _, namespace := range []string{"/" + strings.Repeat("y", 57), "/\x00", "/\xff"} {
		a.follows(namespace)
		a.says(namespace, `["x"]`)
		if n, err := a.Peers(t.Context(), namespace); n != 0 || err != nil {
			t.Errorf("%.10q: %d peers, %v", namespace, n, err)
		}
		a.Follow(namespace, false)
	}
	if n := a.logs.FilterMessageSnippet("not shared").Len(); n != 3 || a.Dropped()["channel_too_long"] != 6 {
		t.Errorf("%d lines about three namespaces, and %v", n, a.Dropped())
	}

	for text, want := range map[string]string{
		"socket_io_attachments": `"socket_io_attachments"`, "Mine": `"mine"`, "s.T$1": `"s"."t$1"`, `"S".t`: `"S"."t"`, `s."a b.c"`: `"s"."a b.c"`,
		"": "", "a.b.c": "", "a b": "", "1a": "", `"a`: "", `"a"b`: "", "a.": "", ".a": "", `""`: "", "x;y": "", strings.Repeat("x", 64): "",
	} {
		got, err := ParseTable(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

// What waits is bounded in both directions, and a flood of garbage does not keep our own traffic from coming.
func testBounds(t *testing.T, server *pgtest.Server) {
	url := server.URL("postgres", "")
	a := hear(t, url, "bounds", "AAAA")
	b := newEar(t, url, "bounds2", "AAAA")
	b.gate = make(chan struct{})
	const events, most, each = 500, 1 << 20, 7000
	b.in = queue.New[came](most)
	if err := b.Open(b.take); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	b.follows("/b")
	for i := range events {
		a.says("/b", fmt.Sprintf(`["%d %s"]`, i, strings.Repeat("x", each)))
	}
	await(t, "what is more than a queue holds", func() bool { return b.Dropped()["busy"] >= events-most/each })
	close(b.gate)
	f := forge(t, url)
	for range 500 {
		f.says("socket.io#/b", "garbage")
	}
	a.says("/b", `["at last"]`)
	await(t, "an event behind the flood", func() bool { return slices.Contains(b.taken(), `["at last"]`) })
	if n := len(b.taken()); n > most/each+1 {
		t.Errorf("%d events were kept for a bridge that took none", n)
	}
	if n := b.Dropped()["garbled"]; n != 500 {
		t.Errorf("%d dropped as garbled", n)
	}
}

// A table that cannot be used is told at start; one that is missing is made.
func testTable(t *testing.T, server *pgtest.Server) {
	server.Do("CREATE ROLE app LOGIN PASSWORD 'p'", "CREATE TABLE mine (id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)",
		"CREATE TABLE other (x int)", "GRANT ALL ON other TO app", "GRANT SELECT, INSERT ON mine TO app", "CREATE SCHEMA theirs AUTHORIZATION app")
	url := server.URL("app", "p")
	for table, want := range map[string]string{
		"new_one": "the table new_one is not there, and this user cannot make it", "no.new_one": "the table no.new_one is not there",
		"mine": "this user may not do with the table mine what Foyer needs", "other": "the table other is another one", "theirs.new_one": "",
	} {
		var err error
		await(t, cmp.Or(want, "a table that is made"), func() bool { // a slow server may not have answered yet
			e := newEar(t, url, "table", "AAAA", func(c *Config) { c.Table = table })
			defer e.Close()
			err = e.Open(e.take)
			return err != nil || !e.away()
		})
		var of *TableError
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", table, err)
		case want != "" && (!errors.As(err, &of) || !strings.HasPrefix(err.Error(), want) || strings.ContainsAny(err.Error(), "\r\n")):
			t.Errorf("%s: %v, want one line that begins with %q", table, err, want)
		}
	}
}

// Rows of more than 30 seconds are deleted, whoever has made them.
func testOldRows(t *testing.T, server *pgtest.Server) {
	a := hear(t, server.URL("postgres", ""), "old", "AAAA", func(c *Config) { c.Table = "old_rows" })
	server.Do("INSERT INTO old_rows (created_at, payload) VALUES (now() - interval '31 seconds', 'x'), (now(), 'y')")
	if err := a.life.sweep(); err != nil {
		t.Fatal(err)
	}
	if left := server.Do("SELECT payload FROM old_rows"); !slices.Equal(left, []string{`\x79`}) {
		t.Errorf("%q are left", left)
	}
}

func (e *ear) away() bool {
	e.Medium.mu.Lock()
	defer e.Medium.mu.Unlock()
	return e.life == nil
}

// A namespace that is given back while a life begins is heard no more, and nothing is said there any more. There are
// many, so that some are given back before they are greeted.
func testGivenBack(t *testing.T, server *pgtest.Server) {
	e := newEar(t, server.URL("postgres", ""), "given", "AAAA")
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprint("/", i))
		e.Follow(names[i], true)
	}
	given := make(chan struct{})
	go func() {
		defer close(given)
		for e.away() && t.Context().Err() == nil {
			runtime.Gosched()
		}
		for _, name := range names {
			e.Follow(name, false)
		}
	}()
	if err := e.Open(e.take); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	<-given
	await(t, "the end of all", func() bool {
		e.Medium.mu.Lock()
		defer e.Medium.mu.Unlock()
		return len(e.hearings) == 0
	})
	e.follows("/last") // all that was before is done
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for _, name := range names {
		if _, err := e.beats.Peers(ctx, name); !errors.Is(err, beats.ErrUnheard) {
			t.Fatalf("%s is heard: %v", name, err)
		}
	}
}

// A namespace that is given back before the server was told of it is forgotten, and whoever waits for it is told. There
// are many, so that some are given back in time.
func testNeverHeard(t *testing.T, server *pgtest.Server) {
	e := hear(t, server.URL("postgres", ""), "never", "AAAA")
	var waits []<-chan struct{}
	for i := range 1000 {
		waits = append(waits, e.Follow(fmt.Sprint("/", i), true))
		e.Follow(fmt.Sprint("/", i), false)
	}
	await(t, "the end of all", func() bool {
		e.Medium.mu.Lock()
		defer e.Medium.mu.Unlock()
		return len(e.hearings) == 0
	})
	for i, wait := range waits {
		if !isClosed(wait) {
			t.Fatalf("namespace %d is still waited for", i)
		}
	}
}

// TestServerRestarts: when the server goes, what is said is refused or lost and counted; when it comes back, all is
// heard again, nothing twice, and those are counted that are there.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t)
	server.Kill()
	url := server.URL("postgres", "")
	soon := func(c *Config) { c.callTimeout, c.listenWait = 0, 0 } // the server is frozen below
	a := newEar(t, url, "restart", "AAAA", soon)
	if err := a.Open(a.take); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	a.follows("/") // at once, since this cannot be had now
	if _, err := a.Peers(t.Context(), "/"); !errors.Is(err, errAway) || a.logs.FilterMessage("servers on Node not reached yet").Len() != 1 {
		t.Errorf("without a server: %v, %v", err, a.logs.All())
	}
	server.Run()
	b := hear(t, url, "restart2", "AAAA", soon).follows("/")
	a.wantPeers("/", 1)
	events := 0
	whole := func() {
		t.Helper()
		losses := int64(-1)
		await(t, "the last event", func() bool {
			// A busy server may lose a connection, and the events on it. The test sends new ones after each loss.
			if n := a.Dropped()["connection_lost"] + b.Dropped()["connection_lost"]; n != losses {
				losses = n
				a.wantPeers("/", 1)
				b.wantPeers("/", 1)
				for range 20 {
					events++
					a.says("/", fmt.Sprintf(`["n",%d]`, events))
					a.says("/", fmt.Sprintf(`["n",%d,{"_placeholder":true,"num":0}]`, events), []byte{1})
				}
			}
			got := b.taken()
			return len(got) > 0 && got[len(got)-1] == fmt.Sprintf(`["n",%d,{"_placeholder":true,"num":0}] 01`, events)
		})
	}
	whole()
	for range 2 {
		server.Kill()
		await(t, "the end", func() bool {
			_, err := a.Peers(t.Context(), "/")
			_, err2 := b.Peers(t.Context(), "/")
			return errors.Is(err, errAway) && errors.Is(err2, errAway)
		})
		m := official.Message{Kind: official.Broadcast, UID: a.cfg.UID, Namespace: "/", Payload: []byte(`["into the void"]`)}
		if err := a.Publish(&m, ""); !errors.Is(err, errAway) {
			t.Errorf("got %v, want errAway", err)
		}
		began := time.Now()
		server.Run()
		whole()
		t.Logf("whole %v after the server's start", time.Since(began))
	}
	if n := a.Dropped()["connection_lost"]; n < 2 || n > 4 { // a busy server may be lost once more
		t.Errorf("%d losses are counted", n)
	}
	// One that is frozen is found out; what waits is lost, and more is refused.
	server.Signal(syscall.SIGSTOP)
	large := official.Message{
		Kind: official.Broadcast, UID: a.cfg.UID, Namespace: "/", Payload: []byte(`["large",{"_placeholder":true,"num":0}]`), Attachments: [][]byte{make([]byte, outBytes)},
	}
	full := false // a second one finds no room
	await(t, "the end", func() bool {
		err := a.Publish(&large, "")
		full = full || errors.Is(err, errFull)
		return errors.Is(err, errAway)
	})
	if n := a.Dropped()["lost"]; n == 0 || !full {
		t.Errorf("%d messages are counted as lost; one was refused for want of room: %v", n, full)
	}
	server.Signal(syscall.SIGCONT)
	await(t, "room", func() bool { _, err := b.Peers(t.Context(), "/"); return err == nil })
	b.mu.Lock()
	b.got = slices.DeleteFunc(b.got, func(text string) bool { return strings.Contains(text, "large") })
	b.mu.Unlock()
	whole()
	seen := map[string]bool{}
	for _, text := range b.taken() {
		if seen[text] && !strings.Contains(text, "large") || strings.Contains(text, "void") {
			t.Errorf("%s came twice, or was refused", text)
		}
		seen[text] = true
	}
}
