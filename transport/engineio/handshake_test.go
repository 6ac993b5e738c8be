package engineio

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHandshakePolling(t *testing.T) {
	h := serveTCP(t, Config{PingInterval: 25 * time.Second})
	res := h.do("GET", "EIO=4&transport=polling&t=abc&x=1&x=2", nil, "User-Agent", "ua;MSIE", "Cookie", "a=b", "Authorization", "z")
	o := parseOpen(t, res.body)
	want := fmt.Sprintf(`0{"sid":"%s","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`, o.SID)
	if res.status != 200 || res.body != want || len(o.SID) != 32 {
		t.Errorf("%d %q", res.status, res.body)
	}
	for k, v := range map[string]string{"Content-Type": "text/plain; charset=UTF-8", "Cache-Control": "no-store", "Content-Length": fmt.Sprint(len(want)), "X-Xss-Protection": "0"} {
		if got := res.header.Get(k); got != v {
			t.Errorf("%s %q, want %q", k, got, v)
		}
	}
	hs := h.last().session.Handshake()
	if diff := cmp.Diff(hs.Query(), map[string]string{"EIO": "4", "transport": "polling", "t": "abc", "x": "2"}); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(hs.Headers(), map[string]string{"user-agent": "ua;MSIE", "host": strings.TrimPrefix(h.url, "http://")}); diff != "" {
		t.Error(diff)
	}
	if hs.Address() != "127.0.0.1" || !strings.HasPrefix(hs.URL(), "/socket.io/?EIO=4") {
		t.Errorf("%+v", hs)
	}
	s := h.last().session
	if s.Handle() == "" || strings.Contains(s.Handle(), o.SID) || s.Transport() != "polling" || h.srv.Len() != 1 {
		t.Errorf("handle %q, transport %q, len %d", s.Handle(), s.Transport(), h.srv.Len())
	}
}

func TestHandshakeHeadersAll(t *testing.T) {
	h := serveTCP(t, Config{HandshakeHeaders: []string{"*"}})
	h.do("GET", "EIO=4&transport=polling", nil, "X-A", "1", "Cookie", "secret", "Authorization", "secret", "Proxy-Authorization", "secret")
	got := h.last().session.Handshake().Headers()
	if got["x-a"] != "1" {
		t.Error("x-a is missing")
	}
	for k, v := range got {
		if v == "secret" {
			t.Errorf("%s was kept", k)
		}
	}
}

func TestHandshakeWebSocket(t *testing.T) {
	h := serveTCP(t, Config{PingInterval: 25 * time.Second})
	p := h.dial("EIO=4&transport=websocket")
	got := p.read()
	o := parseOpen(t, got)
	if want := fmt.Sprintf(`0{"sid":"%s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`, o.SID); got != want {
		t.Errorf("%q", got)
	}
	raw := h.rawRequest(upgradeRequest("EIO=4&transport=websocket", "Sec-WebSocket-Protocol: one, two\r\nSec-WebSocket-Extensions: permessage-deflate\r\n") + "\x88\x80abcd")
	if !strings.HasPrefix(raw, "HTTP/1.1 101") && raw != "" { // data before the 101 may be refused
		t.Errorf("%q", raw)
	}
	h.dialer.Subprotocols = []string{"one", "two"}
	h.dialer.EnableCompression = true
	c, res, err := h.dialer.Dial("ws"+strings.TrimPrefix(h.url, "http")+"/socket.io/?EIO=4&transport=websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Subprotocol() != "one" || res.Header.Get("Sec-Websocket-Extensions") != "" {
		t.Errorf("%v", res.Header)
	}
}

