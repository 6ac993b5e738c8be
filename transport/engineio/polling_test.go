package engineio

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pending starts a GET and returns when the server holds it.
func (h *harness) pending(q string, r *recorder) <-chan response {
	h.Helper()
	c := make(chan response, 1)
	go func() {
		res, err := h.try("GET", q, nil)
		if err != nil {
			res.body = err.Error()
		}
		c <- res
	}()
	eventually(h, "GET pending", func() bool {
		r.session.mu.Lock()
		defer r.session.mu.Unlock()
		return r.session.poll != nil
	})
	return c
}

func (h *harness) wantBody(c <-chan response, want string) {
	h.Helper()
	select {
	case res := <-c:
		if res.status != 200 || res.body != want {
			h.Errorf("GET ended with %d %q, want %q", res.status, res.body, want)
		}
	case <-time.After(20 * time.Second):
		h.Fatalf("GET still pending, want %q", want)
	}
}

func (h *harness) wantGone(q string) {
	h.Helper()
	if res := h.do("GET", q, nil); res.status != 400 || res.body != `{"code":1,"message":"Session ID unknown"}` {
		h.Errorf("sid still known: %d %q", res.status, res.body)
	}
}

func TestPollingEcho(t *testing.T) {
	h := serveTCP(t, Config{})
	h.onMsg = echo
	q, r := h.openPolling()
	get := h.pending(q, r)
	res := h.do("POST", q, strings.NewReader("4hello\x1ebAQIDBA==\x1e4€"), "Content-Type", "text/plain;charset=UTF-8")
	if res.status != 200 || res.body != "ok" || res.header.Get("Content-Type") != "text/html" || res.header.Get("Content-Length") != "2" {
		t.Errorf("%v", res)
	}
	body := (<-get).body
	for body != "4hello\x1ebAQIDBA==\x1e4€" {
		res := h.do("GET", q, nil)
		if res.status != 200 || res.header.Get("Content-Length") != fmt.Sprint(len(res.body)) {
			t.Fatalf("%v", res)
		}
		body += "\x1e" + res.body
	}
	if diff := cmp.Diff(r.got(), []string{"hello", "b:\x01\x02\x03\x04", "€"}); diff != "" {
		t.Error(diff)
	}
}

func TestPollCarriesAllThatIsQueued(t *testing.T) {
	h := serveTCP(t, Config{})
	q, r := h.openPolling()
	for i := range 3 {
		if got := r.session.Send(NewMessage([]byte(fmt.Sprint(i)), [][]byte{{byte(i)}}), 0); got != Queued {
			t.Errorf("Send: %v", got)
		}
	}
	if got := h.do("GET", q, nil).body; got != "40\x1ebAA==\x1e41\x1ebAQ==\x1e42\x1ebAg==" {
		t.Errorf("%q", got)
	}
}

func TestPollingCloses(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(h *harness, q string, r *recorder)
		want Reason
		body string // of the pending GET
	}{
		{"second GET", func(h *harness, q string, _ *recorder) {
			if res := h.do("GET", q, nil); res.status != 400 || res.body != "" {
				h.Errorf("%v", res)
			}
		}, ReasonTransportError, "1"},
		{"client close", func(h *harness, q string, r *recorder) {
			if res := h.do("POST", q, strings.NewReader("4a\x1e1\x1e4b")); res.body != "ok" {
				h.Errorf("%v", res)
			}
			if diff := cmp.Diff(r.got(), []string{"a"}); diff != "" {
				h.Error(diff)
			}
		}, ReasonTransportClose, "6"},
		{"client ping", func(h *harness, q string, _ *recorder) { h.do("POST", q, strings.NewReader("2")) }, ReasonTransportError, "1"},
		{"parse error", func(h *harness, q string, _ *recorder) { h.do("POST", q, strings.NewReader("4a\x1eabc")) }, ReasonParseError, "1"},
		{"empty body", func(h *harness, q string, _ *recorder) { h.do("POST", q, nil) }, ReasonParseError, "1"},
		{"invalid UTF-8", func(h *harness, q string, _ *recorder) { h.do("POST", q, strings.NewReader("4\xff")) }, ReasonParseError, "1"},
		{"octet-stream", func(h *harness, q string, _ *recorder) {
			if res := h.do("POST", q, strings.NewReader("4a"), "Content-Type", "application/octet-stream"); res.status != 400 || res.body != "" {
				h.Errorf("%v", res)
			}
		}, ReasonTransportError, "1"},
		{"gzip body", func(h *harness, q string, _ *recorder) {
			if res := h.do("POST", q, strings.NewReader("4a"), "Content-Encoding", "gzip"); res.status != 400 {
				h.Errorf("%v", res)
			}
		}, ReasonTransportError, "1"},
		{"server close", func(_ *harness, _ string, r *recorder) { r.session.Close(ReasonForcedClose) }, ReasonForcedClose, "1"},
		{"slow", func(_ *harness, _ string, r *recorder) { r.session.Close(ReasonSlow) }, ReasonSlow, "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := serveTCP(t, Config{})
			q, r := h.openPolling()
			get := h.pending(q, r)
			tt.do(h, q, r)
			h.wantBody(get, tt.body)
			r.wantClosed(t, tt.want)
			h.wantGone(q)
			eventually(t, "forgotten", func() bool { return len(h.srv.snapshot()) == 0 })
			if got := r.session.Send(pingMessage, 0); got != Closed {
				t.Errorf("Send after close: %v", got)
			}
		})
	}
}

