package main

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"foyer/transport/admin"
)

// TestHealthcheck: the exit code says how a node is, and one line says why.
func TestHealthcheck(t *testing.T) {
	var ready atomic.Pointer[error]
	server := httptest.NewServer(admin.Handler(func() error {
		if err := ready.Load(); err != nil {
			return *err
		}
		return nil
	}))
	defer server.Close()
	at := strings.TrimPrefix(server.URL, "http://")
	_, port, _ := net.SplitHostPort(at)
	draining := errors.New("the node is draining")
	for _, try := range []struct {
		name string
		down *error
		args []string
		code int
		says string
	}{
		{"alive", nil, []string{"--admin", at}, 0, ""},
		{"alive while it drains", &draining, []string{"--admin", at}, 0, ""},
		{"ready", nil, []string{"--admin", at, "--ready"}, 0, ""},
		{"ready, of a node on all addresses", nil, []string{"--admin", ":" + port, "--ready"}, 0, ""},
		{"not ready", &draining, []string{"--admin", at, "--ready", "--patience", "1ms"}, exitFailure, "foyer: --admin: "},
		{"no such address", nil, []string{"--admin", "9090"}, exitUsage, "foyer: --admin: \"9090\" is no address of the form HOST:PORT (see foyer healthcheck --help)\n"},
		{"no patience", nil, []string{"--patience", "0s"}, exitUsage, "foyer: --patience: 0s is too short (see foyer healthcheck --help)\n"},
	} {
		t.Run(try.name, func(t *testing.T) {
			ready.Store(try.down)
			out, told, code := say(t, append([]string{"healthcheck"}, try.args...)...)
			if code != try.code || out != "" || !strings.HasPrefix(told, try.says) || try.says == "" && told != "" {
				t.Errorf("code %d, %q, %q; want %d and %q", code, out, told, try.code, try.says)
			}
		})
	}
	ready.Store(&draining)
	c := healthcheckCommand{Admin: at, Ready: true}
	if err := c.ask(t.Context(), http.DefaultClient); err == nil || err.Error() != "the node at "+at+" says: the node is draining" {
		t.Error(err)
	}
	server.Close()
	if _, told, code := say(t, "healthcheck", "--admin", at, "--patience", "1ms"); code != exitFailure || told != "foyer: --admin: nobody answers at "+at+"\n" {
		t.Errorf("code %d, %q", code, told)
	}
}

// TestHealthcheckWaits: a node that becomes ready while it is asked is well, so that a script that starts one can wait
// for it.
func TestHealthcheckWaits(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked < 3 || r.URL.Path != "/readyz" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	if _, told, code := say(t, "healthcheck", "--admin", strings.TrimPrefix(server.URL, "http://"), "--ready", "--patience", "5m"); code != 0 || told != "" || asked != 3 {
		t.Errorf("code %d, %q, asked %d times", code, told, asked)
	}
}
