package engineio

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// packetsOf are the packets of a GET's answer, in the form of version 4.
func packetsOf(t testing.TB, q, body string) []string {
	t.Helper()
	if strings.HasPrefix(q, "EIO=4") {
		return strings.Split(body, "\x1e")
	}
	var all []string
	for r := newEIO3Reader([]byte(body), false); ; {
		p, ok, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all
		}
		if p.binary {
			all = append(all, "b"+string(p.data))
		} else {
			all = append(all, string(p.typ)+string(p.data))
		}
	}
}

// One answer carries at most 16 packets, the next GET is answered at once with what follows, and the account of what
// waits is exact after each; so are the last words before a close.
func TestPollCarriesFewPackets(t *testing.T) {
	for _, handshake := range []string{"EIO=4&transport=polling", "EIO=3&transport=polling&b64=1"} {
		for _, attachments := range []int{0, 1, 2, 10, 20} {
			for _, closing := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %d attachments, closing %v", handshake, attachments, closing), func(t *testing.T) {
					h := serveTCP(t, Config{AllowEIO3: true})
					res := h.do("GET", handshake, nil)
					r := h.last()
					q := handshake + "&sid=" + r.session.sid()
					if res.status != 200 {
						t.Fatal(res)
					}
					s := r.session
					s.Admit()
					const n = 50
					var want []string
					for i := range n {
						m := NewMessage([]byte(fmt.Sprint(i)), make([][]byte, attachments))
						want = append(want, "4"+fmt.Sprint(i))
						for range attachments {
							want = append(want, "b")
						}
						if got := s.Send(m, 0); got != Queued {
							t.Fatalf("Send: %v", got)
						}
					}
					if closing {
						s.Close(ReasonForcedClose)
					}
					limit := max(pollPackets, 1+attachments)
					var got []string
					for len(got) < len(want) {
						packets := packetsOf(t, q, h.do("GET", q, nil).body)
						if len(packets) > limit {
							t.Errorf("%d packets in one answer", len(packets))
						}
						if rest := len(want) - len(got); len(packets)+attachments < min(limit, rest) {
							t.Errorf("%d packets in an answer, %d are left", len(packets), rest)
						}
						got = append(got, packets...)
						eventually(t, "exact account", func() bool {
							s.mu.Lock()
							defer s.mu.Unlock()
							sum := 0
							for _, it := range s.queue {
								sum += it.msg.size + itemOverhead
							}
							return !s.token && s.pending == sum
						})
						if cap(s.spare) > spareItems {
							t.Errorf("spare for %d", cap(s.spare))
						}
					}
					if diff := cmp.Diff(got, want); diff != "" {
						t.Error(diff)
					}
					if closing {
						if got := packetsOf(t, q, h.do("GET", q, nil).body); !cmp.Equal(got, []string{"6", "1"}) {
							t.Errorf("after the last words: %q", got)
						}
						r.wantClosed(t, ReasonForcedClose)
					}
				})
			}
		}
	}
}

// A GET that waits is given 16 packets of what comes at once, the rest goes with the next ones; with the upgrade it
// goes over the websocket.
func TestPendingPollAndUpgradeCarryFewPackets(t *testing.T) {
	h := serveTCP(t, Config{})
	q, r := h.openPolling()
	r.session.Admit()
	get := h.pending(q, r)
	p := h.probe(q)
	p.write("2probe")
	p.want("3probe")
	h.wantBody(get, "6")
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint("4", i))
		r.session.Send(NewMessage([]byte(fmt.Sprint(i)), nil), 0)
	}
	for i := range 3 {
		if diff := cmp.Diff(packetsOf(t, q, h.do("GET", q, nil).body), want[16*i:16*(i+1)]); diff != "" {
			t.Error(diff)
		}
	}
	p.write("5")
	p.want(want[48:]...)
	eventually(t, "nothing pending", func() bool { r.session.mu.Lock(); defer r.session.mu.Unlock(); return r.session.pending == 0 })
}

// A sid with nothing behind it is none: the request is judged, and served, as a handshake.
func TestEmptySid(t *testing.T) {
	h := serveTCP(t, Config{})
	for _, q := range []string{"EIO=4&transport=polling&sid=", "sid=&transport=polling&EIO=4", "sid&transport=polling&EIO=4"} {
		if res := h.do("GET", q, nil); res.status != 200 {
			t.Errorf("%s: %v", q, res)
		} else {
			parseOpen(t, res.body)
		}
	}
	parseOpen(t, h.dial("EIO=4&transport=websocket&sid=").read())
	if res := h.do("POST", "EIO=4&transport=polling&sid=", strings.NewReader("4a")); res.body != `{"code":2,"message":"Bad handshake method"}` {
		t.Errorf("%v", res)
	}
}
