package socketio

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"foyer/service"
	"foyer/transport/engineio"
)

var rewrite = flag.Bool("rewrite", false, "write what happens into testdata/transcripts")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestTranscripts plays testdata/transcripts; play tells what the lines mean.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			synctest.Test(t, func(t *testing.T) { got = play(t, string(want)) })
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(got, string(want)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAfterConnect sends each line of the reference, "Server-side validation", to a link that has joined "/" alone.
func TestAfterConnect(t *testing.T) {
	const (
		closed   = "closed"
		taken    = "taken"   // one packet reaches the socket
		ignored  = "ignored" // nothing happens
		hold0    = `{"_placeholder":true,"num":0}`
		tooLarge = 1000
	)
	big := strings.Repeat("x", tooLarge)
	for _, tc := range []struct {
		sent []string // of a binary: b and its bytes
		want string
		f    fault
	}{
		{[]string{`7`}, closed, faultType},
		{[]string{`8["x"]`}, closed, faultType},
		{[]string{`abc`}, closed, faultType},
		{[]string{``}, closed, faultType},
		{[]string{`2[]`}, closed, faultEventName},
		{[]string{`2[null]`}, closed, faultEventName},
		{[]string{`2[{}]`}, closed, faultEventName},
		{[]string{`2{"a":1}`}, closed, faultPayload},
		{[]string{`2"s"`}, closed, faultPayload},
		{[]string{`2["a"`}, closed, faultPayload},
		{[]string{`2["a"]junk`}, closed, faultPayload},
		{[]string{"2[\"a\x01\"]"}, closed, faultPayload},
		{[]string{`2["connect"]`}, closed, faultEventName},
		{[]string{`2["error","x"]`}, taken, 0},
		{[]string{`2["connection"]`}, taken, 0},
		{[]string{`2[1,2]`}, taken, 0},
		{[]string{`2`}, ignored, faultNameless},
		{[]string{`21`}, ignored, faultNameless},
		{[]string{`2-1["x"]`}, closed, faultPayload},
		{[]string{`21.5["x"]`}, closed, faultPayload},
		{[]string{`2abc["x"]`}, closed, faultPayload},
		{[]string{`3{}`}, closed, faultPayload},
		{[]string{`3`}, ignored, 0},
		{[]string{`3[]`}, ignored, 0},
		{[]string{`31`}, taken, 0},
		{[]string{`399["x"]`}, taken, 0}, // the service knows that the id is unknown
		{[]string{`1{}`}, closed, faultPayload},
		{[]string{`0"s"`}, closed, faultPayload},
		{[]string{`0[]`}, closed, faultPayload},
		{[]string{`0null`}, closed, faultPayload},
		{[]string{`0`}, ignored, faultConnectAgain},
		{[]string{`4{"message":"x"}`}, closed, faultDirection},
		{[]string{`2/admin,["x"]`}, closed, faultNotConnected},
		{[]string{`3/admin,1["x"]`}, closed, faultNotConnected},
		{[]string{`1/admin`}, closed, faultNotConnected},
		{[]string{`51-/admin,["x"]`}, closed, faultNotConnected},
		{[]string{`50-["x"]`}, closed, faultAttachments},
		{[]string{`51["x"]`}, closed, faultAttachments},
		{[]string{`511-["x"]`}, closed, faultAttachments},
		{[]string{`51-["x",` + hold0 + `]`, `2["y"]`}, closed, faultTextMeanwhile},
		{[]string{`51-["x",` + hold0 + `]`, `1`}, closed, faultTextMeanwhile},
		{[]string{`b1`}, closed, faultBinary},
		{[]string{`51-["x",` + hold0 + `]`, `b1`}, taken, 0},
		{[]string{`51-["x",` + hold0 + `]`, `b`}, taken, 0},
		{[]string{`51-["x",` + hold0 + `]`, `b1`, `b2`}, closed, faultBinary},
		{[]string{`52-["x",` + hold0 + `]`, `b1`, `b2`}, taken, 0},
		{[]string{`61-7["x",` + hold0 + `]`, `b1`}, taken, 0},
		{[]string{`51-["x",{"_placeholder":true,"num":1}]`, `b1`}, closed, faultPlaceholder},
		{[]string{`2["x",{"_placeholder":true,"num":1}]`}, taken, 0},
		{[]string{`51-`, `b1`}, ignored, faultNameless},
		{[]string{`2["x","` + big + `"]`}, closed, faultTooLarge},
		{[]string{`52-["x"]`, `b` + big[:500], `b` + big[:500]}, closed, faultTooLarge},
		{[]string{`52-["x"]`, `b` + big[:500], `b` + big[:495]}, taken, 0},
		{[]string{`1`}, ignored, 0},
		{[]string{`10`}, ignored, 0},
		{[]string{`1`, `2["x"]`}, closed, faultNotConnected},
		{[]string{`1`, `1`}, closed, faultNotConnected},
		{[]string{`1`, `0`, `2["x"]`}, taken, 0},
	} {
		t.Run(fmt.Sprintf("%.40q", tc.sent), func(t *testing.T) {
			h, l, s := joinedLink(t, Config{MaxPayload: tooLarge, MaxPacketBytes: tooLarge})
			for _, m := range tc.sent {
				if b, ok := strings.CutPrefix(m, "b"); ok {
					l.Message([]byte(b), true)
				} else {
					l.Message([]byte(m), false)
				}
			}
			got := ignored
			switch {
			case s.isClosed():
				got = closed
				wantNothingHeld(t, h, l)
				if len(h.received) > 0 && len(tc.sent) < 3 {
					t.Error("a packet was received")
				}
				l.Message([]byte(`2["late"]`), false)
				l.Message([]byte(`late`), true)
			case len(h.received) == 1:
				got = taken
			}
			if n := len(h.received); got != tc.want || n > 1 {
				t.Errorf("%s, %d packets; want %s", got, n, tc.want)
			}
			if tc.f != 0 && l.server.counters[tc.f].Load() != 1 {
				t.Errorf("counters %v, want one %v", l.server.Counters(), tc.f)
			}
			l.Closed(engineio.ReasonTransportClose, "")
			wantNothingHeld(t, h, l)
		})
	}
}

// Before anything is joined a client can make the link hold next to nothing.
func TestBeforeConnect(t *testing.T) {
	for _, tc := range []struct {
		name string
		sent []string
		f    fault
	}{
		{"event", []string{`2["x"]`}, faultNotConnected},
		{"event while pending", []string{`0`, `2["x"]`}, faultNotConnected},
		{"attachments to come", []string{`510-["x"]`}, faultNotConnected},
		{"attachments to come while pending", []string{`0`, `510-["x"]`}, faultNotConnected},
		{"disconnect", []string{`1`}, faultNotConnected},
		{"much auth", []string{`0/a,{"a":"` + strings.Repeat("x", 16<<10) + `"}`}, faultAuthTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, l, s := newLink(t, Config{}, nil)
			for _, m := range tc.sent {
				l.Message([]byte(m), false)
			}
			if !s.isClosed() || l.server.counters[tc.f].Load() != 1 {
				t.Errorf("closed %v, counters %v, want %v", s.isClosed(), l.server.Counters(), tc.f)
			}
			wantNothingHeld(t, h, l)
		})
	}
	t.Run("auth that becomes much", func(t *testing.T) { // of a msgpack string of control characters
		h, l, s := newLink(t, Config{}, nil)
		l.Message(append(unhex(t, "83 a474797065 00 a36e7370 a12f a464617461 81 a161 da2710"), make([]byte, 10_000)...), true)
		if !s.isClosed() || l.server.counters[faultAuthTooLarge].Load() != 1 {
			t.Errorf("closed %v, counters %v", s.isClosed(), l.server.Counters())
		}
		wantNothingHeld(t, h, l)
	})
}

