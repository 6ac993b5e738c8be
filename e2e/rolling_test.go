//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // by which calls go to nodes that are ready
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/stats"

	foyerv1 "foyer/gen/foyer/v1"
)

// serviceConfig is how docs/cluster.md tells backends to make calls to many nodes.
func serviceConfig(t testing.TB) string {
	t.Helper()
	for _, b := range blocksOf(openText(t, "docs/cluster.md")) {
		if b.lang == "json" {
			return b.text
		}
	}
	t.Fatal("docs/cluster.md has no service config")
	return ""
}

// rolling is three nodes, clients behind a balancer that come back when their link ends, and calls at a constant rate.
type rolling struct {
	t       testing.TB
	addr    []nodeAddresses
	routes  string
	nodes   []*foyer // as they run now
	runs    []*foyer // all of them
	downs   []down
	ready   [3]atomic.Bool // as the balancer sees them
	clients []*roamer
	calls   []*rollingCall
	tries   attempts
}

// pollingEach is which part of the clients polls.
const pollingEach = 5

// nodeAddresses are those of a node, for all its runs.
type nodeAddresses struct{ name, edge, api, admin, cluster string }

// down is when a node was restarted: told to end, and ready again.
type down struct {
	name       string
	told, back time.Time
}

// rollingCall is an emit with a number.
type rollingCall struct {
	number  int
	to      string // a socket; "" for all
	began   time.Time
	receipt *foyerv1.EmitResponse
	err     error
	took    time.Duration
}

// attempts counts how often gRPC has made the calls.
type attempts struct{ n atomic.Int64 }

func (a *attempts) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }
func (a *attempts) HandleRPC(_ context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.Begin); ok {
		a.n.Add(1)
	}
}
func (a *attempts) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (a *attempts) HandleConn(context.Context, stats.ConnStats)                       {}

// startRolling starts three nodes of a build.
func startRolling(t testing.TB, binaryName string) *rolling {
	t.Helper()
	r := &rolling{t: t, nodes: make([]*foyer, 3)}
	var routes []string
	for i := range r.nodes {
		ports := freePorts(t, 4)
		r.addr = append(r.addr, nodeAddresses{name: string(rune('A'+i)) + "000", edge: ports[0], api: ports[1], admin: ports[2], cluster: ports[3]})
		routes = append(routes, ports[3])
	}
	r.routes = strings.Join(routes, ",")
	for i := range r.nodes {
		r.launch(i, binaryName)
	}
	for i, f := range r.nodes {
		f.listens(t)
		r.isReady(i)
	}
	awaitUp(t, r.nodes, "A000", "B000", "C000")
	return r
}

func (r *rolling) launch(i int, binaryName string) {
	r.t.Helper()
	a := r.addr[i]
	r.nodes[i] = launchBinary(r.t, binaryName, nil,
		"--node-id="+a.name, "--edge="+a.edge, "--api="+a.api, "--admin="+a.admin, "--cluster=embedded", "--cluster-listen="+a.cluster,
		"--cluster-routes="+r.routes, "--cluster-lease="+longLease, "--log-level=info", "--drain-notice=1s", "--drain-window=10s")
	r.runs = append(r.runs, r.nodes[i])
}

// isReady waits until a node says that it is.
func (r *rolling) isReady(i int) {
	r.t.Helper()
	eventually(r.t, func() error { return ready(r.t.Context(), r.addr[i].admin) })
}

func ready(ctx context.Context, admin string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s is not ready: %s", admin, response.Status)
	}
	return nil
}

