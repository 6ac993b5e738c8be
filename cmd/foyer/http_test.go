package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// callHTTP makes a call over HTTP with a token, and returns the status and the answer, of a stream its first line.
func callHTTP(t *testing.T, client *http.Client, url, token, body string) (int, string, *bufio.Reader) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	r := bufio.NewReader(resp.Body)
	line, _ := r.ReadString('\n')
	return resp.StatusCode, line, r
}

// TestHTTPHasTheTokensOfTheAPI: over TLS, with the tokens of the file, also when they change; and a drain ends its
// streams as those of gRPC.
func TestHTTPHasTheTokensOfTheAPI(t *testing.T) {
	cert, key := selfSigned(t)
	file := filepath.Join(t.TempDir(), "tokens")
	put(t, file, "first\nsecond\n")
	f := startNode(t, nil, "--http", "127.0.0.1:0", "--http-cert", cert, "--http-key", key, "--api-token-file", file,
		"--api-cert", cert, "--api-key", key)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}} //nolint:gosec // of this test
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	url := "https://" + f.http.listener.Addr().String() + "/foyer.v1."
	for _, token := range []string{"", "third"} {
		if status, answer, _ := callHTTP(t, client, url+"NodeService/GetInfo", token, ""); status != http.StatusUnauthorized || !strings.Contains(answer, `"UNAUTHENTICATED"`) {
			t.Errorf("token %q: %d %s", token, status, answer)
		}
	}
	if n := f.api.Dropped(f.info().Dropped)["api_call_unauthenticated"]; n != 2 {
		t.Errorf("%d calls without a token were counted, want 2", n)
	}
	status, answer, _ := callHTTP(t, client, url+"NodeService/GetInfo", "first", "")
	if status != http.StatusOK || !strings.Contains(answer, `"api_call_unauthenticated":"2"`) {
		t.Errorf("%d %s", status, answer)
	}
	counts := f.api.Dropped(f.info().Dropped)
	for _, name := range []string{"http_origin_refused", "http_request_bytes", "http_request_late", "http_connection_refused", "http_tls_failed"} {
		if _, ok := counts[name]; !ok {
			t.Errorf("%s is not counted", name)
		}
	}

	_, line, first := callHTTP(t, client, url+"PresenceService/Watch", "first", `{"all":true}`)
	_, other, second := callHTTP(t, client, url+"PresenceService/Watch", "second", `{"all":true}`)
	if !strings.Contains(line, `"synced"`) || !strings.Contains(other, `"synced"`) {
		t.Fatalf("watches begin with %q and %q", line, other)
	}
	put(t, file, "second\n")
	for _, r := range f.reloadable {
		if _, err := r.load(); err != nil {
			t.Fatal(err)
		}
	}
	if line, err := first.ReadString('\n'); err != nil || !strings.HasPrefix(line, `{"error":{"code":"unauthenticated"`) {
		t.Errorf("the stream of a token that was removed goes on with %q, %v", line, err)
	}
	f.drain()
	var last string
	for {
		line, err := second.ReadString('\n')
		if err != nil {
			break
		}
		last = line
	}
	if !strings.HasPrefix(last, `{"error":{"code":"unavailable"`) || !strings.Contains(last, `"DRAINING"`) {
		t.Errorf("the last word of a watch in a drain is %q", last)
	}
	if n := f.api.Cut(); n != 0 {
		t.Errorf("the drain has cut %d calls", n)
	}
}

// TestHTTPCallersHaveTheirAddress: in the log, and as callers whose request ids are their own where there are no
// tokens. A proxy tells its clients'.
func TestHTTPCallersHaveTheirAddress(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	f := startNode(t, func(f *foyer) { f.told = zap.New(core) }, "--http", "127.0.0.1:0", "--trusted-proxy", "127.0.0.2/32")
	call := func(from, forwarded, method, body string) string {
		t.Helper()
		raw := dialFrom(t, from, f.http.listener, fmt.Sprintf("POST /foyer.v1.%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+
			"X-Forwarded-For: %s\r\nFoyer-Client-Address: 10.9.9.9\r\nContent-Length: %d\r\n\r\n%s", method, forwarded, len(body), body))
		answer, err := io.ReadAll(raw)
		if err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
	for _, tc := range []struct {
		from, forwarded string
		repeat          bool
	}{
		{"127.0.0.1", "10.0.0.1", false},
		{"127.0.0.1", "10.0.0.2", true}, // of whom nobody believes it
		{"127.0.0.2", "10.0.0.1", false},
		{"127.0.0.2", "10.0.0.2", false},
		{"127.0.0.2", "10.0.0.1", true},
		{"127.0.0.3", "10.0.0.1", false},
	} {
		answer := call(tc.from, tc.forwarded, "EmitService/Emit", `{"target":{"all":true},"payload":{"event":"hi"},"requestId":"1"}`)
		if !strings.HasPrefix(answer, "HTTP/1.1 200") || strings.Contains(answer, `"deduplicated":true`) != tc.repeat {
			t.Errorf("from %s for %s, want a repeat %v: %s", tc.from, tc.forwarded, tc.repeat, answer)
		}
	}
	call("127.0.0.3", "", "PresenceService/Watch", "{}")
	call("127.0.0.2", "10.0.0.7", "PresenceService/Watch", "{}")
	var told []any
	for _, line := range logs.FilterMessage("stream refused").All() {
		told = append(told, line.ContextMap()["address"])
	}
	if !slices.Equal(told, []any{"127.0.0.3", "10.0.0.7"}) {
		t.Errorf("the log names %v", told)
	}
}

// TestHTTPFlags: it is off by default, and needs tokens where others reach it.
func TestHTTPFlags(t *testing.T) {
	f := startNode(t, nil)
	if f.http.listener != nil || f.http.api != nil {
		t.Error("the API is served over HTTP though nobody asked for it")
	}
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"--http: 0.0.0.0:8080 is not a loopback address":        {"--http", "0.0.0.0:8080"},
		"--http: \"8080\" is no address":                        {"--http", "8080"},
		"--http-cert and --http-key go together":                {"--http", "127.0.0.1:8080", "--http-key", "x"},
		"there is no --http address":                            {"--http-origin", "https://a.example"},
		"--http-origin: origin \"*\"":                           {"--http", "127.0.0.1:8080", "--http-origin", "*"},
		"--http-origin: origin \"https://a.example/x\"":         {"--http", "127.0.0.1:8080", "--http-origin", "https://a.example/x"},
		"--http-origin: origin \"null\" is not of the form sch": {"--http", "127.0.0.1:8080", "--http-origin", "null"},
	} {
		if _, err := parse(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
	if _, err := parse(t, "--http", "0.0.0.0:8080", "--api-token-file", tokens); err != nil {
		t.Error(err)
	}
}
