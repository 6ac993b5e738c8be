package engineio

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

var withEIO3 = Config{AllowEIO3: true}

func octets(parts ...any) string {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case string:
			b = append(b, p...)
		}
	}
	return string(b)
}

func decodeEIO3All(body []byte, octets bool) (got []gotPacket, failed bool) {
	for r := newEIO3Reader(body, octets); ; {
		p, ok, err := r.next()
		if err != nil {
			return got, true
		}
		if !ok {
			return got, false
		}
		got = append(got, gotPacket{string(p.typ), p.binary, string(p.data)})
	}
}

func TestEIO3Payload(t *testing.T) {
	hello := gotPacket{"4", false, "hello"}
	for _, tt := range []struct {
		name, body string
		octets     bool
		want       []gotPacket
		failed     bool
	}{
		{"one", "6:4hello", false, []gotPacket{hello}, false},
		{"several", "6:4hello1:38:4451-€😀10:b4AQIDBA==2:b4", false, []gotPacket{hello, {"3", false, ""}, {"4", false, "451-€😀"}, {"4", true, "\x01\x02\x03\x04"}, {"4", true, ""}}, false},
		{"probe", "6:2probe", false, []gotPacket{{"2", false, "probe"}}, false},
		{"nothing", "0:", false, nil, false},
		{"nothing in between", "0:1:40:", false, []gotPacket{{"4", false, ""}}, false},
		{"colons", "3:4::1:4", false, []gotPacket{{"4", false, "::"}, {"4", false, ""}}, false},
		{"leading zeros", "006:4hello", false, []gotPacket{hello}, false},
		{"empty body", "", false, nil, true},
		{"no length", ":4", false, nil, true},
		{"no colon", "5", false, nil, true},
		{"version 4", "4hello", false, nil, true},
		{"signed", "+1:4", false, nil, true},
		{"exponent", "1e1:4aaaaaaaaa", false, nil, true},
		{"too short", "7:4hello", false, nil, true},
		{"in bytes, not units", "4:4€", false, nil, true},
		{"half a pair", "2:4😀", false, nil, true},
		{"good, then junk", "6:4hellox", false, []gotPacket{hello}, true},
		{"good, then too short", "6:4hello2:4", false, []gotPacket{hello}, true},
		{"overflow", "99999999999999999999999999:4", false, nil, true},
		{"unknown type", "2:7a", false, nil, true},
		{"binary of another type", "4:b3AA", false, nil, true},
		{"binary without type", "1:b", false, nil, true},
		{"no UTF-8", "2:4\xff", false, nil, true},

		{"octets", octets(0, 1, 2, 255, "4451-€😀", 1, 5, 255, 4, 1, 2, 3, 4, 1, 1, 255, 4, 0, 1, 255, "3"), true, []gotPacket{{"4", false, "451-€😀"}, {"4", true, "\x01\x02\x03\x04"}, {"4", true, ""}, {"3", false, ""}}, false},
		{"octets: base64 in text", octets(0, 4, 255, "b4AQ"), true, []gotPacket{{"4", true, "\x01"}}, false},
		{"octets: empty", "", true, nil, true},
		{"octets: no end", octets(1, 2), true, nil, true},
		{"octets: no digit", octets(1, 255), true, nil, true},
		{"octets: ASCII digit", octets(1, "1", 255, 4), true, nil, true},
		{"octets: kind 2", octets(2, 1, 255, 4), true, nil, true},
		{"octets: too short", octets(1, 3, 255, 4), true, nil, true},
		{"octets: overflow", octets(1, strings.Repeat("\x09", 30), 255, 4), true, nil, true},
		{"octets: empty packet", octets(1, 0, 255), true, nil, true},
		{"octets: empty text packet", octets(0, 0, 255), true, nil, true},
		{"octets: a binary ping", octets(1, 1, 255, 2), true, nil, true},
		{"octets: no UTF-8", octets(0, 2, 255, "4\xff"), true, nil, true},
		{"octets: a text payload", "6:4hello", true, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, failed := decodeEIO3All([]byte(tt.body), tt.octets)
			if diff := cmp.Diff(got, tt.want); diff != "" || failed != tt.failed {
				t.Errorf("failed %v, want %v; packets got - want +:\n%s", failed, tt.failed, diff)
			}
		})
	}
}

