package passing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"foyer/service"
	"foyer/transport/engineio"
)

const unknownSession = `{"code":1,"message":"Session ID unknown"}`

// TestPollingOverAllNodes: each request of a session may come to any node. Bodies of all sizes come back as they were,
// in their order.
func TestPollingOverAllNodes(t *testing.T) {
	c := startCluster(t, options{}, "aaaa", "bbbb", "cccc")
	ask := func(method, query string, body io.Reader) string {
		res, err := request1(t.Context(), c.client, "http://balancer", method, query, body)
		if err != nil || res.status != http.StatusOK {
			t.Fatalf("%s: %v %v", method, res, err)
		}
		return res.body
	}
	for i := range 4 { // its handshakes begin at different nodes
		query := polling + "&sid=" + sidIn(t, ask("GET", polling, nil))
		for _, size := range []int{1, smallBytes - 1, smallBytes, 5000, 100_000, 999_000} {
			want := "4" + strings.Repeat(fmt.Sprint(i), size)
			if got := ask("POST", query, strings.NewReader(want)); got != "ok" {
				t.Fatalf("POST of %d bytes: %q", size, got)
			}
			if got := ask("GET", query, nil); got != want {
				t.Fatalf("%d bytes came back of %d: %.40q", len(got), len(want), got)
			}
		}
		// A body of unknown length, and several packets in one.
		ask("POST", query, io.MultiReader(strings.NewReader("4one\x1e4"), strings.NewReader("two\x1e4three")))
		if got := ask("GET", query, nil); got != "4one\x1e4two\x1e4three" {
			t.Errorf("got %q", got)
		}
	}
	var passed, served uint64
	for _, n := range c.nodes {
		passed += n.count(countRequests)
		served += n.count(countServed)
		for name, v := range n.passing.drops() {
			if v != 0 {
				t.Errorf("%s: %s is %d", n.name, name, v)
			}
		}
	}
	if passed == 0 || passed != served {
		t.Errorf("%d requests were passed, %d served", passed, served)
	}
}

// TestWebSocketIsNotPassed: a session that begins with a websocket is at its owner.
func TestWebSocketIsNotPassed(t *testing.T) {
	c := startCluster(t, options{}, "aaaa", "bbbb")
	for _, n := range c.nodes {
		ws := n.dial(polling)
		sidIn(t, ws.read())
		ws.write("4direct")
		ws.want("4direct")
	}
	for _, n := range c.nodes {
		if n.count(countServed)+n.count(countStreams)+n.count(countRequests) != 0 {
			t.Errorf("%s has passed something", n.name)
		}
	}
}

// TestUpgradeOverAnother: the websocket of an upgrade may come to another node than the session's, which carries it for
// its life. What is written comes as it was, whatever its size.
func TestUpgradeOverAnother(t *testing.T) {
	c := startCluster(t, options{}, "aaaa", "bbbb", "cccc")
	owner, other, third := c.nodes[0], c.nodes[1], c.nodes[2]
	query := owner.open()
	third.ask("POST", query, "4before")
	if res := other.ask("GET", query, ""); res.body != "4before" {
		t.Errorf("before: %v", res)
	}
	ws := other.upgrade(query)
	for _, size := range []int{1, smallBytes - 9, smallBytes - 8, smallBytes, 2 * smallBytes, largeBytes - 8, largeBytes, 100_000, 900_000, 3} {
		text := "4" + strings.Repeat("x", size)
		ws.write(text)
		ws.want(text)
	}
	for i := range 200 { // many at once
		ws.write(fmt.Sprint("4", i))
	}
	for i := range 200 {
		ws.want(fmt.Sprint("4", i))
	}
	if other.count(countStreams) != 1 || other.passing.Len() != 1 || owner.engine.Len() != 1 {
		t.Errorf("%d streams, %d passed, %d sessions", other.count(countStreams), other.passing.Len(), owner.engine.Len())
	}
	if n := other.passing.buffers.lent.Load(); n > carriersPerStream { // each keeps one until it reads less than it could
		t.Errorf("%d large buffers are lent at rest", n)
	}
	_ = ws.conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
	ws.wantEnd()
	owner.wantClosed(engineio.ReasonTransportClose)
	eventually(t, "the stream ends", func() bool { return other.passing.Len() == 0 })
}

