// Package admin answers the questions of those who run a node: is it alive, may it have traffic. It starts nothing and
// keeps nothing.
package admin

import (
	"io"
	"net/http"
	"net/http/pprof"
	"strings"
)

// Handler serves GET and HEAD of /healthz, which is 200 as long as the process answers at all, and /readyz, which is
// 200 while ready returns nil and else 503 with the error's text. ready is called for each request, from many
// goroutines; it should not block.
func Handler(ready func() error) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			answer(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		answer(w, http.StatusOK, "ok")
	})
	return mux
}

// WithProfiles adds Go's profiles to a handler, below /debug/pprof/. They show what the program does, and a profile of
// the CPU takes some of it: they are not for everybody. Waiting for locks is in them only if the process samples it
// (runtime.SetMutexProfileFraction).
func WithProfiles(h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index) // of heap, mutex and so on by name
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// Guard lets in only those whom allowed has no error for; what it says is the answer to others. /healthz and /readyz
// are for everybody. allowed is called for each other request, with its bearer token or "".
func Guard(h http.Handler, allowed func(r *http.Request, token string) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" && r.URL.Path != "/readyz" {
			kind, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			if !strings.EqualFold(kind, "Bearer") {
				token = ""
			}
			if err := allowed(r, strings.TrimSpace(token)); err != nil {
				w.Header().Set("WWW-Authenticate", "Bearer")
				answer(w, http.StatusUnauthorized, err.Error())
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}

// WithMetrics adds metrics to a handler, at /metrics.
func WithMetrics(h, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.Handle("GET /metrics", metrics)
	return mux
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store") // yesterday's readiness is of no use to a proxy
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n") // a probe that is gone has its answer
}