// TestPendingConnectsHoldReading: a client whose connects are undecided is not read on while they hold much, and is
// read on when enough of them are settled, however that was.
func TestPendingConnectsHoldReading(t *testing.T) {
	auth := `{"a":"` + strings.Repeat("x", 10_000) + `"}`
	ends := []struct {
		name string
		end  func(h *fakeHall, l *Link, namespace string)
	}{
		{"accepted", func(h *fakeHall, _ *Link, namespace string) { h.bind(namespace) }},
		{"refused", func(h *fakeHall, _ *Link, namespace string) { h.take(namespace).Refuse(service.Refusal{Message: "no"}) }},
		{"taken back", func(_ *fakeHall, l *Link, namespace string) { l.Message([]byte("1"+namespace), false) }},
		{"asked again", func(_ *fakeHall, l *Link, namespace string) { l.Message([]byte("0"+namespace), false) }},
	}
	for _, joined := range []bool{false, true} {
		for _, e := range ends {
			t.Run(fmt.Sprintf("%s, joined %v", e.name, joined), func(t *testing.T) {
				h, l, s := newLink(t, Config{}, nil)
				most := maxPendingBytesBefore
				if joined {
					most = maxPendingBytes
					l.Message([]byte("0"), false)
					h.bind("/")
				}
				var names []string
				for s.pauses == 0 {
					name := fmt.Sprintf("/n%d", len(names))
					l.Message([]byte("0"+name+","+auth), false)
					names = append(names, name)
					if s.isClosed() || len(names) > 1+most/len(auth) {
						t.Fatalf("closed %v, %d connects are pending", s.isClosed(), len(names))
					}
				}
				for s.pauses > 0 {
					e.end(h, l, names[0])
					if names = names[1:]; len(names) == 0 && s.pauses > 0 {
						t.Fatal("held for ever")
					}
				}
				l.mu.Lock()
				if l.pending > maxPendingBytes || s.pauses != 0 || s.isClosed() {
					t.Errorf("%d bytes pending, %d pauses, closed %v", l.pending, s.pauses, s.isClosed())
				}
				l.mu.Unlock()
				l.Closed(engineio.ReasonTransportClose, "")
				wantNothingHeld(t, h, l)
			})
		}
	}
}