func TestHandshakeErrors(t *testing.T) {
	h := serveTCP(t, Config{})
	q, _ := h.openPolling()
	sid := q[strings.Index(q, "sid="):]
	texts := []string{"Transport unknown", "Session ID unknown", "Bad handshake method", "Bad request", "Forbidden", "Unsupported protocol version"}
	for _, tt := range []struct {
		name, method, query string
		code                int
	}{
		{"no transport", "GET", "EIO=4", 0},
		{"unknown transport", "GET", "EIO=4&transport=abc", 0},
		{"webtransport", "GET", "EIO=4&transport=webtransport", 0},
		{"unknown transport goes before a bad sid", "GET", "transport=abc&sid=x", 0},
		{"unknown sid", "GET", "EIO=4&transport=polling&sid=abc", 1},
		{"empty sid, bad method", "POST", "EIO=4&transport=polling&sid=", 2},
		{"unknown sid, POST", "POST", "EIO=4&transport=polling&sid=abc", 1},
		{"POST", "POST", "EIO=4&transport=polling", 2},
		{"PUT", "PUT", "EIO=4&transport=polling", 2},
		{"OPTIONS", "OPTIONS", "EIO=4&transport=polling", 2},
		{"websocket without upgrade", "GET", "EIO=4&transport=websocket", 3},
		{"sid with another transport", "GET", "EIO=4&transport=websocket&" + sid, 3},
		{"sid with another version", "GET", "EIO=3&transport=polling&" + sid, 3},
		{"no version", "GET", "transport=polling", 5},
		{"version 3", "GET", "EIO=3&transport=polling", 5},
		{"version 5", "GET", "EIO=5&transport=polling", 5},
		{"version abc", "GET", "EIO=abc&transport=polling", 5},
		{"last version wins", "GET", "EIO=4&EIO=3&transport=polling", 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := h.do(tt.method, tt.query, nil)
			want := fmt.Sprintf(`{"code":%d,"message":"%s"}`, tt.code, texts[tt.code])
			if res.status != 400 || res.body != want || res.header.Get("Content-Type") != "application/json" {
				t.Errorf("%d %s, want %s", res.status, res.body, want)
			}
		})
	}
	for _, tt := range []struct {
		name, query string
		code        int
	}{
		{"no transport", "EIO=4", 0},
		{"unknown sid", "EIO=4&transport=websocket&sid=abc", 1},
		{"polling", "EIO=4&transport=polling", 3},
		{"polling with sid", "EIO=4&transport=polling&" + sid, 3},
		{"wrong version on upgrade", "EIO=3&transport=websocket&" + sid, 3},
		{"version 3", "EIO=3&transport=websocket", 5},
	} {
		t.Run("upgrade: "+tt.name, func(t *testing.T) {
			m := texts[tt.code]
			want := fmt.Sprintf("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-type: text/html\r\nContent-Length: %d\r\n\r\n%s", len(m), m)
			if got := h.rawRequest(upgradeRequest(tt.query)); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
	for _, m := range []string{"PUT", "DELETE", "HEAD", "OPTIONS"} {
		if res := h.do(m, q, nil); res.status != 500 || res.body != "" {
			t.Errorf("%s: %d %q", m, res.status, res.body)
		}
	}
	if res := h.do("POST", q, strings.NewReader("4a")); res.status != 200 {
		t.Errorf("the session did not survive: %v", res)
	}
	if got := h.srv.Stats()["handshake_bad_version"]; got != 6 {
		t.Errorf("bad versions counted: %d", got)
	}
	res, err := h.client.Get(h.url + "/socket.io?EIO=4&transport=polling")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("outside of the path: %d", res.StatusCode)
	}
}

func TestRefuseAndMaxSessions(t *testing.T) {
	h := serveTCP(t, Config{MaxSessions: 2, MaxSessionsPerAddress: -1})
	h.setup = func(s *Session) { s.Admit() }
	q, _ := h.openPolling()
	h.openWebSocket()
	if res := h.do("GET", "EIO=4&transport=polling", nil); res.status != 503 {
		t.Errorf("over MaxSessions: %v", res)
	}
	h.do("POST", q, strings.NewReader("1"))
	eventually(t, "room again", func() bool { return h.srv.Len() == 1 })
	q, r := h.openPolling()
	h.srv.Refuse()
	if res := h.do("GET", "EIO=4&transport=polling", nil); res.status != 503 {
		t.Errorf("refusing: %v", res)
	}
	if got := h.rawRequest(upgradeRequest("EIO=4&transport=websocket")); !strings.HasPrefix(got, "HTTP/1.1 503 ") {
		t.Errorf("refusing: %q", got)
	}
	if res := h.do("POST", q, strings.NewReader("4a")); res.body != "ok" || len(r.got()) != 1 {
		t.Errorf("a known session: %v", res)
	}
	p := h.probe(q)
	p.write("2probe")
	p.want("3probe")
}

func TestAcceptMayRefuseOrClose(t *testing.T) {
	h := serveTCP(t, Config{})
	h.srv.accept = func(*Session) Receiver { return nil }
	if res := h.do("GET", "EIO=4&transport=polling", nil); res.status != 403 || res.body != `{"code":4,"message":"Forbidden"}` {
		t.Errorf("%v", res)
	}
	h.dial("EIO=4&transport=websocket").wantClose(1005)
	eventually(t, "nothing left", func() bool { return h.srv.Len() == 0 && len(h.srv.snapshot()) == 0 })

	h.srv.accept = h.accept
	h.setup = func(s *Session) { s.Send(NewMessage([]byte("hi"), nil), 0); s.Close(ReasonForcedClose) }
	p := h.dial("EIO=4&transport=websocket")
	parseOpen(t, p.read())
	p.want("4hi")
	p.wantClose(1005)
	eventually(t, "accept returned", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.all) == 1 })
	h.last().wantClosed(t, ReasonForcedClose)
}