// TestClientLeaves: a client that goes away in the middle of a poll, a POST or a stream is seen by its session's node,
// as it would be there.
func TestClientLeaves(t *testing.T) {
	leave := map[string]func(t *testing.T, other *node, query string){
		"poll": func(t *testing.T, other *node, query string) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = other.try(ctx, "GET", query, nil)
			}()
			eventually(t, "the poll is passed", func() bool { return other.cluster.nodes[0].asked.Load() == 1 })
			cancel()
			<-done
		},
		"POST": func(t *testing.T, other *node, query string) {
			conn, err := net.Dial("tcp", other.edge.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "POST /socket.io/?%s HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n4%s", query, strings.Repeat("x", 5000))
			eventually(t, "the POST is passed", func() bool { return other.cluster.nodes[0].asked.Load() == 1 })
			conn.Close()
		},
		"stream": func(_ *testing.T, other *node, query string) {
			ws := other.upgrade(query)
			ws.write("4x")
			ws.want("4x")
			ws.conn.Close()
		},
	}
	for name, how := range leave {
		t.Run(name, func(t *testing.T) {
			c := startCluster(t, options{}, "aaaa", "bbbb")
			how(t, c.nodes[1], c.nodes[0].open())
			eventually(t, "the session ends", func() bool { return c.nodes[0].engine.Len() == 0 })
			eventually(t, "nothing is passed", func() bool { return c.nodes[1].passing.Len() == 0 })
			for name, v := range c.nodes[1].passing.drops() {
				if v != 0 {
					t.Errorf("%s is %d", name, v)
				}
			}
		})
	}
}

// TestOwnerCloses: the end of a session comes through, with its last words.
func TestOwnerCloses(t *testing.T) {
	c := startCluster(t, options{}, "aaaa", "bbbb")
	owner, other := c.nodes[0], c.nodes[1]
	query := owner.open()
	answer := make(chan response, 1)
	go func() {
		res, _ := other.try(t.Context(), "GET", query, nil)
		answer <- res
	}()
	eventually(t, "the poll waits", func() bool { return other.passing.Len() == 1 && owner.asked.Load() == 1 })
	owner.all[0].Close(engineio.ReasonForcedClose)
	if res := <-answer; res.status != http.StatusOK || !strings.HasSuffix(res.body, "1") {
		t.Errorf("poll: %v", res)
	}
	if res := other.ask("GET", query, ""); res.status != http.StatusBadRequest || res.body != unknownSession {
		t.Errorf("after it: %v", res)
	}

	ws := other.upgrade(owner.open())
	ws.write("4x")
	ws.want("4x")
	owner.all[1].Close(engineio.ReasonForcedClose)
	ws.wantEnd()
	eventually(t, "the stream ends", func() bool { return other.passing.Len() == 0 })
}

// TestForgedSIDs: a sid that no member has made, or that is not the only one in its request, reaches no other host.
func TestForgedSIDs(t *testing.T) {
	c := startCluster(t, options{}, "aaaa", "bbbb")
	a, b := c.nodes[0], c.nodes[1]
	sid := strings.TrimPrefix(b.open(), polling+"&sid=")
	other, err := New(Config{Self: "bbbb", Key: []byte("another key"), Where: c.where})
	if err != nil {
		t.Fatal(err)
	}
	flip := func(i int) string {
		x := []byte(sid)
		if x[i]++; x[i] == 'z'+1 {
			x[i] = 'a'
		}
		return string(x)
	}
	for what, query := range map[string]string{
		"another key":       "&sid=" + other.NewSID(),
		"random part":       "&sid=" + flip(10),
		"check":             "&sid=" + flip(sidLen-1),
		"first of check":    "&sid=" + flip(sidLen-checkLen),
		"another's name":    "&sid=aaaa" + sid[4:],
		"no node's name":    "&sid=zzzz" + sid[4:],
		"bad name":          "&sid=%00%00%00%00" + sid[4:],
		"short":             "&sid=" + sid[:sidLen-1],
		"long":              "&sid=" + sid + "x",
		"only the name":     "&sid=bbbb",
		"of one node alone": "&sid=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"an address":        "&sid=127.0.0.1:80/../" + sid[:sidLen-17],
		"after another one": "&sid=" + other.NewSID() + "&sid=" + sid,
		"an escaped key":    "&s%69d=" + sid,
		"an escaped one":    "&sid=%62" + sid[1:],
	} {
		for _, method := range []string{"GET", "POST"} {
			if res := a.ask(method, polling+query, ""); res.status != http.StatusBadRequest || res.body != unknownSession {
				t.Errorf("%s: %s: %v", what, method, res)
			}
		}
		_, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(a.edge.URL, "http")+"/socket.io/?EIO=4&transport=websocket"+query, nil)
		if !errors.Is(err, websocket.ErrBadHandshake) || res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: upgrade: %v", what, err)
		}
	}
	if n := b.asked.Load(); n != 0 {
		t.Errorf("the other host was asked %d times", n)
	}
	if n := a.passing.Len(); n != 0 {
		t.Errorf("%d are passed", n)
	}
	if a.count(countForged) == 0 || a.count(countOdd) == 0 {
		t.Errorf("counted: %v", a.passing.drops())
	}
	for _, method := range []string{"PUT", "HEAD", "DELETE"} {
		if res := a.ask(method, polling+"&sid="+sid, ""); res.status != http.StatusBadRequest {
			t.Errorf("%s: %v", method, res)
		}
	}
	if res := a.ask("POST", polling+"&sid="+sid, "4good"); res.body != "ok" {
		t.Errorf("the good one: %v", res)
	}
}