func TestManyNamespaces(t *testing.T) {
	const most = 5
	h, l, s := joinedLink(t, Config{MaxNamespaces: most})
	for i := range 100 { // forgotten ones do not add up
		name := fmt.Sprintf("/n%d", i)
		l.Message([]byte("0"+name), false)
		if i >= most-1 {
			continue
		}
		l.Message([]byte("2"+name+`,["x"]`), false)
	}
	if l.server.counters[faultTooManyNamespaces].Load() != 100-most+1 || s.isClosed() || len(h.received) != most-1 {
		t.Fatalf("counters %v, %d received", l.server.Counters(), len(h.received))
	}
	for i := range 100 {
		for name, sock := range h.sockets {
			if name != "/" {
				l.Forget(sock)
				delete(h.sockets, name)
				h.closes[sock]++
			}
		}
		l.Message(fmt.Appendf(nil, "0/m%d", i), false)
	}
	if len(l.more) > most || s.isClosed() {
		t.Errorf("%d places", len(l.more))
	}
	l.Closed(engineio.ReasonTransportClose, "")
	wantNothingHeld(t, h, l)
}

func TestConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, l, s := newLink(t, Config{}, nil)
		l.Message([]byte("0"), false)
		l.Message([]byte("0/refused"), false)
		h.take("/refused").Refuse(service.Refusal{Message: "no"})
		c := h.pending["/"]
		time.Sleep(45*time.Second - time.Nanosecond)
		synctest.Wait()
		if s.isClosed() {
			t.Fatal("closed early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if s.closed != engineio.ReasonForcedClose || h.cancels != 1 {
			t.Fatalf("closed %q, %d cancelled", s.closed, h.cancels)
		}
		wantNothingHeld(t, h, l)
		if c.Bind(new(service.Socket)) {
			t.Error("bound after the end")
		}
		c.Refuse(service.Refusal{Message: "late"})
		l.Closed(engineio.ReasonForcedClose, "")
		if len(s.sent) != 1 {
			t.Errorf("%d messages sent, want the first refusal only", len(s.sent))
		}
	})
}

