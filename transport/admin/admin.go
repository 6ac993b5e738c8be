// Package admin answers the questions of those who run a node: is it alive, may it have traffic. It starts nothing and
// keeps nothing.
package admin

import (
	"io"
	"net/http"
	"net/http/pprof"
)

// Handler serves GET and HEAD of /healthz, which is 200 as long as the process answers at all, and /readyz, which is 200
// while ready returns nil and else 503 with the error's text. ready is called for each request, from many goroutines; it
// should not block.
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

// WithProfiles adds Go's profiles to a handler, below /debug/pprof/. They show what the program does, and a profile of the CPU
// takes some of it: they are not for everybody. Waiting for locks is in them only if the process samples it
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

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store") // yesterday's readiness is of no use to a proxy
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n") // a probe that is gone has its answer
}