// The wanted bytes are those of engine.io-parser 2.2.
func TestEIO3MessageForms(t *testing.T) {
	for _, tt := range []struct {
		name                         string
		m                            *Message
		plain, base64, text, octetsF string
	}{
		{"text", NewMessage([]byte("hello"), nil), "\x81\x064hello", "\x81\x064hello", "6:4hello", octets(0, 6, 255, "4hello")},
		{"empty text", NewMessage(nil, nil), "\x81\x014", "\x81\x014", "1:4", octets(0, 1, 255, "4")},
		{"surrogates", NewMessage([]byte("€😀é"), nil), "\x81\x0a4€😀é", "\x81\x0a4€😀é", "5:4€😀é", octets(0, 1, 0, 255, "4€😀é")},
		{
			"attachments", NewMessage([]byte("451-€😀"), [][]byte{{1, 2, 3, 4}, {}}),
			"\x81\x0c4451-€😀\x82\x05\x04\x01\x02\x03\x04\x82\x01\x04", "\x81\x0c4451-€😀\x81\x0ab4AQIDBA==\x81\x02b4",
			"8:4451-€😀10:b4AQIDBA==2:b4", octets(0, 1, 2, 255, "4451-€😀", 1, 5, 255, 4, 1, 2, 3, 4, 1, 1, 255, 4),
		},
		{"binary", NewBinary(bytes.Repeat([]byte{7}, 124)), "\x82\x7d\x04" + strings.Repeat("\x07", 124), "", "", octets(1, 1, 2, 5, 255, 4, strings.Repeat("\x07", 124))},
		{"16 bit length", NewBinary(bytes.Repeat([]byte{7}, 125)), "\x82\x7e\x00\x7e\x04" + strings.Repeat("\x07", 125), "", "", octets(1, 1, 2, 6, 255, 4, strings.Repeat("\x07", 125))},
		{"control", pongMessage, "\x81\x013", "\x81\x013", "1:3", octets(0, 1, 255, "3")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, f := range []struct {
				name string
				got  []byte
				want string
			}{
				{"plain", tt.m.frames(eio3, false), tt.plain},
				{"base64", tt.m.frames(eio3Base64, true), tt.base64},
				{"text", tt.m.eio3Text(), tt.text},
				{"octets", tt.m.eio3Octets(), tt.octetsF},
			} {
				if f.want != "" && string(f.got) != f.want {
					t.Errorf("%s: got %.80q, want %.80q", f.name, f.got, f.want)
				}
			}
			if a, b := tt.m.eio3Text(), tt.m.eio3Text(); &a[0] != &b[0] {
				t.Error("a form was made twice")
			}
			if a, b := tt.m.frames(eio3, false), tt.m.frames(eio4, false); len(tt.m.attachments) == 0 && &a[0] != &b[0] {
				t.Error("text has a form of its own")
			}
		})
	}
}

// openEIO3 makes a polling session of version 3 and returns the query of its requests.
func (h *harness) openEIO3(more string) (query string, r *recorder) {
	h.Helper()
	query = "EIO=3&transport=polling" + more
	res := h.do("GET", query, nil)
	length, packet, _ := strings.Cut(res.body, ":")
	if res.status != 200 || length != fmt.Sprint(len(packet)) || res.header.Get("Content-Type") != "text/plain; charset=UTF-8" {
		h.Fatalf("handshake: %v", res)
	}
	return query + "&sid=" + parseOpen(h, packet).SID, h.last()
}