func TestConnectTimeoutEndsWithTheFirstJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, l, s := joinedLink(t, Config{ConnectTimeout: time.Second})
		l.Message([]byte("1"), false)
		time.Sleep(time.Hour)
		synctest.Wait()
		if s.isClosed() {
			t.Error("a link that left its last namespace was closed")
		}
		l.Closed(engineio.ReasonTransportClose, "")
	})
}

func TestNoConnectTimeout(t *testing.T) {
	_, l, _ := newLink(t, Config{ConnectTimeout: -1}, nil)
	if l.timer != nil {
		t.Error("a timer runs")
	}
	l.Closed(engineio.ReasonTransportClose, "")
}

func TestReasons(t *testing.T) {
	for r := service.ReasonNone; r <= service.ReasonNodeLost; r++ {
		h, l, s := joinedLink(t, Config{})
		l.Close(r)
		if h.closes[h.sockets["/"]] != 0 {
			t.Errorf("%v: Close closed a socket itself", r)
		}
		got := reasonOf(s.closed)
		switch r {
		case service.ReasonNone, service.ReasonClientDisconnect, service.ReasonServerDisconnect, service.ReasonNodeLost:
			if got != service.ReasonForcedClose {
				t.Errorf("%v became %v", r, got)
			}
		default:
			if got != r {
				t.Errorf("%v became %v", r, got)
			}
		}
		l.Closed(s.closed, "")
		wantNothingHeld(t, h, l)
	}
}

func TestConn(t *testing.T) {
	h, l, s := joinedLink(t, Config{})
	if l.Codec() != JSON || l.SessionID() != "handle" || l.Transport() != "websocket" || l.Handshake() != service.Handshake(&s.handshake) {
		t.Errorf("%v %s %s %v", l.Codec(), l.SessionID(), l.Transport(), l.Handshake())
	}
	f, err := JSON.Encode(benchPacket())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []engineio.Outcome{engineio.Queued, engineio.DroppedVolatile, engineio.Full} {
		s.outcome = o
		if got := l.Send(f, service.Volatile); o != 0 && uint8(got) != uint8(o) {
			t.Errorf("outcome %v became %v", o, got)
		}
	}
	l.Close(service.ReasonForcedClose)
	if got := l.Send(f, 0); got != service.Closed {
		t.Errorf("after Close: %v", got)
	}
	l.Message([]byte("0/late"), false)
	if h.sockets["/late"] != nil {
		t.Error("a closing link connects")
	}
	l.Closed(engineio.ReasonForcedClose, "")
	wantNothingHeld(t, h, l)
}

// TestRaces lets the service decide, forget and dismiss while the client connects, leaves and goes. Whatever happens,
// everything is ended exactly once.
func TestRaces(t *testing.T) {
	for i := range 300 {
		h, l, _ := newLink(t, Config{}, nil)
		var wg sync.WaitGroup
		wg.Go(func() {
			l.Message([]byte("0"), false)
			l.Message([]byte("0/a"), false)
			l.Message([]byte("1/a"), false)
			l.Message([]byte("0/a"), false)
			l.Message([]byte("51-/a,[]"), false)
			l.Closed(engineio.ReasonTransportClose, "")
		})
		wg.Go(func() {
			for _, name := range []string{"/", "/a", "/a"} {
				if c := h.take(name); c.Bind != nil {
					s := new(service.Socket)
					h.mu.Lock()
					if c.Bind(s) {
						h.names[s] = name
					}
					h.mu.Unlock()
				}
			}
		})
		wg.Go(func() {
			switch i % 4 {
			case 0:
				l.Dismiss()
			case 1:
				l.Close(service.ReasonShutdown)
			case 2:
				l.expire()
			case 3:
				if c := h.take("/a"); c.Refuse != nil {
					c.Refuse(service.Refusal{Message: "no", CloseLink: true, UnlessShared: true})
				}
			}
		})
		wg.Wait()
		wantNothingHeld(t, h, l)
	}
}

