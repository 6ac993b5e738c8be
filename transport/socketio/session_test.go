package socketio

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"foyer/service"
	"foyer/transport/engineio"
)

// TestRealSession is the walk through all three packages, over polling: connect, event to and fro, disconnect by the
// node.
func TestRealSession(t *testing.T) {
	node, err := service.New(service.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	links, err := New(Config{}, node)
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := engineio.New(engineio.Config{}, links.Accept)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(sessions)
	defer web.Close()
	defer sessions.Close()

	url := web.URL + "/socket.io/?EIO=4&transport=polling"
	do := func(method, url, body string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := web.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		got, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s %v", method, res.StatusCode, got, err)
		}
		return string(got)
	}
	_, sid, _ := strings.Cut(do(http.MethodGet, url, ""), `"sid":"`)
	sid, _, _ = strings.Cut(sid, `"`)
	url += "&sid=" + sid

	do(http.MethodPost, url, "40\x1e40/unknown")
	if got := do(http.MethodGet, url, ""); !strings.HasPrefix(got, `40{"sid":"`) || len(got) != len(`40{"sid":""}`)+20 {
		t.Fatalf("got %q, want the CONNECT answer", got)
	}
	// A binary event with attachments is two packets on the wire, one on each side of the service.
	emit := func(rooms ...string) service.Receipt {
		t.Helper()
		target := service.Target{Namespace: "/", Rooms: rooms, All: rooms == nil}
		receipt, err := node.Emit(context.Background(), service.Emit{Target: target, Packet: &service.Packet{
			Kind: service.KindEvent, Namespace: "/", AckID: service.NoAck, Event: "hey",
			Payload: []byte(`["hey",{"_placeholder":true,"num":0}]`), Attachments: [][]byte{{1, 2, 3}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return receipt
	}
	if r := emit(); r.Matched != 1 || r.Enqueued != 1 {
		t.Fatalf("receipt %+v", r)
	}
	if got, want := do(http.MethodGet, url, ""), "451-[\"hey\",{\"_placeholder\":true,\"num\":0}]\x1ebAQID"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	if n, _, err := node.Disconnect(t.Context(), service.Target{Namespace: "/", All: true}, service.DisconnectNamespace); n != 1 || err != nil {
		t.Fatalf("disconnected %d, %v", n, err)
	}
	if got := do(http.MethodGet, url, ""); got != "41" {
		t.Fatalf("got %q, want a DISCONNECT", got)
	}
	do(http.MethodPost, url, `42["crossed"]`+"\x1e40")
	if got := do(http.MethodGet, url, ""); !strings.HasPrefix(got, `40{"sid":"`) {
		t.Fatalf("got %q, want the CONNECT answer", got)
	}
	do(http.MethodPost, url, `42["x"`)
	if got := do(http.MethodGet, url, ""); got != "1" && got != "6\x1e1" {
		t.Fatalf("got %q, want the end", got)
	}
	if r := emit(); r.Matched != 0 || links.Counters()["payload"] != 1 || links.Counters()["after_disconnect"] != 1 {
		t.Fatalf("receipt %+v, counters %v", r, links.Counters())
	}
}