// TestDeadOwner: a client that asks for a session of a node that is gone hears so at once.
func TestDeadOwner(t *testing.T) {
	c := startCluster(t, options{}, "aaaa", "bbbb")
	a, b := c.nodes[0], c.nodes[1]
	query := b.open()
	unknown := func(why counter, n uint64) {
		t.Helper()
		for _, body := range []string{"", "4x"} {
			method := map[bool]string{true: "GET", false: "POST"}[body == ""]
			if res := a.ask(method, query, body); res.status != http.StatusBadRequest || res.body != unknownSession {
				t.Errorf("%s: %v", method, res)
			}
		}
		if got := a.count(why); got != n {
			t.Errorf("%s is %d, want %d", why.reason(), got, n)
		}
	}
	addr := b.peers.Listener.Addr().String()
	b.peers.Close() // its port refuses
	unknown(countFailed, 2)
	c.lose("bbbb")
	unknown(countGone, 2)

	// Another program has its port, and then another node.
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	defer stranger.Close()
	c.put("bbbb", stranger.Listener.Addr().String())
	unknown(countFailed, 4)
	c.put("bbbb", a.peers.Listener.Addr().String())
	unknown(countFailed, 6)
	if a.count(countNotMember) != 2 || addr == "" {
		t.Errorf("%d were no members", a.count(countNotMember))
	}
	_, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(a.edge.URL, "http")+"/socket.io/?"+strings.Replace(query, "polling", "websocket", 1), nil)
	if !errors.Is(err, websocket.ErrBadHandshake) || res.StatusCode != http.StatusBadRequest {
		t.Errorf("upgrade: %v", err)
	}
}

// TestRestartedOwner: the sids of an earlier run are passed to the next one, which knows better.
func TestRestartedOwner(t *testing.T) {
	c := startCluster(t, options{}, "aaaa", "bbbb")
	query := c.nodes[1].open()
	c.nodes[1].stop()
	c.nodes[1] = c.start("bbbb", options{})
	for _, n := range c.nodes {
		if res := n.ask("GET", query, ""); res.status != http.StatusBadRequest || res.body != unknownSession {
			t.Errorf("%s: %v", n.name, res)
		}
	}
	if c.nodes[0].count(countRequests) != 1 {
		t.Error("it was not passed")
	}
}