// FuzzLink sends any messages, cut at 0xff: the link never panics, never keeps more than it may, and ends clean.
func FuzzLink(f *testing.F) {
	for _, s := range []string{
		"t0\xfft2[\"x\"]", "t0\xfft0/a,{}\xfft51-/a,[\"x\",{\"_placeholder\":true,\"num\":0}]\xffb12\xfft1/a", "t0\xfft52-[\"x\"]\xffb1\xfft2[\"y\"]",
		"b\x83\xa4type\x00\xa4data\xd4\x00\x00\xa3nsp\xa1/", "t0/a?x=1&y,\xfft2/a?,[\"x\"]\xff1/a", "t0/r\xfft0\xfft0/f\xfft2/f,[\"x\"]\xfft1/f",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		fuzzLink(t, script, false)
		fuzzLink(t, script, true)
	})
}

func fuzzLink(t *testing.T, script []byte, v2 bool) {
	t.Helper()
	const most = 64
	h, l, s := newLinkOf(t, Config{ConnectTimeout: -1, MaxNamespaces: 3, MaxPayload: most, MaxPacketBytes: 2 * most}, nil, v2)
	h.accept = func(name string) bool { return name != "/r" && name != "/p" }
	if v2 {
		h.bind("/")
	}
	for m := range strings.SplitSeq(string(script), "\xff") {
		if m == "" {
			continue
		}
		l.Message([]byte(m[1:]), m[0] == 'b')
		if c := h.take("/r"); c.Refuse != nil {
			c.Refuse(service.Refusal{Message: "no", Data: []byte("1")})
		}
		if sock := h.sockets["/f"]; sock != nil && h.closes[sock] == 0 {
			l.Forget(sock)
			h.End(sock, service.ReasonServerDisconnect, "")
		}
		if l.waiting != nil && (l.waiting.bytes > 2*most || s.isClosed()) {
			t.Fatalf("%d bytes wait for attachments", l.waiting.bytes)
		}
		if len(l.more) > 3 {
			t.Fatalf("%d places", len(l.more)+1)
		}
	}
	for _, p := range h.received {
		n := len(p.Payload)
		for _, a := range p.Attachments {
			n += len(a)
		}
		if n > 2*most || len(p.Payload) > most {
			t.Fatalf("a packet of %d bytes", n)
		}
	}
	l.Closed(engineio.ReasonTransportClose, "")
	wantNothingHeld(t, h, l)
}

func TestAllocations(t *testing.T) {
	h, l, s := joinedLink(t, Config{})
	h.note = func(string, ...any) {}
	text := []byte(`2["message",{"text":"hello"}]`)
	quiet := &quietHall{}
	l.server.hall = quiet
	if n := testing.AllocsPerRun(200, func() { l.Message(text, false) }); n != 1 {
		t.Errorf("an event costs %v allocations, want 1: its Packet", n)
	}
	if quiet.packets == 0 || s.isClosed() {
		t.Error("nothing was received")
	}
	f, err := JSON.Encode(benchPacket())
	if err != nil {
		t.Fatal(err)
	}
	s.outcome = engineio.Full
	if n := testing.AllocsPerRun(200, func() { l.Send(f, service.Volatile) }); n != 0 {
		t.Errorf("Send costs %v allocations, want 0", n)
	}
	l.server.hall = h
	l.Closed(engineio.ReasonTransportClose, "")
}

type quietHall struct{ packets int }

func (h *quietHall) Connect(service.Connect) func()              { return func() {} }
func (h *quietHall) Receive(*service.Socket, *service.Packet)    { h.packets++ }
func (h *quietHall) End(*service.Socket, service.Reason, string) {}

func BenchmarkLinkEvent(b *testing.B) {
	_, l, _ := joinedLink(b, Config{})
	l.server.hall = &quietHall{}
	text := encodeText(benchPacket())
	b.ReportAllocs()
	for b.Loop() {
		l.Message(text, false)
	}
	l.Closed(engineio.ReasonTransportClose, "")
}
