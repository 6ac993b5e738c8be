package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"

	"go.uber.org/zap"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/transport/metrics"
)

// measured is what metrics look at.
func (f *foyer) measured() *metrics.Node {
	n := &metrics.Node{Measure: f.node.Measure, Info: f.info, Sessions: f.engine.Sessions, Ready: f.ready, Cluster: f.s.Cluster}
	reasons := service.DropReasons()
	if f.cluster != nil {
		reasons = append(reasons, adapter.DropReasons()...)
		n.Nodes = func() ([]service.NodeStatus, bool) { return f.cluster.Nodes(), f.cluster.Up() }
	}
	n.Dropped = func() map[string]int64 {
		counts := f.api.Dropped(f.info().Dropped)
		for _, reason := range reasons {
			counts[reason] += 0 // a counter that begins with its first event hides that one
		}
		return counts
	}
	return n
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

// mayLook says who may see more at the admin address than that the node lives: on loopback everybody, and else who has a
// token of the API.
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
	list := f.tokens.list()
	switch {
	case len(list) == 0:
		return errNoTokens
	case token == "":
		return errNoToken
	}
	given := sha256.Sum256([]byte(token))
	for _, t := range list {
		if is := sha256.Sum256([]byte(t)); subtle.ConstantTimeCompare(is[:], given[:]) == 1 {
			return nil
		}
	}
	return errOtherToken
}
