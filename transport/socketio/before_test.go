package socketio

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"foyer/service"
	"foyer/transport/engineio"
)

// stranger is a client in no namespace that makes the server hold as much as it can.
type stranger struct {
	t    *testing.T
	addr string
	path string
	head string // of every request
	conn net.Conn
}

// newStranger opens a session. Its headers are as long as a node reads them, in a header and a path that are kept.
func newStranger(t *testing.T, addr string, i int, websocket bool) *stranger {
	t.Helper()
	c := &stranger{t: t, addr: addr}
	c.head = fmt.Sprintf("Host: %s\r\nUser-Agent: %d%s\r\n", addr, i, strings.Repeat("u", 7<<10))
	c.path = fmt.Sprintf("/socket.io/?EIO=4&i=%d%s&transport=", i, strings.Repeat("q", 7<<10))
	if websocket {
		var err error
		if c.conn, err = net.Dial("tcp", addr); err != nil {
			t.Fatal(err)
		}
		conn := c.conn
		t.Cleanup(func() { _ = conn.Close() })
		c.write("GET " + c.path + "websocket HTTP/1.1\r\n" + c.head +
			"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
		r := bufio.NewReader(c.conn)
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatal(res, err)
		}
		return c
	}
	_, sid, ok := strings.Cut(c.request("GET", ""), `"sid":"`)
	if !ok {
		t.Fatal("no sid")
	}
	sid, _, _ = strings.Cut(sid, `"`)
	c.path = "/socket.io/?EIO=4&sid=" + sid + "&transport="
	return c
}

func (c *stranger) write(s string) {
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Log(err) // it may have been closed
	}
}

// request is one of a connection of its own, so that nothing of it stays.
func (c *stranger) request(method, body string) string {
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	head := c.head
	if method == http.MethodPost {
		head = "Host: x\r\n"
	}
	_, _ = fmt.Fprintf(conn, "%s %spolling HTTP/1.1\r\n%sConnection: close\r\nContent-Length: %d\r\n\r\n%s", method, c.path, head, len(body), body)
	got, _ := io.ReadAll(conn)
	return string(got)
}

// post leaves a POST open, as its answer waits for what is in it.
func (c *stranger) post(body string) {
	var err error
	if c.conn, err = net.Dial("tcp", c.addr); err != nil {
		c.t.Fatal(err)
	}
	conn := c.conn
	c.t.Cleanup(func() { _ = conn.Close() })
	c.write(fmt.Sprintf("POST %spolling HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", c.path, len(body), body))
}

// say sends a message: by a POST which waits for its answer, or one frame.
func (c *stranger) say(text string, binary bool) {
	switch {
	case c.conn != nil:
		c.write(maskedFrame(text, binary, len(text)))
	case binary:
		c.request(http.MethodPost, "b"+base64.StdEncoding.EncodeToString([]byte(text)))
	default:
		c.request(http.MethodPost, "4"+text)
	}
}

// maskedFrame is a client's frame of a message of n bytes, of which it has the first: masked with zeros.
func maskedFrame(text string, isBinary bool, n int) string {
	op := byte(0x82)
	if !isBinary {
		op, text, n = 0x81, "4"+text, n+1
	}
	head := []byte{op, 0x80 | 126}
	head = binary.BigEndian.AppendUint16(head, uint16(n))
	return string(head) + "\x00\x00\x00\x00" + text
}

// TestHeldBeforeConnect: whatever a client does before it is in a namespace, the sum of what the server holds for it
// stays under 64 KiB: its handshake, a message in hand, connects that nobody decides, and answers that it does not
// take.
func TestHeldBeforeConnect(t *testing.T) {
	const links = 12
	const most = 64 << 10
	const request = 24 << 10 // of net/http, while a request is open: its buffers and goroutines
	auth := func(n int) string { return `{"a":"` + strings.Repeat("a", n) + `"}` }
	connects := func(c *stranger, n, auths int) {
		for i := range n {
			c.say(fmt.Sprintf("0/%d%s,%s", i, strings.Repeat("n", 250), auth(auths)), false)
		}
	}
	type try struct {
		name      string
		websocket bool
		run       func(c *stranger)
	}
	tries := []try{
		{"many connects", true, func(c *stranger) { connects(c, 64, 10) }},
		{"many connects with auth", true, func(c *stranger) { connects(c, 64, 3000) }},
		{"small ones, then the largest", true, func(c *stranger) { connects(c, 2, 10); connects(c, 4, 16_000) }},
		{"the largest, and the beginning of another", true, func(c *stranger) {
			connects(c, 1, 16_000)
			c.write(maskedFrame(strings.Repeat("x", 15_000), false, 16_000))
		}},
		{"few connects, and the beginning of a message", true, func(c *stranger) {
			connects(c, 3, 300)
			c.write(maskedFrame(strings.Repeat("x", 15_999), false, 16_000))
		}},
	}
	for _, n := range []int{25, 60} {
		tries = append(tries, try{fmt.Sprintf("%d refusals of msgpack that nobody takes", n), false, func(c *stranger) {
			for range n {
				c.say("\x82\xa4type\x00\xa3nsp\xa0", true)
			}
			auth := strings.Repeat("a", 10_000)
			c.post("b" + base64.StdEncoding.EncodeToString([]byte("\x83\xa4type\x00\xa3nsp\xa2/n\xa4data\x81\xa1a\xda\x27\x10"+auth)))
		}}, try{fmt.Sprintf("%d refusals that nobody takes", n), false, func(c *stranger) {
			for range n {
				c.say("0/"+strings.Repeat("n", 255), false)
			}
			c.post("40/n," + auth(16_000))
		}})
	}
	for _, handler := range []bool{true, false} {
		for _, tr := range tries {
			if !tr.websocket && !handler {
				continue // as with one
			}
			t.Run(fmt.Sprintf("%s, handler %v", tr.name, handler), func(t *testing.T) {
				names := []service.NamespaceConfig{{Pattern: "/*", Connect: service.ConnectHandler}}
				node, err := service.New(service.Config{Namespaces: names})
				if err != nil {
					t.Fatal(err)
				}
				defer node.Close()
				if handler { // that does not even look
					h, _, err := node.Attach(t.Context(), service.Registration{Namespaces: []string{"/*"}, DecideConnects: true})
					if err != nil {
						t.Fatal(err)
					}
					defer h.Detach()
				}
				srv, err := New(Config{}, node)
				if err != nil {
					t.Fatal(err)
				}
				sessions, err := engineio.New(engineio.Config{}, srv.Accept)
				if err != nil {
					t.Fatal(err)
				}
				web := httptest.NewUnstartedServer(sessions)
				web.Config.MaxHeaderBytes = 12 << 10
				web.Start()
				defer web.Close()
				defer sessions.Close()
				addr := web.Listener.Addr().String()

				tr.run(newStranger(t, addr, -1, tr.websocket)) // what is made once
				before := held()
				for i := range links {
					tr.run(newStranger(t, addr, i, tr.websocket))
				}
				got := (held() - before) / links
				t.Logf("%d bytes for a client; %d sessions of %d are there", got, sessions.Len(), links+1)
				if got > most && (tr.websocket || got > most+request) {
					t.Error("that is more than a client in no namespace may hold")
				}
			})
		}
	}
}

// held is what is in use when all that was sent has been taken, or nothing more is freed: of the heap, and the stacks.
func held() int {
	const stack = 8 << 10
	last := 0
	for same := 0; same < 3; {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		now := int(m.HeapAlloc) + stack*runtime.NumGoroutine()
		if same++; now < last-1024 || now > last+1024 {
			same = 0
		}
		last = now
	}
	return last
}