// TestPeerListenerIsForMembers: everybody else is refused with one status, and reaches no session.
func TestPeerListenerIsForMembers(t *testing.T) {
	c := startCluster(t, options{}, "aaaa", "bbbb")
	a, b := c.nodes[0], c.nodes[1]
	query := b.open()
	reached := 0
	peers := httptest.NewServer(b.passing.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ })))
	defer peers.Close()
	ask := func(method, query string, header http.Header) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, peers.URL+"/socket.io/?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	signed := func(by *Passing, to service.NodeID, query string) http.Header {
		r := httptest.NewRequest(http.MethodGet, "http://x/socket.io/?"+query, nil)
		by.sign(r.Header, r, to)
		return r.Header
	}
	stranger, err := New(Config{Self: "aaaa", Key: []byte("another key"), Where: c.where})
	if err != nil {
		t.Fatal(err)
	}
	with := func(h http.Header, name, value string) http.Header {
		h = h.Clone()
		h.Set(name, value)
		return h
	}
	good := signed(a.passing, "bbbb", query)
	for what, header := range map[string]http.Header{
		"nothing":              {},
		"another key":          signed(stranger, "bbbb", query),
		"for another node":     signed(a.passing, "cccc", query),
		"of another request":   signed(a.passing, "bbbb", query+"x"),
		"by another":           with(good, memberHeader, "cccc"+good.Get(memberHeader)[4:]),
		"for another client":   with(good, clientHeader, "192.0.2.1:1"),
		"a proof cut":          with(good, memberHeader, good.Get(memberHeader)[:20]),
		"an empty proof":       with(good, memberHeader, "aaaa."),
		"the name alone":       with(good, memberHeader, "aaaa"),
		"a very long one":      with(good, memberHeader, strings.Repeat("a.", 3000)),
		"a long client's name": with(good, clientHeader, strings.Repeat("a", 9000)),
	} {
		if status := ask("GET", query, header); status != http.StatusForbidden {
			t.Errorf("%s: status %d", what, status)
		}
	}
	if status := ask("POST", query, good); status != http.StatusForbidden {
		t.Errorf("another method: status %d", status)
	}
	if n := b.count(countNotMember); n != 12 || reached != 0 {
		t.Errorf("%d were no members, %d came in", n, reached)
	}

	// Of a member it takes what names a session of its own, and nothing else.
	for _, query := range []string{polling, a.open(), "", "sid=", query + "&sid=bbbb"} {
		if status := ask("GET", query, signed(a.passing, "bbbb", query)); status != http.StatusMisdirectedRequest {
			t.Errorf("%q: status %d", query, status)
		}
	}
	if n := b.count(countForeign); n != 5 || reached != 0 {
		t.Errorf("%d were foreign, %d came in", n, reached)
	}
	if status := ask("GET", query, good); status != http.StatusOK || reached != 1 {
		t.Errorf("the good one: status %d", status)
	}
}

// TestNothingIsPassedTwice: a request that a member has passed goes no further, whatever its sid is.
func TestNothingIsPassedTwice(t *testing.T) {
	c := startCluster(t, options{}, "aaaa", "bbbb", "cccc")
	a, b, third := c.nodes[0], c.nodes[1], c.nodes[2]
	foreign := third.passing.NewSID()
	r := httptest.NewRequest(http.MethodGet, "http://x/socket.io/?"+polling+"&sid="+b.passing.NewSID(), nil)
	r.RequestURI = r.URL.RequestURI()
	a.passing.sign(r.Header, r, "bbbb")
	w := httptest.NewRecorder()
	b.passing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if why := b.passing.Pass(foreign, w, r); why == "" {
			t.Error("it was passed")
		}
	})).ServeHTTP(w, r)
	if third.asked.Load() != 0 || b.count(countForeign) != 1 {
		t.Errorf("asked %d times, counted %d", third.asked.Load(), b.count(countForeign))
	}
}

// TestRequestComesAsItWas: its session's node sees the client's address, and all that the client said; of the answer
// nothing comes twice.
func TestRequestComesAsItWas(t *testing.T) {
	c := startCluster(t, options{engine: func(cfg *engineio.Config) { cfg.Origins = []string{"https://page.example"} }}, "aaaa", "bbbb")
	a, b := c.nodes[0], c.nodes[1]
	var got *http.Request
	peers := httptest.NewServer(b.passing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		b.engine.ServeHTTP(w, r)
	})))
	defer peers.Close()
	query := b.open() + "&t=a;b&x=%zz" // net/url cannot read it
	c.put("bbbb", peers.Listener.Addr().String())
	defer a.passing.lines.closeIdle(false)
	sent := map[string]string{
		"Origin": "https://page.example", "Cookie": "a=b", "X-Forwarded-For": "192.0.2.7, 192.0.2.8", "X-Forwarded-Proto": "https",
		"Forwarded": "for=192.0.2.9", "User-Agent": "browser", "Foyer-Member": "cccc.xxx", "Foyer-Client": "192.0.2.66:66",
		"Upgrade": "h2c", "Connection": "Upgrade, close, X-Hop", "X-Hop": "1", "Expect": "100-continue",
	}
	var header []string
	for name, value := range sent {
		header = append(header, name, value)
	}
	var from string
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil {
			from = conn.LocalAddr().String()
		}
		return conn, err
	}}}
	res, err := request1(t.Context(), client, a.edge.URL, http.MethodPost, query, strings.NewReader("4x"), header...)
	if err != nil || res.body != "ok" {
		t.Fatalf("%v %v", res, err)
	}
	for _, name := range []string{"Upgrade", "Connection", "X-Hop", "Expect", "Foyer-Member", "Foyer-Client"} {
		if v := got.Header.Get(name); v != "" {
			t.Errorf("%s is %q", name, v)
		}
		delete(sent, name)
	}
	for name, want := range sent {
		if v := got.Header.Get(name); v != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}
	if got.RemoteAddr != from {
		t.Errorf("it comes from %s, want %s", got.RemoteAddr, from)
	}
	if got.Host != a.edge.Listener.Addr().String() || got.RequestURI != "/socket.io/?"+query {
		t.Errorf("host %s, URI %s", got.Host, got.RequestURI)
	}
	want := http.Header{
		"Access-Control-Allow-Credentials": {"true"}, "Access-Control-Allow-Origin": {"https://page.example"}, "Vary": {"Origin"},
		"Cache-Control": {"no-store"}, "Content-Length": {"2"}, "Content-Type": {"text/html"},
	}
	delete(res.header, "Date")
	if diff := cmp.Diff(want, res.header); diff != "" {
		t.Errorf("answer's headers (-want +got):\n%s", diff)
	}
}

