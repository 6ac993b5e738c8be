//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

// processor is how much of a processor the node's threads have used.
func (f *foyer) processor(t testing.TB) (used time.Duration) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", f.cmd.Process.Pid))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(raw))[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		used += time.Duration(ns)
	}
	return used
}

// rawPoller is a polling client that costs little: one connection, and requests that are ready.
type rawPoller struct {
	conn net.Conn
	r    *bufio.Reader
	sid  string
}

func openRawPoller(t testing.TB, at, sid string) *rawPoller {
	t.Helper()
	conn, err := dialFrom("", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p := &rawPoller{conn, bufio.NewReader(conn), sid}
	if sid == "" {
		var open struct{ SID string }
		if text := p.ask(t, http.MethodGet, ""); json.Unmarshal([]byte(text[1:]), &open) != nil {
			t.Fatalf("got %q", text)
		}
		p.sid = open.SID
	}
	return p
}

func (p *rawPoller) ask(t testing.TB, method, body string) string {
	t.Helper()
	query := "EIO=4&transport=polling"
	if p.sid != "" {
		query += "&sid=" + p.sid
	}
	length := ""
	if body != "" {
		length = fmt.Sprintf("Content-Type: text/plain\r\nContent-Length: %d\r\n", len(body))
	}
	_ = p.conn.SetDeadline(time.Now().Add(2 * patience))
	_, err := fmt.Fprintf(p.conn, "%s /socket.io/?%s HTTP/1.1\r\nHost: x\r\n%s\r\n%s", method, query, length, body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(p.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res.Status, string(text), err)
	}
	res.Body.Close()
	return string(text)
}

// upgrade moves a session to a websocket by way of a node.
func upgrade(t testing.TB, at, sid string) *rawSocket {
	t.Helper()
	conn, err := dialFrom("", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &rawSocket{Conn: conn, r: bufio.NewReaderSize(conn, 512)}
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	fmt.Fprintf(conn, "GET /socket.io/?EIO=4&transport=websocket&sid=%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"+
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", sid)
	res, err := http.ReadResponse(s.r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(res, err)
	}
	_ = s.send("2probe")
	if text, err := s.next(); err != nil || text != "3probe" {
		t.Fatalf("%q %v", text, err)
	}
	if err := s.send("5"); err != nil {
		t.Fatal(err)
	}
	return s
}

// cost is what rounds took of both nodes, and of time.
type cost struct {
	cpu  time.Duration
	took []time.Duration
}

func (c *cost) p50() time.Duration {
	slices.Sort(c.took)
	return c.took[len(c.took)/2]
}

// compareCosts runs rounds of two kinds in turns.
func compareCosts(t *testing.T, nodes []*foyer, what string, turns, rounds int, direct, passed func()) {
	t.Helper()
	costs := [2]cost{}
	for turn := range turns + 1 {
		for kind, round := range []func(){direct, passed} {
			before := nodes[0].processor(t) + nodes[1].processor(t)
			var took []time.Duration
			for range rounds {
				began := time.Now()
				round()
				took = append(took, time.Since(began))
			}
			if turn > 0 { // the first one warms up
				costs[kind].cpu += nodes[0].processor(t) + nodes[1].processor(t) - before
				costs[kind].took = append(costs[kind].took, took...)
			}
		}
	}
	n := time.Duration(turns * rounds)
	cpu := float64(costs[1].cpu) / float64(costs[0].cpu)
	t.Logf("%s: CPU of both nodes %v direct, %v passed (%.2f times); p50 %v direct, %v passed (%.2f times)", what,
		costs[0].cpu/n, costs[1].cpu/n, cpu, costs[0].p50(), costs[1].p50(), float64(costs[1].p50())/float64(costs[0].p50()))
	if cpu > 8 { // twice what it should be: something is done that is not needed
		t.Errorf("%s takes %.1f times the processor when it is passed", what, cpu)
	}
}

// TestCostOfPassing tells what it costs that a request has come to the wrong node, and bounds what a websocket that is
// passed holds there. FIGURES=1 makes it longer, for figures to publish.
func TestCostOfPassing(t *testing.T) {
	turns, rounds, streams := 3, 200, 500
	if os.Getenv("FIGURES") != "" {
		turns, rounds, streams = 20, 500, 1500
	}
	needFiles(t, 3*streams)
	nodes := startMembersWith(t, []string{"AAAA", "BBBB"}, asOneLease, "--log-level=info", "--handler-wait=1ms", "--message-rate=-1", "--address-message-rate=-1")
	owner, other := nodes[0], nodes[1]

	// A round is a POST and the GET that brings its answer; no backend has a part in it.
	home := openRawPoller(t, owner.edge, "")
	away := openRawPoller(t, owner.edge, "")
	away = openRawPoller(t, other.edge, away.sid)
	poll := func(p *rawPoller) func() {
		return func() {
			p.ask(t, http.MethodPost, "40/nowhere,")
			for !strings.HasPrefix(p.ask(t, http.MethodGet, ""), "44/nowhere") { // a ping
			}
		}
	}
	compareCosts(t, nodes, "a polling round trip", turns, rounds, poll(home), poll(away))

	// The echo is a backend's, which is the same for both.
	attach(t, owner.api, &foyerv1.Register{Namespaces: []string{"/"}, Group: "e2e", Local: true}, func(b *backend) { b.forgetEvents = true })
	echo := func(at string) func() {
		ws := upgrade(t, at, openRawPoller(t, owner.edge, "").sid)
		if err := ws.join(""); err != nil {
			t.Fatal(err)
		}
		question := `421["echo","` + strings.Repeat("x", 100) + `"]`
		return func() {
			_ = ws.SetDeadline(time.Now().Add(2 * patience))
			if err := ws.send(question); err != nil {
				t.Fatal(err)
			}
			for {
				text, err := ws.next()
				if err != nil {
					t.Fatal(err)
				}
				if text == "2" {
					_ = ws.send("3")
					continue
				}
				if !strings.HasPrefix(text, "431[") {
					t.Fatalf("got %q", text)
				}
				return
			}
		}
	}
	compareCosts(t, nodes, "an echo by websocket and backend", turns, rounds, echo(owner.edge), echo(other.edge))

	var sids []string
	for range streams + 50 {
		sids = append(sids, openRawPoller(t, owner.edge, "").sid)
	}
	for _, sid := range sids[:50] { // what is made once is there now
		upgrade(t, other.edge, sid)
	}
	before := other.resident(t)
	for _, sid := range sids[50:] {
		upgrade(t, other.edge, sid)
	}
	each := (other.resident(t) - before) / streams
	t.Logf("a websocket at rest that is passed holds %.1f KiB at the node that passes it", float64(each)/1024)
	if each > 30<<10 { // one that has a buffer of its own for each direction takes more than that
		t.Errorf("%d bytes each", each)
	}
}