// front is a balancer that asks each node ten times a second whether it is ready, and passes requests on in turn to
// those that are.
func (r *rolling) front(ctx context.Context, looks *sync.WaitGroup) string {
	for i := range r.addr {
		looks.Go(func() {
			for ctx.Err() == nil {
				r.ready[i].Store(ready(ctx, r.addr[i].admin) == nil)
				select {
				case <-time.After(100 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	var turn atomic.Int64
	next := func() string {
		n := int(turn.Add(1))
		for k := range r.addr {
			if i := (n + k) % len(r.addr); r.ready[i].Load() {
				return r.addr[i].edge
			}
		}
		return r.addr[n%len(r.addr)].edge
	}
	address, _ := frontOf(r.t, "127.0.0.1:0", next, func(to *http.Transport) http.RoundTripper { return another{to, next} })
	return address
}

// another asks the next node when one takes no connection, as balancers do: one that has gone may still count as ready.
type another struct {
	*http.Transport
	next func() string
}

func (a another) RoundTrip(request *http.Request) (*http.Response, error) {
	var said []byte
	if request.Body != nil {
		var err error
		if said, err = io.ReadAll(request.Body); err != nil {
			return nil, err
		}
	}
	for try := 0; ; try++ {
		if len(said) > 0 {
			request.Body = io.NopCloser(bytes.NewReader(said))
		}
		response, err := a.Transport.RoundTrip(request)
		var dialled *net.OpError
		if try == 2 || !errors.As(err, &dialled) || dialled.Op != "dial" {
			return response, err
		}
		request.URL.Host = a.next()
	}
}

// channel is that of a backend, to all nodes.
func (r *rolling) channel() *grpc.ClientConn {
	r.t.Helper()
	var all resolver.State
	for _, a := range r.addr {
		all.Endpoints = append(all.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a.api}}})
	}
	names := manual.NewBuilderWithScheme("rolling")
	names.InitialState(all)
	conn, err := grpc.NewClient("rolling:///", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(names),
		grpc.WithDefaultServiceConfig(serviceConfig(r.t)), grpc.WithStatsHandler(&r.tries))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

// emit makes so many calls a second until ctx ends, whether those before are answered or not: to one client, and each
// five-hundredth to all: a poll has to wait long enough to be one that a node passes when it is restarted.
func (r *rolling) emit(ctx context.Context, emits foyerv1.EmitServiceClient, perSecond int) {
	var running sync.WaitGroup
	defer running.Wait()
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for number := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		call := &rollingCall{number: number, began: time.Now()}
		target := &foyerv1.Target{All: true}
		if number%500 > 0 {
			client := r.clients[rand.IntN(len(r.clients))]
			client.mu.Lock()
			call.to = client.id
			client.mu.Unlock()
			if call.to == "" {
				continue // it has no socket now, and the next tick takes another
			}
			target = &foyerv1.Target{Rooms: []string{call.to}}
		}
		number++
		r.calls = append(r.calls, call)
		running.Go(func() {
			within, stop := context.WithTimeout(context.Background(), patience)
			defer stop()
			call.receipt, call.err = emits.Emit(within, &foyerv1.EmitRequest{
				Target: target, Payload: &foyerv1.Payload{Event: "roam", Args: &foyerv1.Payload_Json{Json: fmt.Sprintf("[%d]", call.number)}},
			})
			call.took = time.Since(call.began)
		})
	}
}

// restart restarts a node as another build, or the same one, when all its clients are elsewhere.
func (r *rolling) restart(i int, binaryName string) {
	t, old, name := r.t, r.nodes[i], r.addr[i].name
	old.stopped = true
	told := time.Now()
	_ = old.cmd.Process.Signal(syscall.SIGTERM)
	if code := old.exit(t, 4*patience); code != 0 {
		t.Errorf("%s ended with code %d after SIGTERM\n%s", name, code, old.tail(50))
	}
	r.saysDrained(old, name)
	r.saysGone(name)
	r.allElsewhere(name)
	r.launch(i, binaryName)
	r.nodes[i].listens(t)
	r.isReady(i)
	awaitUp(t, r.nodes, "A000", "B000", "C000")
	r.downs = append(r.downs, down{name, told, time.Now()})
}

// allElsewhere waits until each client has a socket, and not at this node.
func (r *rolling) allElsewhere(name string) {
	r.t.Helper()
	eventually(r.t, func() error {
		without, still := 0, 0
		for _, c := range r.clients {
			switch c.node() {
			case "":
				without++
			case name:
				still++
			}
		}
		if without+still > 0 {
			return fmt.Errorf("%d clients have no connection, and %d have one to %s", without, still, name)
		}
		return nil
	})
}

// rollingLine is what the log tells of a drain and of members.
type rollingLine struct {
	Level, Msg, Node string
	Sessions         int
	SessionsCut      int `json:"sessions_cut"`
	HandlersCut      int `json:"handlers_cut"`
	CallsCut         int `json:"calls_cut"`
	Refused          int `json:"handshakes_refused"`
}

func (f *foyer) lines(t testing.TB) (list []rollingLine) {
	t.Helper()
	for _, text := range f.log.all() {
		var l rollingLine
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Errorf("a line of the log is %s", text)
		}
		list = append(list, l)
	}
	return list
}

// saysDrained holds the log of a node that was told to end: it says that it drains, and how that went.
func (r *rolling) saysDrained(old *foyer, name string) {
	var told []string
	for _, l := range old.lines(r.t) {
		if l.Msg == "draining" || l.Msg == "drained" {
			told = append(told, l.Msg)
			// A client that polls is cut when it does not ask for its end in time.
			if cut := l.SessionsCut; l.HandlersCut+l.CallsCut > 0 || 10*cut > l.Sessions || (l.Level == "info") != (cut == 0) {
				r.t.Errorf("%s has cut something: %+v", name, l)
			}
			r.t.Logf("%s: %+v", l.Msg, l)
		}
	}
	if !slices.Equal(told, []string{"draining", "drained"}) {
		r.t.Errorf("the log of %s says %q of its end", name, told)
	}
}

// saysGone holds the logs of the others: each has heard that the node goes, and that it has gone.
func (r *rolling) saysGone(name string) {
	for i, f := range r.nodes {
		if r.addr[i].name != name {
			f.logs(r.t, "member leaving", name)
			f.logs(r.t, "member gone", name)
		}
	}
}

// check holds what was seen against what was promised. It prints what there is to report.
func (r *rolling) check() {
	t := r.t
	failed, named, all, missed := 0, 0, 0, 0
	var took []time.Duration
	for _, c := range r.calls {
		took = append(took, c.took)
		switch {
		case c.err != nil:
			if failed++; failed <= 10 {
				t.Errorf("call %d to %q failed after %v: %v", c.number, c.to, c.took, c.err)
			}
		case len(c.receipt.GetCoverage().GetUnreachable()) > 0:
			named++
		case c.receipt.GetEnqueued() != 1 && r.wasThere(c):
			if missed++; missed <= 10 {
				t.Errorf("call %d to %q is answered by %v, and its client was there", c.number, c.to, c.receipt)
			}
		}
		if c.to == "" {
			all++
		}
	}
	t.Logf("%d calls, %d of them to all clients: %d failed, %d named a node; gRPC made %d a second time; they took %s",
		len(r.calls), all, failed, named, r.tries.n.Load()-int64(len(r.calls)), spread(took))
	if all == 0 || len(r.calls) == all {
		t.Error("nothing has happened")
	}
	r.checkClients()
	for _, f := range r.runs {
		for _, l := range f.lines(t) {
			if l.Level == "error" || l.Msg == "member lost" {
				t.Errorf("in the log: %+v", l)
			}
		}
	}
}

// wasThere says whether a call went to a client that was connected before it began, and whose node was told to end only
// after its answer, if at all.
func (r *rolling) wasThere(c *rollingCall) bool {
	for _, client := range r.clients {
		for _, s := range client.stays {
			if s.id != c.to {
				continue
			}
			down := slices.IndexFunc(r.downs, func(d down) bool { return d.name == s.id[:4] && d.told.After(s.began) })
			return s.began.Before(c.began) && (down < 0 || r.downs[down].told.After(c.began.Add(c.took)))
		}
	}
	return false
}

func (r *rolling) checkClients() {
	t := r.t
	ends, strays, gone, refused := 0, 0, 0, 0
	var without []time.Duration
	at := map[string]*roamer{}
	for _, c := range r.clients {
		refused += c.refused
		for k, s := range c.stays {
			at[s.id] = c
			if k > 0 {
				without = append(without, s.without)
			}
			if s.ended.IsZero() {
				continue
			}
			ends++
			if slices.ContainsFunc(r.downs, func(d down) bool { return d.name == s.id[:4] && s.ended.After(d.told) && s.ended.Before(d.back) }) {
				continue
			}
			if c.polling {
				strays++
			} else {
				t.Errorf("a client of %s lost its connection while another node was restarted: %v", s.id[:4], s.why)
			}
		}
	}
	for _, c := range r.calls {
		if c.err != nil || c.to == "" || c.receipt.GetEnqueued() == 0 {
			continue
		}
		client := at[c.to]
		if client == nil {
			t.Errorf("call %d went to %s, which nobody is", c.number, c.to)
			continue
		}
		if n := count(client.got, c.number); n > 1 {
			t.Errorf("call %d reached a client %d times", c.number, n)
		} else if n == 0 {
			s := client.stays[slices.IndexFunc(client.stays, func(s stay) bool { return s.id == c.to })]
			if gone++; s.ended.IsZero() {
				t.Errorf("call %d was counted, and did not reach its client, whose connection did not end", c.number)
			}
		}
	}
	// A poll that the restarted node has passed is answered before that ends. Only where a node has not been given a
	// moment in seconds some are cut off; a third of them would be if it were not so.
	if polling := len(r.clients) / pollingEach; 10*strays > polling {
		t.Errorf("%d of %d clients that poll lost their connections while another node was restarted", strays, polling)
	}
	t.Logf("%d clients, %d connections ended, %d of them at a node that was not restarted; %d connects were refused; %d emits were counted and went down with a connection",
		len(r.clients), ends, strays, refused, gone)
	t.Logf("time without a connection: %s", spread(without))
}

func count(list []int, n int) (found int) {
	for _, x := range list {
		if x == n {
			found++
		}
	}
	return found
}

// spread is what a list of times is reported by.
func spread(list []time.Duration) string {
	if len(list) == 0 {
		return "none"
	}
	slices.Sort(list)
	round := func(share float64) time.Duration {
		return list[int(share*float64(len(list)-1))].Round(time.Millisecond)
	}
	return fmt.Sprintf("p50 %v, p99 %v, max %v", round(0.5), round(0.99), round(1))
}

// TestRollingRestart: when the nodes of a cluster are restarted one after the other, no call fails that is made as
// docs/cluster.md says, and clients come back to another node. A call fails when its caller gets an error, after all
// that gRPC does by itself. `make chaos` has more clients than CI can afford.
func TestRollingRestart(t *testing.T) {
	clients, perSecond := 300, 50
	if os.Getenv("CHAOSTIME") != "" {
		clients, perSecond = 3000, 200
		needFiles(t, 4*clients)
	}
	r := startRolling(t, binary(t))
	r.under(clients, perSecond, func() {
		for i := range r.nodes {
			r.restart(i, binary(t))
		}
	})
}

// under has clients and calls there while something is done, and looks at what they saw.
func (r *rolling) under(clients, perSecond int, do func()) {
	t := r.t
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	t.Cleanup(func() { stop(); work.Wait() })
	front := r.front(ctx, &work)
	eventually(t, func() error {
		for i := range r.ready {
			if !r.ready[i].Load() {
				return fmt.Errorf("the balancer does not know that %s is ready", r.addr[i].name)
			}
		}
		return nil
	})
	polls := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	t.Cleanup(polls.CloseIdleConnections)
	for i := range clients {
		c := &roamer{edge: front, polling: i%pollingEach == 0, http: polls}
		r.clients = append(r.clients, c)
		work.Go(func() { c.live(ctx) })
	}
	r.allElsewhere("none")
	calls, end := context.WithCancel(ctx)
	emits := foyerv1.NewEmitServiceClient(r.channel())
	stopCalls := during(func(context.Context) { r.emit(calls, emits, perSecond) })
	do()
	end()
	stopCalls()
	eventually(t, r.delivered)
	stop()
	work.Wait()
	r.check()
}

// delivered says whether each client that is connected has got what was counted for it.
func (r *rolling) delivered() error {
	at := map[string]*roamer{}
	for _, c := range r.clients {
		c.mu.Lock()
		at[c.id] = c
		c.mu.Unlock()
	}
	for _, call := range r.calls {
		if c := at[call.to]; c != nil && call.err == nil && call.receipt.GetEnqueued() > 0 {
			c.mu.Lock()
			n := count(c.got, call.number)
			c.mu.Unlock()
			if n == 0 {
				return fmt.Errorf("call %d has not reached its client", call.number)
			}
		}
	}
	return nil
}
