package passing

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"foyer/transport/engineio"
)

// untold are the counters without a line of this package, and why.
var untold = map[counter]string{
	countForged:   "engineio tells the refusal, with the detail that Pass returns",
	countOdd:      "likewise",
	countFailed:   "likewise",
	countSilent:   "likewise",
	countFull:     "likewise",
	countDraining: "this node goes, and says so once",
	countCut:      "its client has gone or reads nothing, or its node has gone, which is told there",
	countRequests: "it was passed",
	countStreams:  "it was passed",
	countServed:   "it was served",
}

// TestReasons: each request that is refused or ended here has one counter, and one line of which the reason is the
// counter's name.
func TestReasons(t *testing.T) {
	cases := map[string]struct {
		why     counter
		message string
		happen  func(p *pair)
	}{
		"nobody's request": {countNotMember, "request refused", func(p *pair) {
			w := httptest.NewRecorder()
			p.other.passing.Handler(nil).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/socket.io/?sid=aaaa", nil))
		}},
		"a member's that names another's session": {countForeign, "request refused", func(p *pair) {
			r := httptest.NewRequest(http.MethodGet, "/socket.io/?"+polling+"&sid=cccc", nil)
			p.owner.passing.sign(r.Header, r, "aaaa")
			p.other.passing.Handler(nil).ServeHTTP(httptest.NewRecorder(), r)
		}},
		"a lost node": {countGone, "stream closed", func(p *pair) {
			query, _ := p.open()
			ws := p.upgrade(query)
			defer ws.Close()
			p.lose("bbbb")
			time.Sleep(5 * time.Second)
		}},
		"a client that takes nothing": {countSlow, "stream closed", func(p *pair) {
			query, session := p.open()
			ws := p.upgrade(query)
			defer ws.Close()
			session.Send(engineio.NewMessage([]byte(strings.Repeat("x", 200)), nil), 0)
			session.Flush()
			time.Sleep(25 * time.Second)
		}},
	}
	seen := map[counter]bool{}
	for name, tc := range cases {
		seen[tc.why] = true
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zapcore.InfoLevel)
			inBubble(t, func(p *pair) {
				p.other.passing.told = zap.New(core)
				tc.happen(p)
				lines := logs.All()
				if len(lines) != 1 || lines[0].Message != tc.message {
					t.Fatalf("lines %v, want one %q", lines, tc.message)
				}
				fields := lines[0].ContextMap()
				address, told := fields["address"].(string)
				if fields["reason"] != tc.why.reason() || !told || strings.Contains(address, ":") || fields["detail"] == "" {
					t.Errorf("fields %v, want %s", fields, tc.why.reason())
				}
				if n := p.other.passing.Dropped()[tc.why.reason()]; n != 1 {
					t.Errorf("counted %d times", n)
				}
			})
		})
	}
	for k := range countersLen {
		if why := untold[k]; seen[k] == (why != "") {
			t.Errorf("%s is to have a line that is tested, or a reason why it has none", k.reason())
		}
	}
}

func refused(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }

// TestWhyNot: what Pass returns says which node it was and what was wrong, and nothing of the sid, which is a secret.
func TestWhyNot(t *testing.T) {
	inBubble(t, func(p *pair) {
		query, _ := p.open()
		sid := sidOf(query)
		ask := func(query string) string {
			why := p.other.passing.Pass(sidOf(query), httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/socket.io/?"+query, strings.NewReader("4x")))
			if strings.Contains(why, sid[nameLen:]) {
				t.Errorf("%q tells the sid", why)
			}
			return why
		}
		for _, step := range []struct {
			change func()
			query  string
			want   string
		}{
			{func() {}, query + "x", "no node of this cluster"},
			{func() { p.other.passing.dial = refused }, query, "its node bbbb cannot be asked: refused"},
			{func() { p.freeze(); p.miss("bbbb") }, query, "its node bbbb has said nothing in 1s"},
			{func() { p.lose("bbbb") }, query, "its node bbbb is no member"},
			{func() { p.other.passing.cfg.Most = 0; p.put("bbbb", "owner:1") }, query, "as many requests as it may, which are 0"},
		} {
			step.change()
			if why := ask(step.query); !strings.Contains(why, step.want) {
				t.Errorf("%q, want %q", why, step.want)
			}
		}
	})
}

// FuzzSID: no text is taken for a sid that no member has made, and none does any harm.
func FuzzSID(f *testing.F) {
	k := newKeys(secret)
	made := "aaaa" + strings.Repeat("r", randomLen) // the same in each process of the fuzzer
	mine := string(k.sids.check([]byte(made), checkLen, made))
	for _, s := range []string{mine, "", "aaaa", mine[:43], mine + "x", strings.Repeat("\x00", sidLen), "sid=" + mine, "sid=a&sid=b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if name, ok := k.owner(s); ok && (s != mine || name != "aaaa") {
			t.Errorf("%q is of %q", s, name)
		}
		if sid := sidOf(s); sid != "" && !strings.Contains(s, "sid="+sid) {
			t.Errorf("%q of %q", sid, s)
		}
	})
}
