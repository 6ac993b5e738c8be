package engineio

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// dialRaw connects to the server of a bubble.
func (h *harness) dialRaw() net.Conn {
	h.Helper()
	c, err := h.client.Transport.(*http.Transport).DialContext(h.Context(), "", "")
	if err != nil {
		h.Fatal(err)
	}
	return c
}

// Every request whose body does not come, or drips, is answered: at once where nobody wants the body, and after
// bodyTimeout in whole where somebody does; the connection goes with it.
func TestBodiesThatDoNotCome(t *testing.T) {
	framings := map[string]string{
		"length":      "Content-Length: 100\r\n\r\n4a",
		"no byte":     "Content-Length: 100\r\n\r\n",
		"chunked":     "Transfer-Encoding: chunked\r\n\r\n64\r\n4a",
		"no chunk":    "Transfer-Encoding: chunked\r\n\r\n",
		"expectation": "Content-Length: 100\r\nExpect: 100-continue\r\n\r\n",
		"large":       "Content-Length: 15000\r\n\r\n4a",
	}
	for _, tt := range []struct {
		name    string
		request func(h *harness, q string) string // its first line
		status  int
		after   time.Duration
	}{
		{"another path", func(*harness, string) string { return "POST /elsewhere" }, 404, 0},
		{"origin", func(*harness, string) string {
			return "POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nOrigin: http://evil.example"
		}, 403, 0},
		{"transport", func(*harness, string) string { return "POST /socket.io/?EIO=4" }, 400, 0},
		{"handshake", func(*harness, string) string { return "POST /socket.io/?EIO=4&transport=polling" }, 400, 0},
		{"handshake with a body", func(*harness, string) string { return "GET /socket.io/?EIO=4&transport=polling" }, 200, 0},
		{"unknown sid", func(*harness, string) string { return "POST /socket.io/?EIO=4&transport=polling&sid=x" }, 400, 0},
		{"version", func(_ *harness, q string) string {
			return "POST /socket.io/?" + strings.Replace(q, "EIO=4", "EIO=3", 1)
		}, 400, 0},
		{"method", func(_ *harness, q string) string { return "PUT /socket.io/?" + q }, 500, 0},
		{"encoding", func(_ *harness, q string) string {
			return "POST /socket.io/?" + q + " HTTP/1.1\r\nContent-Encoding: gzip"
		}, 400, 0},
		{"octets", func(_ *harness, q string) string {
			return "POST /socket.io/?" + q + " HTTP/1.1\r\nContent-Type: application/octet-stream"
		}, 400, 0},
		{"POST", func(_ *harness, q string) string { return "POST /socket.io/?" + q }, 400, bodyTimeout},
	} {
		for framing, rest := range framings {
			t.Run(tt.name+", "+framing, func(t *testing.T) {
				inBubble(t, Config{}, func(h *harness) {
					q, _ := h.openPolling()
					line := tt.request(h, q)
					if !strings.Contains(line, " HTTP/1.1") {
						line += " HTTP/1.1"
					}
					c := h.dialRaw()
					defer c.Close()
					start := time.Now()
					go func() {
						_, _ = fmt.Fprintf(c, "%s\r\nHost: pipe\r\n%s", line, rest)
						for { // a drip
							time.Sleep(time.Second)
							if _, err := c.Write([]byte("x")); err != nil {
								return
							}
						}
					}()
					br := bufio.NewReader(c)
					res, err := http.ReadResponse(br, nil)
					if err == nil && res.StatusCode == http.StatusContinue {
						res, err = http.ReadResponse(br, nil)
					}
					if err != nil {
						t.Fatal(err)
					}
					if took := time.Since(start); res.StatusCode != tt.status || took != tt.after {
						t.Errorf("%d after %v", res.StatusCode, took)
					}
					_, _ = io.Copy(io.Discard, br) // to the connection's end
					if took := time.Since(start); took > tt.after+2*time.Second {
						t.Errorf("the connection ends after %v", took)
					}
					_ = c.Close()
					time.Sleep(2 * time.Second) // the drip ends
				})
			})
		}
	}
}

// A body over the limit is refused at once, whatever part of it is still to come.
func TestOversizeBodiesThatDoNotCome(t *testing.T) {
	for _, rest := range []string{
		"Content-Length: 20000\r\n\r\n4a", "Content-Length: 900000\r\n\r\n4a",
		"Transfer-Encoding: chunked\r\n\r\n7000\r\n" + strings.Repeat("x", 17<<10),
	} {
		inBubble(t, Config{}, func(h *harness) {
			q, r := h.openPolling()
			c := h.dialRaw()
			defer c.Close()
			start := time.Now()
			go func() { _, _ = fmt.Fprintf(c, "POST /socket.io/?%s HTTP/1.1\r\nHost: pipe\r\n%s", q, rest) }()
			br := bufio.NewReader(c)
			res, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); res.StatusCode != http.StatusRequestEntityTooLarge || took != 0 {
				t.Errorf("%d after %v", res.StatusCode, took)
			}
			_, _ = io.Copy(io.Discard, br)
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("the connection ends after %v", took)
			}
			if r.session.isClosed() {
				t.Error("the session is closed")
			}
		})
	}
}

// A refused request whose body is there leaves its connection to the next one.
func TestRefusedRequestKeepsItsConnection(t *testing.T) {
	inBubble(t, Config{}, func(h *harness) {
		c := h.dialRaw()
		defer c.Close()
		br := bufio.NewReader(c)
		for range 3 {
			go func() {
				_, _ = io.WriteString(c, "POST /socket.io/?EIO=4&transport=polling&sid=x HTTP/1.1\r\nHost: pipe\r\nContent-Length: 2\r\n\r\n4a")
			}()
			res, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			if res.StatusCode != http.StatusBadRequest || res.Close {
				t.Errorf("%d, close %v", res.StatusCode, res.Close)
			}
			synctest.Wait()
		}
	})
}