func TestEIO3Polling(t *testing.T) {
	const octetStream = "application/octet-stream"
	for _, tt := range []struct {
		name, more, contentType, post string
		gotType, got                  string
	}{
		{"text", "", "text/plain;charset=UTF-8", "6:4hello1:48:4451-€😀", "text/plain; charset=UTF-8", "6:4hello1:48:4451-€😀"},
		{"binary", "", octetStream, octets(0, 6, 255, "4hello", 1, 3, 255, 4, 1, 2), octetStream, octets(0, 6, 255, "4hello", 1, 3, 255, 4, 1, 2)},
		{"binary as base64, answered as binary", "", "text/plain", "6:b4AQI=", octetStream, octets(1, 3, 255, 4, 1, 2)},
		{"base64", "&b64=1", "text/plain", "6:4hello6:b4AQI=", "text/plain; charset=UTF-8", "6:4hello6:b4AQI="},
		{"binary, answered as base64", "&b64=1", octetStream, octets(1, 3, 255, 4, 1, 2), "text/plain; charset=UTF-8", "6:b4AQI="},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := serveTCP(t, withEIO3)
			h.onMsg = func(s *Session, data []byte, binary bool) { // no flush: the next GET has it all
				m := NewMessage(data, nil)
				if binary {
					m = NewBinary(data)
				}
				s.Send(m, 0)
			}
			q, r := h.openEIO3(tt.more)
			if got := r.session.Protocol(); got != 3 {
				t.Errorf("protocol %d", got)
			}
			if res := h.do("POST", q, strings.NewReader(tt.post), "Content-Type", tt.contentType); res.status != 200 || res.body != "ok" {
				t.Fatalf("%v", res)
			}
			res := h.do("GET", q, nil)
			if res.body != tt.got || res.header.Get("Content-Type") != tt.gotType || res.header.Get("Content-Length") != fmt.Sprint(len(res.body)) {
				t.Errorf("got %q, want %q; %v", res.body, tt.got, res.header)
			}
		})
	}
}

func TestEIO3Handshake(t *testing.T) {
	h := serveTCP(t, withEIO3)
	for _, q := range []string{"transport=polling", "EIO=3&transport=polling", "EIO=5&transport=polling", "EIO=abc&transport=polling", "EIO=&transport=polling"} {
		if res := h.do("GET", q, nil); res.status != 200 || h.last().session.Protocol() != 3 {
			t.Errorf("%s: %v", q, res)
		}
	}
	q4, r4 := h.openPolling()
	if r4.session.Protocol() != 4 {
		t.Error("version 4 is not 4")
	}
	q3, _ := h.openEIO3("")
	const bad = `{"code":3,"message":"Bad request"}`
	for _, tt := range []struct{ method, query string }{
		{"GET", strings.Replace(q3, "EIO=3", "EIO=4", 1)},
		{"POST", strings.Replace(q3, "EIO=3", "EIO=4", 1)},
		{"POST", strings.Replace(q4, "EIO=4", "EIO=3", 1)},
		{"POST", strings.Replace(q4, "EIO=4&", "", 1)},
	} {
		if res := h.do(tt.method, tt.query, strings.NewReader("1:4")); res.status != 400 || res.body != bad {
			t.Errorf("%s %s: %v", tt.method, tt.query, res)
		}
	}
	for q, version := range map[string]string{q3: "EIO=4", q4: "EIO=3"} {
		q = strings.NewReplacer("EIO=3", version, "EIO=4", version, "polling", "websocket").Replace(q)
		if got := h.rawRequest(upgradeRequest(q)); !strings.HasSuffix(got, "\r\n\r\nBad request") {
			t.Errorf("upgrade with %s: %q", version, got)
		}
	}
	if res := h.do("POST", strings.Replace(q3, "EIO=3", "EIO=2", 1), strings.NewReader("1:4")); res.body != "ok" { // all that is not 4 is 3
		t.Errorf("%v", res)
	}
}

func TestEIO3PollingCloses(t *testing.T) {
	for _, tt := range []struct {
		name, post, contentType string
		want                    Reason
		body                    string // of the pending GET
	}{
		{"client close", "2:4a1:12:4b", "", ReasonTransportClose, "1:6"},
		{"parse error", "2:4ax", "", ReasonParseError, "1:1"},
		{"empty body", "", "", ReasonParseError, "1:1"},
		{"version 4", "4a\x1e4b", "", ReasonParseError, "1:1"},
		{"invalid UTF-8", "2:4\xff", "", ReasonParseError, "1:1"},
		{"client pong", "1:3", "", ReasonTransportError, "1:1"},
		{"junk for binary", "2:4a", "application/octet-stream", ReasonParseError, "1:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := serveTCP(t, withEIO3)
			q, r := h.openEIO3("")
			get := h.pending(q, r)
			h.do("POST", q, strings.NewReader(tt.post), "Content-Type", tt.contentType)
			h.wantBody(get, tt.body)
			r.wantClosed(t, tt.want)
			h.wantGone(q)
			if n := len(r.got()); n > 1 || n == 1 && r.got()[0] != "a" {
				t.Errorf("messages %q", r.got())
			}
		})
	}
	h := serveTCP(t, withEIO3)
	q, r := h.openEIO3("")
	r.session.Close(ReasonForcedClose)
	if got := h.do("GET", q, nil).body; got != "1:61:1" {
		t.Errorf("the GET after a close: %q", got)
	}
}