func TestPollAborted(t *testing.T) {
	h := serveTCP(t, Config{})
	q, r := h.openPolling()
	c, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET /socket.io/?%s HTTP/1.1\r\nHost: x\r\n\r\n", q)
	eventually(t, "GET pending", func() bool { r.session.mu.Lock(); defer r.session.mu.Unlock(); return r.session.poll != nil })
	c.Close()
	r.wantClosed(t, ReasonTransportError)
}

func TestPostOverlapAndLoss(t *testing.T) {
	h := serveTCP(t, Config{})
	for _, overlap := range []bool{true, false} {
		q, r := h.openPolling()
		c, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /socket.io/?%s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n4a", q)
		eventually(t, "POST being read", func() bool { r.session.mu.Lock(); defer r.session.mu.Unlock(); return r.session.body != nil })
		if overlap {
			if res := h.do("POST", q, strings.NewReader("4b")); res.status != 400 || res.body != "" {
				t.Errorf("%v", res)
			}
			if b, err := io.ReadAll(c); err == nil && !strings.HasPrefix(string(b), "HTTP/1.1 400 ") { // and the connection ends
				t.Errorf("first POST: %q", b)
			}
		} else {
			c.Close()
		}
		r.wantClosed(t, ReasonTransportError)
		if len(r.got()) != 0 {
			t.Errorf("delivered %q", r.got())
		}
	}
}

// unsized hides the length, so that the client sends chunks.
type unsized struct{ io.Reader }

func TestPostTooLarge(t *testing.T) {
	h := serveTCP(t, Config{MaxPayload: 30_000})
	q, r := h.openPolling()
	body := func(n int) string { return "4" + strings.Repeat("x", n-1) }
	for _, chunked := range []bool{false, true} {
		post := func(n int) response {
			var b io.Reader = strings.NewReader(body(n))
			if chunked {
				b = unsized{b}
			}
			return h.do("POST", q, b)
		}
		r.session.admitted.Store(false)
		if res := post(16<<10 + 1); res.status != 413 || res.body != "" {
			t.Errorf("chunked %v, before Admit: %d %q", chunked, res.status, res.body)
		}
		if res := post(16 << 10); res.status != 200 {
			t.Errorf("chunked %v, at the limit: %d", chunked, res.status)
		}
		r.session.Admit()
		if res := post(30_001); res.status != 413 || res.body != "" {
			t.Errorf("chunked %v: %d %q", chunked, res.status, res.body)
		}
		if res := post(30_000); res.status != 200 {
			t.Errorf("chunked %v, at the limit: %d", chunked, res.status)
		}
	}
	if n := len(r.got()); n != 4 {
		t.Errorf("%d messages, want 4", n)
	}
	if n := h.srv.Stats()["oversize"]; n != 4 {
		t.Errorf("%d counted, want 4", n)
	}
}

func TestDeferredClose(t *testing.T) {
	h := serveTCP(t, Config{})
	q, r := h.openPolling()
	r.session.Send(NewMessage([]byte("last"), nil), 0)
	r.session.Close(ReasonForcedClose)
	if got := r.session.Send(pingMessage, 0); got != Closed {
		t.Errorf("Send: %v", got)
	}
	if res := h.do("POST", q, strings.NewReader("4dropped")); res.body != "ok" {
		t.Errorf("%v", res)
	}
	for _, want := range []string{"4last", "6\x1e1"} {
		if got := h.do("GET", q, nil).body; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	r.wantClosed(t, ReasonForcedClose)
	h.wantGone(q)
	if len(r.got()) != 0 {
		t.Errorf("%q", r.got())
	}
}

func TestVolatileOnPolling(t *testing.T) {
	h := serveTCP(t, Config{})
	q, r := h.openPolling()
	m := NewMessage([]byte("v"), nil)
	if got := r.session.Send(m, Volatile); got != DroppedVolatile {
		t.Errorf("no GET: %v", got)
	}
	get := h.pending(q, r)
	if got := r.session.Send(m, Volatile); got != QueuedFlush {
		t.Errorf("GET pending: %v", got)
	}
	if got := r.session.Send(m, Volatile); got != DroppedVolatile {
		t.Errorf("queue holds something: %v", got)
	}
	r.session.Flush()
	h.wantBody(get, "4v")
}

func TestPollGzip(t *testing.T) {
	h := serveTCP(t, Config{Compression: true})
	q, r := h.openPolling()
	long := NewMessage(bytes.Repeat([]byte("x"), 2000), nil)
	for _, tt := range []struct {
		flags  Flags
		accept string
		m      *Message
		want   string
	}{{0, "gzip", long, "gzip"}, {NoCompress, "gzip", long, ""}, {0, "br", long, ""}, {0, "gzip", NewMessage([]byte("short"), nil), ""}} {
		r.session.Send(tt.m, tt.flags)
		res := h.do("GET", q, nil, "Accept-Encoding", tt.accept)
		if got := res.header.Get("Content-Encoding"); got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
		if tt.want == "gzip" {
			z, err := gzip.NewReader(strings.NewReader(res.body))
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(z)
			res.body = string(b)
		}
		if res.body != string(tt.m.payload()) {
			t.Errorf("%+v: body of %d bytes", tt, len(res.body))
		}
	}
}

func TestQueueBytesBeforeAdmit(t *testing.T) {
	h := serveTCP(t, Config{})
	_, r := h.openPolling()
	m := NewBinary(make([]byte, 20<<10))
	if got := r.session.Send(m, 0); got != Queued {
		t.Errorf("%v", got)
	}
	if got := r.session.Send(m, Owed); got != Closed {
		t.Errorf("%v", got)
	}
	r.wantClosed(t, ReasonSlow)
	_, r = h.openPolling()
	r.session.Admit()
	for range 40 {
		if got := r.session.Send(m, 0); got != Queued {
			t.Errorf("%v", got)
		}
	}
}
