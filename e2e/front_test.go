//go:build e2e

package e2e

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

// With FOYER_NODES=3 in the environment, what a test starts as one Foyer is three nodes of one cluster: each request of
// its clients goes to the next node in turn, calls to the second one, and handlers' streams to the third.

func nodesOfOne() int {
	n, err := strconv.Atoi(os.Getenv("FOYER_NODES"))
	if err != nil {
		return 1
	}
	return n
}

// receiptOfAll is what an emit on a stream has to want, so that it counts the recipients of all nodes.
func receiptOfAll() foyerv1.Receipt {
	if nodesOfOne() > 1 {
		return foyerv1.Receipt_RECEIPT_ALL_NODES
	}
	return foyerv1.Receipt_RECEIPT_UNSPECIFIED
}

// atCalls are those of some names whose sockets are at the node that calls go to: all of them, where there is one.
func atCalls(names string, id func(name string) string) string {
	if nodesOfOne() == 1 {
		return names
	}
	var here []string
	for _, name := range strings.Fields(names) {
		if strings.HasPrefix(id(name), "Bnod") {
			here = append(here, name)
		}
	}
	return strings.Join(here, " ")
}

// streamsAt is where handlers attach whose calls go to an address, and nodesAt what is looked at as one node there.
var streamsAt, nodesAt sync.Map

// asOneLease is for nodes that a test takes for one. With the default lease a busy node is silent after two seconds.
const asOneLease = "--cluster-lease=30s"

// startAsOne starts nodes that are looked at as one. Of an address that is no free one, --edge is the front's, and
// --api that of the node which takes the calls.
func startAsOne(t testing.TB, n int, args ...string) *foyer {
	t.Helper()
	at := "127.0.0.1:0"
	listen := freePorts(t, n)
	m := &mesh{t: t}
	for i := range n {
		m.names = append(m.names, string(rune('A'+i))+"nod")
		own := []string{
			"--cluster=embedded", "--cluster-listen=" + listen[i], "--cluster-routes=" + strings.Join(listen, ","), "--node-id=" + m.names[i],
			asOneLease,
		}
		for _, arg := range args {
			name, address, _ := strings.Cut(arg, "=")
			switch {
			case name == "--edge":
				at = address
			case name == "--api" && i != 1%n && !strings.HasSuffix(address, ":0"):
			default:
				own = append(own, arg)
			}
		}
		m.add(i, startFoyerOn(t, nil, own...), m.names[i])
	}
	for i, node := range m.nodes { // by their logs, since a test may not be let in at their API
		for j, other := range m.names {
			if i != j {
				node.logs(t, "member up", other)
			}
		}
	}
	first := m.nodes[0].foyer
	all := *first.process
	all.log = newFeed[string]()
	one := &foyer{process: &all, api: m.nodes[1%n].api, admin: first.admin, stopped: true}
	one.edge, one.closeFront = startFront(t, m, at)
	for _, node := range m.nodes {
		one.nodes = append(one.nodes, node.foyer)
		go func() {
			for from := 0; ; from++ {
				line, _, err := node.log.await(from, time.Hour, func(string) bool { return true })
				if err != nil {
					return // the node has ended
				}
				all.log.add(line)
			}
		}()
	}
	streamsAt.Store(one.api, m.nodes[2%n].api)
	nodesAt.Store(one.api, one)
	return one
}

// each is the node, or those that are looked at as it.
func (f *foyer) each() []*foyer {
	if len(f.nodes) > 0 {
		return f.nodes
	}
	return []*foyer{f}
}

// info is GetInfo of the node. Of nodes that are looked at as one, what they have and count is added up.
func (b *backend) info(t testing.TB) *foyerv1.GetInfoResponse {
	t.Helper()
	var sum *foyerv1.GetInfoResponse
	dropped := map[string]int64{}
	for _, node := range b.nodes {
		r, err := node.GetInfo(t.Context(), &foyerv1.GetInfoRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for reason, n := range r.GetDropped() {
			dropped[reason] += n
		}
		if sum == nil {
			sum = r
			continue
		}
		*sum.Sessions += r.GetSessions()
		*sum.Sockets += r.GetSockets()
		*sum.Handlers += r.GetHandlers()
	}
	sum.Dropped = dropped
	return sum
}

// startFront passes each request on to the next node in turn, upgrades too.
func startFront(t testing.TB, m *mesh, at string) (address string, end func()) {
	var turn atomic.Int64
	return frontOf(t, at, func() string { return m.nodes[int(turn.Add(1))%len(m.nodes)].edge }, func(to *http.Transport) http.RoundTripper { return to })
}

// frontOf passes each request that comes to an address on to the one that next returns, upgrades too, by a transport
// that may be wrapped.
func frontOf(t testing.TB, at string, next func() string, by func(*http.Transport) http.RoundTripper) (address string, end func()) {
	t.Helper()
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", next()
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		FlushInterval: -1,
		Transport:     by(&http.Transport{MaxIdleConnsPerHost: 100, IdleConnTimeout: time.Second}),
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: proxy}}
	s.Start()
	end = sync.OnceFunc(func() { s.CloseClientConnections(); s.Close() })
	t.Cleanup(end)
	return l.Addr().String(), end
}
