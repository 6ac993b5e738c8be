package socketio

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foyer/service"
	"foyer/transport/engineio"
)

func TestErrorV2(t *testing.T) {
	for _, tt := range []struct {
		r    service.Refusal
		want string
	}{
		{service.Refusal{Message: "nope"}, `"nope"`},
		{service.Refusal{Message: "\"\u2028\x01é"}, "\"\\\"\u2028\\u0001é\""},
		{service.Refusal{Message: "nope", Data: []byte(`{"code":"E1"}`)}, `{"code":"E1"}`},
		{service.Refusal{Message: "nope", Data: []byte(` [] `)}, ` [] `},
		{service.Refusal{Message: "nope", Data: []byte(`false`)}, `"nope"`},
		{service.Refusal{Message: "nope", Data: []byte(` null `)}, `"nope"`},
		{service.Refusal{Message: "nope", Data: []byte(`""`)}, `"nope"`},
		{service.Refusal{Message: "nope", Data: []byte(`-0.0e5`)}, `"nope"`},
		{service.Refusal{Message: "nope", Data: []byte(`1e999`)}, `1e999`},
		{service.Refusal{Message: "nope", Data: []byte(`"0"`)}, `"0"`},
		{service.InvalidNamespace, `{"message":"Invalid namespace"}`},
		{service.Refusal{Message: "Invalid namespace"}, `"Invalid namespace"`},
	} {
		if got := string(errorV2(tt.r)); got != tt.want {
			t.Errorf("%+v: got %s, want %s", tt.r, got, tt.want)
		}
	}
}

// Only the answer to a CONNECT differs from JSON.
func TestJSONv2(t *testing.T) {
	for _, p := range []service.Packet{
		{Kind: service.KindEvent, Namespace: "/a", AckID: 7, Payload: []byte(`["x",{"_placeholder":true,"num":0}]`), Attachments: [][]byte{{1}}},
		{Kind: service.KindAck, Namespace: "/", AckID: 7},
		{Kind: service.KindDisconnect, Namespace: "/a", AckID: service.NoAck},
		{Kind: service.KindConnectError, Namespace: "/a", AckID: service.NoAck, Payload: []byte(`"no"`)},
		{Kind: service.KindConnect, Namespace: "/a", AckID: service.NoAck, Payload: []byte(`{"sid":"S"}`)},
	} {
		got, err := JSONv2.Encode(&p)
		if err != nil {
			t.Fatal(err)
		}
		if p.Kind == service.KindConnect {
			if string(p.Payload) != `{"sid":"S"}` {
				t.Error("the packet was changed")
			}
			p.Payload = nil
		}
		want, err := JSON.Encode(&p)
		if err != nil {
			t.Fatal(err)
		}
		gotText, gotBinaries := wire(t, got)
		wantText, wantBinaries := wire(t, want)
		if gotText != wantText || !cmp.Equal(gotBinaries, wantBinaries) {
			t.Errorf("got %s, want %s", gotText, wantText)
		}
	}
}

func FuzzQueryAuth(f *testing.F) {
	for _, s := range []string{"token=1", "", "&&", "a&a=1&%61=2", "%ff=%fe", "=x", "a=%00+\"\\", strings.Repeat("a&", 2000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		got := queryAuth(query)
		if got == nil {
			if strings.Trim(query, "&") != "" {
				t.Fatal("nothing of something")
			}
			return
		}
		var values map[string]string
		if err := json.Unmarshal(got, &values); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		if len(values) == 0 || len(values) > maxQueryPairs || strings.Count(query, "&")+1 < len(values) {
			t.Fatalf("%d values", len(values))
		}
	})
}

func TestQueryAuthIsBounded(t *testing.T) {
	var query strings.Builder
	for i := range 2 * maxQueryPairs {
		fmt.Fprintf(&query, "k%d=v&", i)
	}
	var values map[string]string
	if err := json.Unmarshal(queryAuth(query.String()), &values); err != nil || len(values) != maxQueryPairs {
		t.Errorf("%d values, %v", len(values), err)
	}
}

// TestRealSessionV2 is the walk of a v2 client through all three packages, over polling.
func TestRealSessionV2(t *testing.T) {
	node, err := service.New(service.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	links, err := New(Config{}, node)
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := engineio.New(engineio.Config{AllowEIO3: true}, links.Accept)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(sessions)
	defer web.Close()
	defer sessions.Close()

	url := web.URL + "/socket.io/?EIO=3&transport=polling"
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
	want := func(want string) {
		t.Helper()
		if got := do(http.MethodGet, url, ""); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	want("2:40")
	target := service.Target{Namespace: "/", All: true}
	if _, err := node.Emit(t.Context(), service.Emit{Target: target, Packet: &service.Packet{
		Kind: service.KindEvent, Namespace: "/", AckID: service.NoAck, Event: "hey", Payload: []byte(`["hey","😀"]`),
	}}); err != nil {
		t.Fatal(err)
	}
	want(`14:42["hey","😀"]`)
	if n, _, err := node.Disconnect(t.Context(), target, service.DisconnectNamespace); n != 1 || err != nil {
		t.Fatalf("disconnected %d, %v", n, err)
	}
	want("2:41")
	do(http.MethodPost, url, "2:40")
	want("2:40")
	do(http.MethodPost, url, "2:40")
	want("2:40")
	if n := links.Counters()["connect_again"]; n != 1 {
		t.Errorf("counters %v", links.Counters())
	}
}
