package main

import (
	"bytes"
	"log"
	"strings"

	"go.uber.org/zap"

	"foyer/service"
)

// tellListening says where the node listens and whom it lets in: what an operator would look up first when nobody comes
// in.
func (f *foyer) tellListening() {
	admin := ""
	if f.adminListener != nil {
		admin = f.adminListener.Addr().String()
	}
	origins := f.s.CORSOrigin
	if len(origins) == 0 || !f.s.CORSListedOnly {
		origins = append([]string{"the server's own"}, origins...)
	}
	f.log.Info("listening", zap.String("node", string(f.node.ID())), zap.String("version", buildVersion()),
		zap.String("edge", f.edgeListener.Addr().String()), zap.Bool("edge_tls", f.edgeTLS != nil), zap.String("path", f.s.Path),
		zap.Strings("origins", origins), zap.Strings("namespaces", f.namespaces()),
		zap.String("api", f.apiListener.Addr().String()), zap.Bool("api_tls", f.apiTLS != nil), zap.Bool("api_token", f.s.APITokenFile != ""),
		zap.String("http", f.http.address()), zap.String("admin", admin), zap.Int64("memory_budget", f.node.Budget().Limit()), zap.String("memory_budget_from", f.budgetFrom))
	if f.files.edge > 0 && f.files.edge < f.s.MaxSessions {
		f.log.Info("fewer descriptors than sessions", zap.String("detail", "raise the limit of open files (ulimit -n)"),
			zap.Int("max_connections", f.files.edge), zap.Int("max_sessions", f.s.MaxSessions))
	}
}

// namespaces are those that are configured, each with who may connect, as --connect has it.
func (f *foyer) namespaces() []string {
	configs, _ := f.s.namespaceConfig() // was checked
	list := make([]string, 0, len(configs))
	for _, c := range configs {
		mode := "open"
		if c.Connect == service.ConnectHandler {
			mode = "handler"
		}
		list = append(list, c.Pattern+"="+mode)
	}
	return list
}

// serverLog takes the log lines of net/http. Only TLS handshakes that fail are news among these: a panic comes to us,
// and all others are mistakes of clients, which get an answer. A client that goes away before its handshake has ended
// does not count: a balancer that looks whether the port is open does so.
func (f *foyer) serverLog(cs *conns) *log.Logger {
	return log.New(handshakeLog{f.told.Named("listener"), cs}, "", 0)
}

type handshakeLog struct {
	told  *zap.Logger
	conns *conns
}

func (h handshakeLog) Write(p []byte) (int, error) {
	rest, ok := bytes.CutPrefix(p, []byte("http: TLS handshake error from "))
	if !ok {
		return len(p), nil
	}
	address, detail, _ := strings.Cut(strings.TrimSpace(string(rest)), ": ")
	if detail == "EOF" || strings.Contains(detail, "connection reset") || strings.Contains(detail, "broken pipe") {
		return len(p), nil
	}
	if i := strings.LastIndexByte(address, ':'); i > 0 {
		address = strings.Trim(address[:i], "[]")
	}
	h.conns.unsafe.Add(1)
	h.told.Info("TLS handshake failed", zap.String("reason", h.conns.what+"_tls_failed"), zap.String("address", address),
		zap.String("detail", detail), zap.String("setting", "--"+h.conns.what+"-cert"))
	return len(p), nil
}
