package engineio

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"
)

// neighbours are two servers in one process. Each makes sids that begin with its name, and hands requests of the
// other's sessions over to it.
func neighbours(t *testing.T) (here, there *harness, handed *atomic.Int64) {
	t.Helper()
	handed = new(atomic.Int64)
	var other [2]*harness
	config := func(name string, owner int) Config {
		var made atomic.Int64
		return Config{
			NewSID: func() string { return name + strings.Repeat("x", int(made.Add(1))) },
			Unknown: func(sid string, w http.ResponseWriter, r *http.Request) string {
				if strings.HasPrefix(sid, name) {
					return "of its own, and gone"
				}
				handed.Add(1)
				other[owner].srv.ServeHTTP(w, r)
				return ""
			},
		}
	}
	here, there = serveTCP(t, config("here-", 1)), serveTCP(t, config("there-", 0))
	other = [2]*harness{here, there}
	here.onMsg, there.onMsg = echo, echo
	return here, there, handed
}

// TestRequestsOfAnothersSessions: polls, POSTs, the upgrade with its messages, and the refusal of what is not known
// there either are its owner's, over the wrong server's connections.
func TestRequestsOfAnothersSessions(t *testing.T) {
	here, there, handed := neighbours(t)
	query, r := there.openPolling()
	if sid := r.session.sid(); sid != "there-x" || len(r.session.Handle()) != handleLen || strings.Contains(query, r.session.Handle()) {
		t.Errorf("sid %q, handle %q", sid, r.session.Handle())
	}
	get := here.pending(query, r)
	if res := here.do("POST", query, strings.NewReader("4hello")); res.status != 200 || res.body != "ok" {
		t.Errorf("POST: %v", res)
	}
	here.wantBody(get, "4hello")
	large := "4" + strings.Repeat("y", 10_000)
	if res := here.do("POST", query, strings.NewReader(large)); res.body != "ok" {
		t.Errorf("large POST: %v", res)
	}
	if res := here.do("GET", query, nil); res.body != large {
		t.Errorf("%d bytes came back, want %d", len(res.body), len(large))
	}

	p := here.probe(query)
	p.write("5")
	p.write("4over the other")
	p.want("4over the other")
	if r.session.Transport() != "websocket" {
		t.Errorf("transport %s", r.session.Transport())
	}
	p.conn.Close()
	r.wantClosed(t, ReasonTransportClose)
	if n := handed.Load(); n < 5 {
		t.Errorf("%d requests were handed over", n)
	}
	if here.srv.Len() != 0 {
		t.Error("a session at the wrong server")
	}
}

// TestUnknownMayBeNobodys: an Unknown that does not know the session leaves the answer as it is, body and all.
func TestUnknownMayBeNobodys(t *testing.T) {
	var asked atomic.Int64
	h := serveTCP(t, Config{Unknown: func(sid string, _ http.ResponseWriter, _ *http.Request) string {
		if sid == "nobody" {
			asked.Add(1)
		}
		return "nobody has it"
	}})
	const polling, ws = "EIO=4&transport=polling&sid=nobody", "EIO=4&transport=websocket&sid=nobody"
	const body = `{"code":1,"message":"Session ID unknown"}`
	for i, res := range []response{
		h.do("GET", polling, nil), h.do("POST", polling, strings.NewReader("4hello")), h.do("GET", ws, nil), h.do("PUT", polling, nil),
		// A body that is still on its way holds nobody up.
		h.do("POST", polling, io.MultiReader(strings.NewReader("4"), waits{t.Context().Done()})),
	} {
		if res.status != 400 || res.body != body {
			t.Errorf("request %d: %d %q", i, res.status, res.body)
		}
	}
	_, res, err := h.dialer.Dial("ws"+strings.TrimPrefix(h.url, "http")+"/socket.io/?"+ws, nil)
	if !errors.Is(err, websocket.ErrBadHandshake) || res.StatusCode != http.StatusBadRequest {
		t.Errorf("upgrade: %v", err)
	}
	if n := asked.Load(); n != 6 {
		t.Errorf("asked %d times", n)
	}
}

// waits is a body that ends with a test.
type waits struct{ end <-chan struct{} }

func (w waits) Read([]byte) (int, error) {
	<-w.end
	return 0, io.EOF
}
