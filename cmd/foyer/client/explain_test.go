package client

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// TestExplain: it is said whom an emit would reach, whom not, and why, with what was last known of who is gone.
func TestExplain(t *testing.T) {
	inHall(t, func(h *hall) {
		ann, bob := h.connect("ann", "/", "", "r1"), h.connect("bob", "/", "", "r1", "muted")
		h.connect("eve", "/", "", "r2")
		h.want(Done, strings.Join([]string{
			"1 of 1 socket that the target means would get it.",
			"SOCKETS   VERDICT",
			"      1   would get it",
			"      1   in none of the rooms",
			"      1   left out by --except",
			"Some of those that would not, or soon will not:",
			"SOCKET                 NODE   USER   VERDICT",
			"bob.................   AAAA   -      left out by --except: muted",
			"eve.................   AAAA   -      in none of the rooms; it is in r2",
			"",
		}, "\n"), "", "explain", "--room", "r1", "--except", "muted")
		h.want(Nobody, strings.Join([]string{
			"SOCKET                 NODE   USER   VERDICT",
			"bob.................   AAAA   -      in none of the rooms; it is in muted, r1",
			"1 of 1 socket that the target means would get it.",
			"SOCKETS   VERDICT",
			"      1   would get it",
			"      2   in none of the rooms",
			"Some of those that would not, or soon will not:",
			"SOCKET                 NODE   USER   VERDICT",
			"ann.................   AAAA   -      in none of the rooms; it is in r1",
			"",
		}, "\n"), "foyer: who was asked for would not get it\n", "explain", "--room", "r2", "--socket", bob.id(), "--sample", "1")
		h.node.End(ann.socket, service.ReasonPingTimeout, "")
		time.Sleep(3 * time.Minute)
		out, told, code := h.say("explain", "--room", "r1", "--socket", ann.id())
		if want := "not connected any more: it went 3m ago (ping timeout); it was in r1\n"; code != Nobody || !strings.Contains(out, want) {
			t.Errorf("code %d, %q, %s", code, told, out)
		}
		out, _, code = h.say("explain", "--room", "r1", "--socket", ann.id(), "-o", "json")
		if code != Nobody || strings.Count(out, "\n") != 1 || !strings.Contains(out, `"verdict":"VERDICT_DISCONNECTED"`) {
			t.Errorf("code %d, %s", code, out)
		}
		if out, _, code := h.say("explain", "--all", "--socket", bob.id()); code != Done || !strings.Contains(out, "AAAA   -      would get it\n") {
			t.Errorf("code %d, %s", code, out)
		}
		if out, told, code := h.say("explain", "--all", "--user", "ann"); code != Nobody || told != "foyer: --user: no node has a socket of \"ann\", and none remembers one\n" {
			t.Errorf("code %d, %q, %s", code, told, out)
		}
		if out, told, code := h.say("explain", "--room", "none"); code != Nobody || told != "foyer: the target reached nobody\n" {
			t.Errorf("code %d, %q, %s", code, told, out)
		}
	})
}

// explained answers as a node does that does not reach all others.
type explained struct {
	foyerv1.UnimplementedSocketServiceServer
	coverage *foyerv1.Coverage
}

func (e *explained) Explain(context.Context, *foyerv1.ExplainRequest) (*foyerv1.ExplainResponse, error) {
	return &foyerv1.ExplainResponse{Matched: proto.Int32(2), Reached: proto.Int32(2), Coverage: e.coverage}, nil
}

// TestExplainInPart: what is printed says by itself which nodes it does not speak for, and so does the exit code.
func TestExplainInPart(t *testing.T) {
	e := &explained{coverage: &foyerv1.Coverage{Unreachable: []string{"BBBB", "CC\x1bC"}}}
	fake(t, func(s *grpc.Server) { foyerv1.RegisterSocketServiceServer(s, e) }, func(h *hall) {
		told := `foyer: the answer is only partial: 2 nodes did not answer: BBBB, CC\x1bC` + "\n"
		h.want(Partial, `2 of 2 sockets that the target means would get it. 2 nodes did not answer: BBBB, CC\x1bC; the sockets there are not counted.`+"\n",
			told, "explain", "--all")
		h.want(Partial, `{"matched":2,"reached":2,"coverage":{"unreachable":["BBBB","CC\u001bC"]}}`+"\n", told, "explain", "--all", "-o", "json")
		e.coverage = &foyerv1.Coverage{UncountedNodes: 1}
		h.want(Done, "2 of 2 sockets that the target means would get it. 1 Socket.IO server on Node took part without being counted.\n",
			"foyer: 1 Socket.IO server on Node took part without being counted\n", "explain", "--all")
	})
}

// TestWhy: each verdict has words of its own, and those that hang on something say on what.
func TestWhy(t *testing.T) {
	full := &foyerv1.LinkState{WaitingBytes: proto.Int64(900 << 10), LimitBytes: proto.Int64(1 << 20), NearlyFull: true, FullSince: timestamppb.New(time.Now().Add(-5 * time.Second))}
	seen := map[string]bool{}
	for v := range foyerv1.Verdict_name {
		if v == 0 {
			continue
		}
		text := why(&foyerv1.Explanation{Verdict: foyerv1.Verdict(v), Socket: &foyerv1.Socket{Namespace: "/n"}, Link: full, Departure: &foyerv1.Departure{Time: timestamppb.Now()}})
		if verdictWords[foyerv1.Verdict(v)] == "" || seen[text] {
			t.Errorf("%v: %q", foyerv1.Verdict(v), text)
		}
		seen[text] = true
	}
	for _, want := range []string{"would get it; its queue is nearly full: 900.0 KiB of 1.0 MiB", "queue is full: 900.0 KiB of 1.0 MiB for 5s", "in another namespace: /n"} {
		if !seen[want] {
			t.Errorf("%q is not said", want)
		}
	}
}

// TestHandlers: each handler that is attached is listed, with what it takes and what waits for it.
func TestHandlers(t *testing.T) {
	inHall(t, func(h *hall) {
		h.want(Nobody, "NODE   GROUP   HANDLER   NAMESPACES   TAKES   SOCKETS   IN FLIGHT   OLDEST   QUEUED   FOR   ADDRESS\n", "foyer: no handler is attached\n", "handlers")
		attached, _, err := h.node.Attach(t.Context(), service.Registration{
			Namespaces: []string{"/", "/chat*"}, Group: "g\x1b", ID: "h1", Events: []string{"ask"}, DecideConnects: false, MaxInFlight: 5,
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		h.connect("ann", "/", "").emits("ask", "")
		out, told, code := h.say("handlers")
		for _, want := range []string{`AAAA   g\x1b`, "   h1 ", "   / /chat*   ", "   ask   ", "   1 of 5   "} {
			if code != Done || told != "" || !strings.Contains(out, want) {
				t.Errorf("code %d, %q, lacks %q:\n%s", code, told, want, out)
			}
		}
		out, _, code = h.say("handlers", "--local", "-o", "json")
		if code != Done || strings.Count(out, "\n") != 1 || !strings.Contains(out, `"handlerId":"h1"`) {
			t.Errorf("code %d, %s", code, out)
		}
		attached.Detach()
	})
}