func TestOrigins(t *testing.T) {
	type want struct {
		status                   int
		allow, credentials, vary string
	}
	for _, tt := range []struct {
		name    string
		origins []string
		origin  string
		want    want
	}{
		{"none configured, none sent", nil, "", want{200, "", "", ""}},
		{"none configured, same", nil, "http://SELF", want{200, "", "", ""}},
		{"none configured, other", nil, "https://evil.example", want{403, "", "", ""}},
		{"none configured, null", nil, "null", want{403, "", "", ""}},
		{"listed", []string{"https://a.example", "https://b.example"}, "https://b.example", want{200, "https://b.example", "true", "Origin"}},
		{"listed, none sent", []string{"https://a.example"}, "", want{200, "", "", "Origin"}},
		{"not listed", []string{"https://a.example"}, "https://a.example.evil", want{403, "", "", "Origin"}},
		{"any", []string{"*"}, "https://evil.example", want{200, "*", "", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := serveTCP(t, Config{Origins: tt.origins})
			origin := strings.Replace(tt.origin, "SELF", strings.TrimPrefix(h.url, "http://"), 1)
			header := []string{}
			if origin != "" {
				header = []string{"Origin", origin}
			}
			check := func(what string, res response, status int) {
				t.Helper()
				g := want{res.status, res.header.Get("Access-Control-Allow-Origin"), res.header.Get("Access-Control-Allow-Credentials"), res.header.Get("Vary")}
				w := tt.want
				w.status = status
				if diff := cmp.Diff(g, w, cmp.AllowUnexported(want{})); diff != "" {
					t.Errorf("%s: got - want +:\n%s", what, diff)
				}
			}
			res := h.do("GET", "EIO=4&transport=polling", nil, header...)
			check("handshake", res, tt.want.status)
			if tt.want.status == 403 && res.body != `{"code":4,"message":"Forbidden"}` {
				t.Errorf("%s", res.body)
			}
			q, _ := h.openPolling()
			check("known sid", h.do("POST", q, strings.NewReader("4a"), header...), tt.want.status)
			if tt.want.status == 200 {
				check("error", h.do("GET", "EIO=4&transport=x", nil, header...), 400)
			}
			hd := http.Header{}
			if origin != "" {
				hd.Set("Origin", origin)
			}
			c, wres, err := h.dialer.Dial("ws"+strings.TrimPrefix(h.url, "http")+"/socket.io/?EIO=4&transport=websocket", hd)
			if err == nil {
				c.Close()
			}
			status := 101
			if tt.want.status == 403 {
				status = 400
			}
			check("websocket", response{status: wres.StatusCode, header: wres.Header}, status)
			if tt.want.status == 200 && len(tt.origins) > 0 && origin != "" {
				res := h.do("OPTIONS", "EIO=4&transport=polling", nil, "Origin", origin, "Access-Control-Request-Headers", "x-a,x-b")
				if res.status != 204 || res.header.Get("Access-Control-Allow-Headers") != "x-a,x-b" || res.header.Get("Access-Control-Allow-Methods") == "" {
					t.Errorf("preflight %v", res)
				}
			}
		})
	}
}