// TestLargeBodies: a body over the limit is refused by its session's node, without being read to its end; the session
// goes on.
func TestLargeBodies(t *testing.T) {
	c := startCluster(t, options{engine: func(cfg *engineio.Config) { cfg.MaxPayload = 50_000 }}, "aaaa", "bbbb")
	a, b := c.nodes[0], c.nodes[1]
	query := b.open()
	endless := io.MultiReader(strings.NewReader("4"), endlessly{})
	if res, err := a.try(t.Context(), "POST", query, endless); err == nil && res.status != http.StatusRequestEntityTooLarge {
		t.Errorf("endless: %v", res)
	}
	if res, err := a.try(t.Context(), "POST", query, strings.NewReader("4"+strings.Repeat("x", 50_000))); err == nil && res.status != http.StatusRequestEntityTooLarge {
		t.Errorf("announced: %v", res)
	}
	eventually(t, "both are through", func() bool { return a.passing.Len() == 0 })
	if n := b.engine.Stats()["oversize"]; n != 2 {
		t.Errorf("%d were too large", n)
	}
	if res := a.ask("POST", query, "4small"); res.body != "ok" {
		t.Errorf("afterwards: %v", res)
	}
}

type endlessly struct{}

func (endlessly) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

// TestBoundOfAll: no more is passed at once than may be, and what is over is refused at once.
func TestBoundOfAll(t *testing.T) {
	c := startCluster(t, options{passing: func(cfg *Config) { cfg.Most = 2 }}, "aaaa", "bbbb")
	a, b := c.nodes[0], c.nodes[1]
	for range 2 {
		a.upgrade(b.open())
	}
	if res := a.ask("GET", b.open(), ""); res.body != unknownSession || a.count(countFull) != 1 {
		t.Errorf("%v, counted %d", res, a.count(countFull))
	}
	if n := a.passing.Len(); n != 2 {
		t.Errorf("%d are passed", n)
	}
}

// TestNothingIsLeft: when all have gone, no descriptor is open that was not before.
func TestNothingIsLeft(t *testing.T) {
	c := startCluster(t, options{}, "aaaa", "bbbb")
	a, b := c.nodes[0], c.nodes[1]
	rest := func() int {
		a.passing.lines.closeIdle(false)
		http.DefaultClient.CloseIdleConnections()
		return descriptors(t)
	}
	a.ask("POST", b.open(), "4x") // what is made once is there now
	least := rest()
	eventually(t, "one is gone", func() bool { least = min(least, rest()); return a.passing.Len() == 0 })
	sessions := b.engine.Len()
	for range 20 {
		query := b.open()
		a.ask("POST", query, "4x")
		ws := a.upgrade(query)
		ws.want("4x")
		ws.conn.Close()
	}
	eventually(t, "all streams end", func() bool { return a.passing.Len() == 0 && b.engine.Len() == sessions })
	eventually(t, "all descriptors are closed", func() bool { return rest() <= least+2 }) // less than one for each round
}

// TestValidate: what is wrong is told at once.
func TestValidate(t *testing.T) {
	_, err := New(Config{Self: "too long", Most: -1})
	for _, want := range []string{`"too long" is no name`, "nobody says where", "negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %s", err, want)
		}
	}
}
