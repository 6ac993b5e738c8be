package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/bridge"
	"foyer/transport/engineio"
	"foyer/transport/grpcapi"
	"foyer/transport/metrics"
	"foyer/transport/passing"
)

// measured is what metrics look at.
func (f *foyer) measured() *metrics.Node {
	n := &metrics.Node{
		Measure: f.node.Measure, Info: f.info, Edge: f.edgeMeasures, Ready: f.ready, ClusterKind: f.s.Cluster, Limits: f.limits, Timed: f.timed,
	}
	reasons := service.DropReasons()
	if f.cluster != nil {
		reasons = append(reasons, adapter.DropReasons()...)
		if f.bridge != nil {
			reasons = append(reasons, bridge.DropReasons()...)
		}
		n.Cluster = f.clusterMeasures
	}
	n.Dropped = func() map[string]int64 {
		counts := f.api.Dropped(f.info().Dropped)
		for _, reason := range reasons {
			counts[reason] += 0 // a counter that begins with its first event hides that one
		}
		for _, done := range passing.DoneReasons() { // metrics of their own
			delete(counts, done)
		}
		return counts
	}
	return n
}

// edgeMeasures are those of the links.
func (f *foyer) edgeMeasures() metrics.Edge {
	m := f.engine.Measure()
	e := metrics.Edge{Upgrades: m.Upgrades, QueuedBytes: m.QueuedBytes, WorstQueue: m.WorstQueue}
	for t, word := range [engineio.Transports]string{engineio.Polling: "polling", engineio.WebSocket: "websocket"} {
		e.Links = append(e.Links, metrics.Links{
			Transport: word, Sessions: m.Sessions[t], In: metrics.Traffic(m.In[t]), Out: metrics.Traffic(m.Out[t]),
		})
	}
	return e
}

// clusterMeasures are those of the other nodes and of the way to them.
func (f *foyer) clusterMeasures() metrics.Cluster {
	t, p := f.cluster.Traffic(), f.passing.Measure()
	return metrics.Cluster{
		Nodes: f.cluster.Nodes(), BusUp: f.cluster.Up(),
		In: metrics.Frames(t.In), Out: metrics.Frames(t.Out), Resent: t.Resent, Epochs: t.Epochs, Unheard: t.Unheard,
		Passed:    []metrics.Passed{{Kind: "request", Count: p.Requests}, {Kind: "stream", Count: p.Streams}, {Kind: "served", Count: p.Served}},
		PassedNow: p.Open,
	}
}

// limits are the bounds of the node and its listeners.
func (f *foyer) limits() []service.Limit {
	list := append(f.api.Limits(), service.Limit{Name: "sessions", Used: int64(f.engine.Len()), Most: int64(f.engine.Limits().MaxSessions)})
	for _, cs := range []*conns{f.edgeConns, f.adminConns, f.peerConns} {
		if cs != nil {
			list = append(list, cs.limit())
		}
	}
	return list
}

// called tells the metrics of a call of the API.
func (f *foyer) called(c grpcapi.Call) {
	code := c.Code
	if code > codes.Unauthenticated {
		code = codes.Unknown // no other one stands in a label
	}
	f.timed.Called(c.Method, code.String(), c.Took, c.Stream, c.Trace)
}

// info is that of the node, with what is beside it.
func (f *foyer) info() service.Info {
	switch {
	case f.bridge != nil:
		return f.bridge.Info()
	case f.cluster != nil:
		return f.cluster.Info()
	}
	return f.node.Info()
}

var (
	errNoToken    = errors.New("this address is not on loopback: it wants a token of the API, as Authorization: Bearer TOKEN")
	errOtherToken = errors.New("this is no token of the API")
	errNoTokens   = errors.New("this address is not on loopback, and the node has no tokens (--api-token-file): nobody may look here but at /healthz and /readyz")
)

// mayLook says who may see more at the admin address than that the node lives: on loopback everybody, and else who has
// a token of the API.
func (f *foyer) mayLook(r *http.Request, token string) error {
	err := f.mayLookWith(token)
	if err != nil {
		f.refusedLooks.Add(1)
		address, _, _ := net.SplitHostPort(r.RemoteAddr)
		f.told.Info("admin request refused", zap.String("reason", reasonLook), zap.String("address", address),
			zap.String("detail", fmt.Sprintf("%.100q: %v", r.URL.Path, err)), zap.String("setting", "--admin"))
	}
	return err
}

// reasonLook is the reason for which a request at the admin address is refused.
const reasonLook = "admin_unauthenticated"

func (f *foyer) mayLookWith(token string) error {
	if at, ok := f.adminListener.Addr().(*net.TCPAddr); ok && at.IP.IsLoopback() {
		return nil
	}
	switch {
	case len(f.tokens.list()) == 0:
		return errNoTokens
	case token == "":
		return errNoToken
	case !f.isToken(token):
		return errOtherToken
	}
	return nil
}

// isToken says whether a word is a token of the API.
func (f *foyer) isToken(word string) (is bool) {
	given := sha256.Sum256([]byte(word))
	for _, t := range f.tokens.list() { // all of them: time must not tell which one it is
		one := sha256.Sum256([]byte(t))
		is = subtle.ConstantTimeCompare(one[:], given[:]) == 1 || is
	}
	return is
}
