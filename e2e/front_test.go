//go:build e2e

package e2e

import (
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

// streamsAt is where handlers attach whose calls go to an address.
var streamsAt sync.Map

// startAsOne starts nodes that are looked at as one.
func startAsOne(t testing.TB, n int, args ...string) *foyer {
	t.Helper()
	listen := freePorts(t, n)
	m := &mesh{t: t}
	for i := range n {
		f := startFoyerOn(t, nil, append([]string{
			"--cluster=embedded", "--cluster-listen=" + listen[i], "--cluster-routes=" + strings.Join(listen, ","),
			"--node-id=" + string(rune('A'+i)) + "nod",
		}, args...)...)
		m.add(i, f, string(rune('A'+i))+"nod")
	}
	m.settle()
	front := startFront(t, m)
	first := m.nodes[0].foyer
	one := &foyer{process: first.process, edge: front, api: m.nodes[1%n].api, admin: first.admin, stopped: true}
	for _, node := range m.nodes {
		one.nodes = append(one.nodes, node.foyer)
	}
	streamsAt.Store(one.api, m.nodes[2%n].api)
	return one
}

// startFront passes each request on to the next node in turn, upgrades too.
func startFront(t testing.TB, m *mesh) string {
	var turn atomic.Int64
	return frontOf(t, func() string { return m.nodes[int(turn.Add(1))%len(m.nodes)].edge }, func(to *http.Transport) http.RoundTripper { return to })
}

// frontOf passes each request on to the address that next returns, upgrades too, by a transport that may be wrapped.
func frontOf(t testing.TB, next func() string, by func(*http.Transport) http.RoundTripper) string {
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
	s := httptest.NewServer(proxy)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.Listener.Addr().String()
}
