package main

import (
	"crypto/tls"
	"net"
	"net/http"

	"foyer/service"
	"foyer/transport/engineio"
	"foyer/transport/grpcapi"
	"foyer/transport/httpapi"
)

// maxHTTPFiles bounds the connections of --http: each can be one call, and a connection in memory takes 1024 of them.
const maxHTTPFiles = 1000

// httpEdge is the address for calls over HTTP. All but conns is nil where there is none.
type httpEdge struct {
	cert     certificate
	tls      *tls.Config
	memory   *grpcapi.Memory
	api      *httpapi.Server
	conns    *conns
	server   *http.Server
	listener net.Listener
}

// openHTTP makes what answers calls over HTTP. The API is there already.
func (f *foyer) openHTTP() error {
	h := &f.http
	h.conns = newConns("http", f.files.http, 0, f.s.TrustedProxy, f.told)
	if f.s.HTTP == "" {
		return nil
	}
	if f.s.HTTPTLS.Cert != "" {
		h.tls = h.cert.config()
		h.tls.NextProtos = []string{"http/1.1"} // each connection is one call at a time
	}
	largest := 2*int(f.s.MaxPayload) + 1<<20 // in JSON: attachments take a third more
	held := int64(1 << 30)
	if limit := f.node.Budget().Limit(); limit > 0 {
		held = limit / 16
	}
	if f.s.APIRequestBytes > 0 {
		held = int64(f.s.APIRequestBytes)
	}
	h.memory = grpcapi.NewMemory()
	var err error
	h.api, err = httpapi.New(httpapi.Config{
		Dial: h.memory.Dial, Admit: f.api.Admit,
		Address:    f.callerOf,
		AddressKey: grpcapi.ClientAddress,
		Open:       f.s.APITokenFile == "", Origins: f.s.HTTPOrigin,
		MaxMessage: largest, RequestBytes: max(held, int64(largest)), WriteTimeout: f.waits.write, Told: f.told,
		Hold: func(n int) { f.node.Budget().Force(service.UseInbound, n) },
	})
	if err != nil {
		return err
	}
	h.server = f.httpServer(f.contain(pageOf(h.api)), h.conns)
	return nil
}

// callerOf is the address of a caller over HTTP.
func (f *foyer) callerOf(r *http.Request) string {
	return engineio.ClientAddress(r, f.holds.Load().TrustedProxy)
}

// serveHTTP begins to answer calls over HTTP, where there is an address for them.
func (f *foyer) serveHTTP() {
	h := &f.http
	if h.listener == nil {
		return
	}
	lis := h.conns.listen(h.listener)
	if h.tls != nil {
		lis = tls.NewListener(lis, h.tls)
	}
	f.loop("api in memory", func() error { return f.api.ServeMemory(h.memory) })
	f.loop("http", func() error { return h.server.Serve(lis) })
}

// address is where it listens; "": nowhere.
func (h *httpEdge) address() string {
	if h.listener == nil {
		return ""
	}
	return h.listener.Addr().String()
}

// counts adds what was refused.
func (h *httpEdge) counts(into map[string]int64) {
	if h.api == nil {
		return
	}
	for name, v := range h.api.Counters() {
		into[name] = v
	}
	h.conns.counts(into)
}

// close ends all of it at once.
func (h *httpEdge) close() {
	if h.api == nil {
		return
	}
	_ = h.server.Close()
	h.api.Close()
	h.memory.Close()
	if h.listener != nil {
		_ = h.listener.Close()
	}
}
