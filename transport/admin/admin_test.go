package admin

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHandler(t *testing.T) {
	var ready error
	h := Handler(func() error { return ready })
	for _, c := range []struct {
		name, method, path string
		ready              error
		code               int
		body               string
	}{
		{"alive", "GET", "/healthz", nil, 200, "ok\n"},
		{"alive while not ready", "GET", "/healthz", errors.New("draining"), 200, "ok\n"},
		{"ready", "GET", "/readyz", nil, 200, "ok\n"},
		{"ready by HEAD", "HEAD", "/readyz", nil, 200, "ok\n"},
		{"not ready", "GET", "/readyz", errors.New("draining"), 503, "draining\n"},
		{"no other methods", "POST", "/readyz", nil, 405, "Method Not Allowed\n"},
		{"nothing else", "GET", "/", nil, 404, "404 page not found\n"},
		{"no profiles", "GET", "/debug/pprof/", nil, 404, "404 page not found\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ready = c.ready
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), c.method, c.path, http.NoBody))
			if w.Code != c.code || w.Body.String() != c.body {
				t.Errorf("%s %s: got %d %q, want %d %q", c.method, c.path, w.Code, w.Body.String(), c.code, c.body)
			}
		})
	}
}

func TestWithProfiles(t *testing.T) {
	h := WithProfiles(Handler(func() error { return errors.New("draining") }))
	for _, c := range []struct {
		path string
		code int
		body string // part of it
	}{
		{"/healthz", 200, "ok"},
		{"/readyz", 503, "draining"},
		{"/debug/pprof/", 200, "mutex"},
		{"/debug/pprof/cmdline", 200, "admin.test"},
		{"/debug/pprof/goroutine?debug=1", 200, "goroutine profile: total"},
		{"/debug/pprof/mutex?debug=1", 200, "cycles/second"},
		{"/debug/pprof/nothing", 404, "Unknown profile"},
		{"/", 404, "not found"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, c.path, http.NoBody))
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s: got %d %.100q, want %d and %q", c.path, w.Code, w.Body.String(), c.code, c.body)
		}
	}
}