func TestEIO3WebSocket(t *testing.T) {
	for _, base64 := range []bool{false, true} {
		t.Run(fmt.Sprintf("base64 %v", base64), func(t *testing.T) {
			h := serveTCP(t, withEIO3)
			h.onMsg = echo
			query, answer := "EIO=3&transport=websocket", "b:\x04\x01\x02"
			if base64 {
				query, answer = query+"&b64=1", "b4AQI="
			}
			p := h.dial(query)
			parseOpen(t, p.read())
			p.write("4hello")
			p.want("4hello")
			p.conn.WriteMessage(websocket.BinaryMessage, []byte{4, 1, 2})
			p.want(answer)
			p.write("b4AQI=")
			p.want(answer)
			p.write("2")
			p.want("3")
			p.write("6") // means nothing
			h.last().session.Send(NewMessage([]byte("51-"), [][]byte{{1, 2}}), 0)
			h.last().session.Flush()
			p.want("451-", answer)
			if diff := cmp.Diff(h.last().got(), []string{"hello", "b:\x01\x02", "b:\x01\x02"}); diff != "" {
				t.Error(diff)
			}
			h.last().session.Close(ReasonForcedClose)
			p.wantClose(1005)
		})
	}
	for name, send := range map[string]func(p *peer){
		"empty binary":        func(p *peer) { p.conn.WriteMessage(websocket.BinaryMessage, nil) },
		"binary of version 4": func(p *peer) { p.conn.WriteMessage(websocket.BinaryMessage, []byte{1, 2, 3, 4}) },
		"base64 of version 4": func(p *peer) { p.write("bAQI=") },
		"empty text":          func(p *peer) { p.write("") },
	} {
		t.Run(name, func(t *testing.T) {
			h := serveTCP(t, withEIO3)
			p := h.dial("EIO=3&transport=websocket")
			parseOpen(t, p.read())
			send(p)
			p.wantClose(1005)
			h.last().wantClosed(t, ReasonParseError)
		})
	}
}

func TestEIO3Deflate(t *testing.T) {
	h := serveTCP(t, Config{AllowEIO3: true, Compression: true})
	h.dialer.EnableCompression = true
	p := h.dial("EIO=3&transport=websocket")
	parseOpen(t, p.read())
	m := NewMessage(bytes.Repeat([]byte("t"), 2000), [][]byte{bytes.Repeat([]byte("b"), 2000), {1}})
	h.last().session.Send(m, 0)
	h.last().session.Flush()
	p.want("4"+strings.Repeat("t", 2000), "b:\x04"+strings.Repeat("b", 2000), "b:\x04\x01")
	if n := len(m.eio3Frames(eio3, true)); n > 200 {
		t.Errorf("%d bytes: not compressed", n)
	}
	q, r := h.openEIO3("")
	r.session.Send(m, 0)
	res := h.do("GET", q, nil, "Accept-Encoding", "gzip")
	if res.header.Get("Content-Encoding") != "gzip" || res.header.Get("Content-Type") != "application/octet-stream" || len(res.body) > 200 {
		t.Errorf("poll: %v, %d bytes", res.header, len(res.body))
	}
}

// The new transport says for itself whether it can take binary.
func TestEIO3Upgrade(t *testing.T) {
	for _, tt := range []struct{ polling, websocket, want string }{
		{"&b64=1", "", "b:\x04\x01"}, {"", "&b64=1", "b4AQ=="}, {"", "", "b:\x04\x01"},
	} {
		t.Run(tt.polling+" to "+tt.websocket, func(t *testing.T) {
			h := serveTCP(t, withEIO3)
			h.onMsg = echo
			q, r := h.openEIO3(tt.polling)
			get := h.pending(q, r)
			p := h.probe(strings.Replace(q, "&b64=1", "", 1) + tt.websocket)
			p.write("2probe")
			p.want("3probe")
			h.wantBody(get, "1:6")
			r.session.Send(NewMessage([]byte("queued"), [][]byte{{1}}), 0)
			p.write("5")
			p.want("4queued", tt.want)
			p.write("2")
			p.want("3")
			p.write("4hello")
			p.want("4hello")
			if res := h.do("GET", q, nil); res.body != `{"code":3,"message":"Bad request"}` {
				t.Errorf("GET after the upgrade: %v", res)
			}
		})
	}
}

