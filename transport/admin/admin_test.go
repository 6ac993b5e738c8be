package admin

import (
	"errors"
	"net/http"
	"net/http/httptest"
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
