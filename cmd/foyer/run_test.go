package main

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRunServesAndDrains starts all that the binary starts, asks each edge once, and ends it as a signal would.
func TestRunServesAndDrains(t *testing.T) {
	s, err := parse(t, "--edge", "127.0.0.1:0", "--api", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--pprof", "--log-level", "error")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runtime.SetMutexProfileFraction(0) })
	log, _, err := newLogger(s)
	if err != nil {
		t.Fatal(err)
	}
	f := newFoyer(s, true, log)
	if err := f.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.serve()
	var banner strings.Builder
	f.greet(&banner)
	if !strings.Contains(banner.String(), "grpcurl -plaintext") {
		t.Errorf("greeting: %q", banner.String())
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for url, want := range map[string]string{
		"http://" + f.edgeListener.Addr().String() + "/":                                   "<!doctype html>",
		"http://" + f.edgeListener.Addr().String() + "/socket.io/?EIO=4&transport=polling": `0{"sid":`,
		"http://" + f.adminListener.Addr().String() + "/readyz":                            "ok",
		"http://" + f.adminListener.Addr().String() + "/debug/pprof/mutex?debug=1":         "--- mutex",
	} {
		if body := get(t, client, url); !strings.HasPrefix(strings.ToLower(body), want) {
			t.Errorf("%s: %.60q", url, body)
		}
	}
	if n := runtime.SetMutexProfileFraction(-1); n != mutexProfileFraction {
		t.Errorf("one in %d waits for locks is sampled, want %d", n, mutexProfileFraction)
	}
	f.drain()
	if f.engine.Len() != 0 {
		t.Errorf("%d sessions outlive the drain", f.engine.Len())
	}
}

func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestTakenAddressIsTold(t *testing.T) {
	s, err := parse(t, "--edge", "127.0.0.1:0", "--api", "127.0.0.1:0", "--admin", "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	log, _, _ := newLogger(s)
	first := newFoyer(s, false, log)
	if err := first.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := first.listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer first.close()
	taken := *s
	taken.Edge = first.edgeListener.Addr().String()
	err = run(ctx, &taken, false, launch{})
	if err == nil || !strings.Contains(err.Error(), "already in use") || !strings.Contains(err.Error(), taken.Edge) {
		t.Errorf("error: %v", err)
	}
}