func TestEIO3Heartbeat(t *testing.T) {
	inBubble(t, withEIO3, func(h *harness) {
		start := time.Now()
		p := h.dial("EIO=3&transport=websocket")
		parseOpen(t, p.read())
		r := h.last()
		for range 3 {
			time.Sleep(44 * time.Second)
			p.write("2")
			p.want("3") // and no ping
		}
		time.Sleep(40 * time.Second)
		p.write("4a") // no ping
		p.wantClose(1005)
		if got := elapsed(start); got != 3*44_000+45_000 {
			t.Errorf("ping timeout after %d ms", got)
		}
		r.wantClosed(t, ReasonPingTimeout)
	})
}

func TestEIO3PollingHeartbeat(t *testing.T) {
	inBubble(t, withEIO3, func(h *harness) {
		start := time.Now()
		q, r := h.openEIO3("")
		time.Sleep(25 * time.Second)
		h.do("POST", q, strings.NewReader("1:2"))
		if got := h.do("GET", q, nil).body; got != "1:3" {
			t.Errorf("%q", got)
		}
		time.Sleep(10 * time.Second)
		p := h.probe(q) // the upgrade gives the full time anew
		p.write("2probe")
		p.want("3probe")
		p.write("5")
		p.wantClose(1005)
		if got := elapsed(start); got != 80_000 {
			t.Errorf("ping timeout after %d ms", got)
		}
		r.wantClosed(t, ReasonPingTimeout)
	})
}

// Who pings without reading gets no more pongs than the queue of an unknown client takes, and stays.
func TestEIO3PingsWithoutReading(t *testing.T) {
	h := serveTCP(t, withEIO3)
	q, r := h.openEIO3("")
	if res := h.do("POST", q, strings.NewReader(strings.Repeat("1:2", 5000))); res.body != "ok" {
		t.Fatalf("%v", res)
	}
	r.session.mu.Lock()
	queued, pending := len(r.session.queue), r.session.pending
	r.session.mu.Unlock()
	if queued == 0 || pending > preAdmitQueueBytes {
		t.Errorf("%d pongs, %d bytes", queued, pending)
	}
	if n := h.srv.Stats()["pong_dropped"]; n != uint64(5000-queued) {
		t.Errorf("%d dropped, %d queued", n, queued)
	}
	for left := queued; left > 0; left -= pollPackets {
		if got := h.do("GET", q, nil).body; got != strings.Repeat("1:3", min(left, pollPackets)) {
			t.Errorf("%.80q", got)
		}
	}
}

func TestJSONP(t *testing.T) {
	h := serveTCP(t, Config{AllowEIO3: true, Origins: []string{"*"}})
	h.onMsg = func(s *Session, data []byte, binary bool) {
		if binary {
			s.Send(NewBinary(data), 0)
		} else {
			s.Send(NewMessage(data, nil), 0)
		}
	}
	const q = "EIO=3&transport=polling&j=1x2);"
	res := h.do("GET", url.PathEscape(q), nil) // only digits come back
	script, found := strings.CutPrefix(res.body, `___eio[12]("`)
	script, whole := strings.CutSuffix(script, `");`)
	length, packet, _ := strings.Cut(strings.ReplaceAll(script, `\"`, `"`), ":")
	if !found || !whole || length != fmt.Sprint(len(packet)) || res.header.Get("Content-Type") != "text/plain; charset=UTF-8" ||
		res.header.Get("Content-Length") != fmt.Sprint(len(res.body)) {
		t.Fatalf("handshake: %v", res)
	}
	query := "EIO=3&transport=polling&j=12&sid=" + parseOpen(t, packet).SID
	r := h.last()

	// As the client does it: a \n in the payload becomes \ and a line feed, then every line feed becomes \n.
	payload := "16:4\"\n \\n \\\\n \u2028\u2029<😀6:b4AQI="
	form := strings.ReplaceAll(strings.ReplaceAll(payload, `\n`, "\\\n"), "\n", `\n`)
	res = h.do("POST", query, strings.NewReader("x=y&d="+url.QueryEscape(form)), "Content-Type", "application/x-www-form-urlencoded")
	if res.status != 200 || res.body != "ok" || res.header.Get("Content-Type") != "text/html" {
		t.Fatalf("%v", res)
	}
	if diff := cmp.Diff(r.got(), []string{"\"\n \\n \\\\n \u2028\u2029<😀", "b:\x01\x02"}); diff != "" {
		t.Error(diff)
	}
	res = h.do("GET", query, nil)
	want := `___eio[12]("16:4\"\u000a \\n \\\\n \u2028\u2029\u003c😀6:b4AQI=");`
	if res.body != want || res.header.Get("Content-Type") != "text/plain; charset=UTF-8" {
		t.Errorf("got %s\nwant %s, %v", res.body, want, res.header)
	}
	get := h.pending(query, r)
	h.do("POST", query, strings.NewReader("d=1%3A1"))
	h.wantBody(get, `___eio[12]("1:6");`)
	r.wantClosed(t, ReasonTransportClose)
}

func TestJSONPFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		body, contentType string
		want              Reason
	}{
		"no field":      {"x=1:4", "", ReasonParseError},
		"empty":         {"", "", ReasonParseError},
		"empty field":   {"d=", "", ReasonParseError},
		"broken escape": {"d=1:%zz", "", ReasonParseError},
		"no UTF-8":      {"d=2:4%ff", "", ReasonParseError},
		"raw payload":   {"1:4", "", ReasonParseError},
		"octets":        {octets(1, 1, 255, 4), "application/octet-stream", ReasonTransportError},
	} {
		t.Run(name, func(t *testing.T) {
			h := serveTCP(t, Config{AllowEIO3: true, Origins: []string{"*"}})
			res := h.do("GET", "EIO=3&transport=polling&j=0", nil)
			_, sid, _ := strings.Cut(res.body, `sid\":\"`)
			sid, _, _ = strings.Cut(sid, `\`)
			h.do("POST", "EIO=3&transport=polling&j=0&sid="+sid, strings.NewReader(tt.body), "Content-Type", tt.contentType)
			h.last().wantClosed(t, tt.want)
		})
	}
}

// A script comes without an Origin, so the page is known by its Referer alone.
func TestJSONPOrigins(t *testing.T) {
	for _, tt := range []struct {
		name            string
		origins         []string
		origin, referer string
		status          int
	}{
		{"same origin", nil, "", "http://SELF/page?x", 200},
		{"another page", nil, "", "https://evil.example/http://SELF/", 403},
		{"a page that hides", nil, "", "", 403},
		{"junk", nil, "", "http://SELF:x/", 403},
		{"listed", []string{"https://a.example"}, "", "https://A.example/page", 200},
		{"not listed", []string{"https://a.example"}, "", "http://a.example/", 403},
		{"listed, hides", []string{"https://a.example"}, "", "", 403},
		{"an origin after all", []string{"https://a.example"}, "https://a.example", "", 200},
		{"a wrong origin", []string{"https://a.example"}, "https://b.example", "https://a.example/", 403},
		{"any", []string{"*"}, "", "", 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := serveTCP(t, Config{AllowEIO3: true, Origins: tt.origins})
			var header []string
			for k, v := range map[string]string{"Origin": tt.origin, "Referer": tt.referer} {
				if v != "" {
					header = append(header, k, strings.Replace(v, "SELF", strings.TrimPrefix(h.url, "http://"), 1))
				}
			}
			if res := h.do("GET", "EIO=3&transport=polling&j=0", nil, header...); res.status != tt.status {
				t.Errorf("%v", res)
			}
			refused := uint64(0)
			if tt.status == 403 {
				refused = 1
			}
			if got := h.srv.Stats()["origin_refused"]; got != refused {
				t.Errorf("%d counted", got)
			}
			if res := h.do("GET", "EIO=3&transport=polling", nil); res.status != 200 { // not JSONP: as ever
				t.Errorf("%v", res)
			}
			if res := h.do("GET", "EIO=4&transport=polling&j=0", nil); !strings.HasPrefix(res.body, "0{") { // nor in version 4
				t.Errorf("%v", res)
			}
		})
	}
}

func TestEIO3LimitsBeforeAdmit(t *testing.T) {
	h := serveTCP(t, withEIO3)
	q, r := h.openEIO3("")
	body := fmt.Sprintf("%d:4%s", 1+16<<10, strings.Repeat("x", 16<<10))
	if res := h.do("POST", q, strings.NewReader(body), "Content-Type", "text/plain"); res.status != 413 {
		t.Errorf("%v", res)
	}
	r.session.Admit()
	if res := h.do("POST", q, strings.NewReader(body), "Content-Type", "text/plain"); res.body != "ok" || len(r.got()) != 1 {
		t.Errorf("%v", res)
	}
}

func FuzzEIO3Payload(f *testing.F) {
	for _, s := range []string{"6:4hello1:38:4451-€😀10:b4AQIDBA==2:b4", "0:", "", "1:1", "2:4😀", "99999999999999999999:", octets(0, 1, 2, 255, "4451-€😀", 1, 5, 255, 4, 1, 2, 3, 4)} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, asOctets bool) {
		packets, failed := decodeEIO3All(bytes.Clone(body), asOctets)
		n := 0
		for _, p := range packets {
			n += len(p.Data)
		}
		if n > len(body) {
			t.Fatalf("%d bytes of %d", n, len(body))
		}
		if failed {
			return
		}
		if !asOctets && !utf8.Valid(body) {
			t.Fatal("accepted what is no UTF-8")
		}
		var text, bin []byte // encoding what was decoded decodes to the same, in both encodings
		for _, p := range packets {
			m := newControl(p.Type + p.Data)
			switch {
			case p.Binary:
				m = NewBinary([]byte(p.Data))
			case p.Type == "4":
				m = NewMessage([]byte(p.Data), nil)
			}
			text, bin = append(text, m.eio3Text()...), append(bin, m.eio3Octets()...)
		}
		if len(packets) == 0 {
			return
		}
		for _, again := range []struct {
			body   []byte
			octets bool
		}{{text, false}, {bin, true}} {
			got, failed := decodeEIO3All(again.body, again.octets)
			if diff := cmp.Diff(got, packets); failed || diff != "" {
				t.Fatalf("round trip by %q: failed %v\n%s", again.body, failed, diff)
			}
		}
	})
}

func FuzzUTF16(f *testing.F) {
	f.Add("a€😀é", 3)
	f.Fuzz(func(t *testing.T, text string, n int) {
		if !utf8.ValidString(text) {
			_, _ = utf16Index([]byte(text), n)
			return
		}
		units := utf16.Encode([]rune(text))
		if got := utf16Len([]byte(text)); got != len(units) {
			t.Fatalf("%d units, want %d", got, len(units))
		}
		if n < 0 {
			return
		}
		i, ok := utf16Index([]byte(text), n)
		if want := n <= len(units); ok && (!want || utf16Len([]byte(text[:i])) != n) {
			t.Fatalf("index %d, %v", i, ok)
		} else if !ok && want && !utf16.IsSurrogate(rune(units[min(n, len(units)-1)])) {
			t.Fatal("refused")
		}
	})
}

func FuzzJSONP(f *testing.F) {
	f.Add("1", "19:4\"\\\n \\n \\\\n \u2028\u2029<😀")
	f.Add("x", `\\\n\\\\n\`)
	f.Fuzz(func(t *testing.T, j, payload string) {
		if strings.Contains(payload, "\r") || !utf8.ValidString(payload) {
			return
		}
		form := strings.ReplaceAll(strings.ReplaceAll(payload, `\n`, "\\\n"), "\n", `\n`)
		if got := string(formData([]byte("d=" + url.QueryEscape(form)))); got != payload && !strings.Contains(payload, "\\\n") {
			t.Fatalf("form: got %q, want %q", got, payload)
		}
		_ = formData([]byte(payload))
		head, inside, _ := strings.Cut(scriptOf(j, payload), `("`)
		if strings.Trim(head, "0123456789") != "___eio["+"]" && strings.Trim(head[len("___eio["):len(head)-1], "0123456789") != "" {
			t.Fatalf("head %q", head)
		}
		inside = strings.TrimSuffix(inside, `");`)
		if strings.ContainsAny(inside, "<\n\r\u2028\u2029") {
			t.Fatalf("raw in %q", inside)
		}
		if unquoted := unquoteScript(t, inside); unquoted != payload {
			t.Fatalf("script: got %q, want %q", unquoted, payload)
		}
	})
}

// unquoteScript reads the inside of a JavaScript string that is also one of JSON.
func unquoteScript(t testing.TB, inside string) string {
	t.Helper()
	var s string
	if err := json.Unmarshal([]byte(`"`+inside+`"`), &s); err != nil {
		t.Fatalf("%q: %v", inside, err)
	}
	return s
}
