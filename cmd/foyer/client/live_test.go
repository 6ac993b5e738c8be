package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
	"foyer/transport/grpcapi"
)

// running is a command that goes on.
type running struct {
	h      *hall
	out    *buffer
	told   *buffer
	cancel context.CancelFunc
	code   chan int
}

// buffer is written by a command while a test reads it.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
	full chan struct{} // not nil: writes wait until it is closed
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	full := b.full
	b.mu.Unlock()
	if full != nil {
		<-full
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

var timeOfDay = regexp.MustCompile(`\d\d:\d\d:\d\d\.\d\d\d`)

// take is what was written since the last take, once all is quiet.
func (r *running) take(b *buffer) string {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	text := b.text.String()
	b.text.Reset()
	return timeOfDay.ReplaceAllString(r.h.named(text), "hh:mm:ss.mmm")
}

// start runs a command beside the test.
func (h *hall) start(args ...string) *running {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	r := &running{h: h, out: &buffer{}, told: &buffer{}, cancel: cancel, code: make(chan int, 1)}
	sys := &System{Out: r.out, Err: r.told, Dial: h.dial, ErrTerminal: h.sys.ErrTerminal, Width: h.sys.Width}
	k, err := parse(sys, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	k.BindTo(ctx, (*context.Context)(nil))
	h.all.Go(func() {
		err := k.Run()
		if err != nil {
			_, _ = io.WriteString(r.told, "foyer: "+err.Error()+"\n")
		}
		r.code <- CodeOf(err)
	})
	synctest.Wait()
	return r
}

func (r *running) stop() int {
	r.cancel()
	return <-r.code
}

func (r *running) wantOut(want ...string) {
	r.h.t.Helper()
	if d := cmp.Diff(strings.Join(append(want, ""), "\n"), r.take(r.out)); d != "" {
		r.h.t.Errorf("on standard output (-want +got):\n%s", d)
	}
}

func (r *running) wantTold(want ...string) {
	r.h.t.Helper()
	if d := cmp.Diff(strings.Join(append(want, ""), "\n"), r.take(r.told)); d != "" {
		r.h.t.Errorf("on standard error (-want +got):\n%s", d)
	}
}

// TestWatch: the sockets that are there are told first, then each change.
func TestWatch(t *testing.T) {
	inHall(t, func(h *hall) {
		ann := h.connect("ann", "/", "", "r1")
		w := h.start("watch")
		w.wantOut("TIME           CHANGE         SOCKET                 USER   ROOMS   WHY", "-              here           ann.................   -      r1      -")
		h.connect("bob", "/", "")
		h.want(Done, "1 socket joined r1, r2.\n", "", "join", "--room", h.links[1].id(), "r1", "r2")
		h.want(Done, "1 socket left r1.\n", "", "leave", "--room", h.links[0].id(), "r1")
		h.node.End(ann.socket, service.ReasonTransportClose, "")
		w.wantOut(
			"hh:mm:ss.mmm   connected      bob.................   -      -       -",
			"hh:mm:ss.mmm   joined         bob.................   -      r1 r2   -",
			"hh:mm:ss.mmm   left           ann.................   -      r1      -",
			"hh:mm:ss.mmm   disconnected   ann.................   -      -       transport close",
		)
		w.wantTold()
		if code := w.stop(); code != Done {
			t.Errorf("exit code %d", code)
		}
		one := h.start("watch", "--room", "r2", "-o", "json", "--for", "3s")
		lines := strings.Split(one.take(one.out), "\n")
		for i, want := range []string{`{"snapshot":{"sockets":[{"id":"bob.................",`, `{"synced":{"coverage":{}},"resumeToken":"`, ""} {
			if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
				t.Fatalf("line %d of %q, want %s", i, lines, want)
			}
		}
		if code := <-one.code; code != Done {
			t.Errorf("exit code %d", code)
		}
		var synced struct{ ResumeToken string }
		if err := json.Unmarshal([]byte(lines[1]), &synced); err != nil {
			t.Fatal(err)
		}
		h.want(Done, "1 socket left r2.\n", "", "leave", "--room", "r2", "r2")
		again := h.start("watch", "--room", "r2", "--resume", synced.ResumeToken)
		again.wantOut("TIME           CHANGE         SOCKET                 USER   ROOMS   WHY", "hh:mm:ss.mmm   left           bob.................   -      r2      -")
		again.stop()
		out, told, code := h.say("watch", "--resume", "nonsense")
		if code != Usage || !strings.HasPrefix(told, "foyer: --resume: ") {
			t.Errorf("code %d, %q, %q", code, out, told)
		}
	})
}

// TestWatchResumes: a connection that breaks is opened again, and the changes meanwhile are told, each once.
func TestWatchResumes(t *testing.T) {
	inHall(t, func(h *hall) {
		h.connect("ann", "/", "", "r1")
		w := h.start("watch", "--room", "r1")
		w.take(w.out)
		h.shut()
		bob := h.connect("bob", "/", "", "r1")
		time.Sleep(3 * time.Second)
		if told := w.take(w.told); !strings.HasPrefix(told, "foyer: the connection to 127.0.0.1:50051 is lost (") || !strings.HasSuffix(told, "); trying again\n") || strings.Count(told, "\n") != 1 {
			t.Errorf("told %q", told)
		}
		h.open(grpcapi.Config{})
		time.Sleep(10 * time.Second)
		w.wantTold("foyer: the node at 127.0.0.1:50051 answers again")
		w.wantOut("hh:mm:ss.mmm   joined         bob.................   -      r1      -")
		h.node.End(bob.socket, service.ReasonPingTimeout, "")
		w.wantOut("hh:mm:ss.mmm   disconnected   bob.................   -      r1      ping timeout")

		h.shut()
		time.Sleep(65 * time.Second)
		if code := <-w.code; code != Unanswered {
			t.Errorf("exit code %d", code)
		}
		if told := w.take(w.told); !strings.HasSuffix(told, "foyer: the connection to 127.0.0.1:50051 has been lost for 1m0s (--retry)\n") {
			t.Errorf("told %q", told)
		}
		h.want(Unanswered, "", "foyer: --api: nobody answers at 127.0.0.1:50051: does a node run there, and is this its --api?\n", "watch")
	})
}

// hurried is a node that ends a stream the moment before its time is over, if it knows that time.
type hurried struct {
	foyerv1.UnimplementedPresenceServiceServer
}

func (*hurried) Watch(_ *foyerv1.WatchRequest, stream foyerv1.PresenceService_WatchServer) error {
	if err := stream.Send(&foyerv1.WatchResponse{Message: &foyerv1.WatchResponse_Synced{Synced: &foyerv1.Synced{}}}); err != nil {
		return err
	}
	if until, ok := stream.Context().Deadline(); ok {
		time.Sleep(time.Until(until) - time.Millisecond)
		return status.Error(codes.Unavailable, "stream terminated")
	}
	<-stream.Context().Done()
	return nil
}

// mute is a node that takes a watch and says nothing.
type mute struct {
	foyerv1.UnimplementedPresenceServiceServer
}

func (*mute) Watch(_ *foyerv1.WatchRequest, stream grpc.ServerStreamingServer[foyerv1.WatchResponse]) error {
	<-stream.Context().Done()
	return nil
}

// TestForEndsWithoutALoss: the end of --for is not taken for a connection that is lost, nor for an answer.
func TestForEndsWithoutALoss(t *testing.T) {
	fake(t, func(s *grpc.Server) { foyerv1.RegisterPresenceServiceServer(s, &mute{}) }, func(h *hall) {
		h.want(Unanswered, "", "foyer: the node at 127.0.0.1:50051 has not answered within 2s (--for)\n", "watch", "--for", "2s")
	})
	fake(t, func(s *grpc.Server) { foyerv1.RegisterPresenceServiceServer(s, &hurried{}) }, func(h *hall) {
		h.want(Done, "TIME           CHANGE         SOCKET                 USER   ROOMS   WHY\n", "", "watch", "--for", "3s")
	})
}

// TestTail: what browsers send is shown as it comes, without its arguments unless they are asked for, and with nothing
// of theirs that a terminal obeys.
func TestTail(t *testing.T) {
	inHall(t, func(h *hall) {
		ann := h.connect("ann", "/", "")
		shows := h.start("tail")
		all := h.start("tail", "--payloads", "--event", "chat\x1b", "--event", "b")
		object := h.start("tail", "-o", "json")
		full := h.start("tail", "-o", "json", "--payloads", "--socket", ann.id())
		h.connect("bob", "/", "").emits("b", "")
		ann.emits("chat\x1b", `,"<\u001b[31m>",{"n":12345678901234567890}`)
		shows.wantOut(
			"TIME           SOCKET                 NAMESPACE   EVENT              SIZE",
			"hh:mm:ss.mmm   bob.................   /           b                   2 B",
			`hh:mm:ss.mmm   ann.................   /           chat\x1b           43 B`,
		)
		all.wantOut(
			"TIME           SOCKET                 NAMESPACE   EVENT              SIZE   ARGUMENTS",
			"hh:mm:ss.mmm   bob.................   /           b                   2 B   []",
			`hh:mm:ss.mmm   ann.................   /           chat\x1b           43 B   ["<\u001b[31m>",{"n":12345678901234567890}]`,
		)
		if got := object.take(object.out); strings.Count(got, "\n") != 2 || !strings.Contains(got, `"payload":{"event":"chat\u001b"},"time":"`) || strings.Contains(got, "1234567890") {
			t.Errorf("%s", got)
		}
		if got := full.take(full.out); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"payload":{"event":"chat\u001b","json":"[`) || !strings.Contains(got, `12345678901234567890}]"`) {
			t.Errorf("%s", got)
		}
		for _, r := range []*running{shows, all, object, full} {
			if code := r.stop(); code != Done {
				t.Errorf("exit code %d", code)
			}
			r.wantTold()
		}
	})
}

// TestLiveOfNobody: a namespace of which nobody knows is told, since it would look like one in which nothing happens.
func TestLiveOfNobody(t *testing.T) {
	inHall(t, func(h *hall) {
		told := func(text string, args ...string) {
			t.Helper()
			r := h.start(args...)
			if got := r.take(r.told); got != text {
				t.Errorf("%q: told %q, want %q", args, got, text)
			}
			r.stop()
		}
		told("foyer: no socket or handler of /none is there yet\n", "tail", "-n", "/none")
		told("foyer: no socket or handler of /none is there yet\n", "tail", "-n", "none", "--local", "-o", "json")
		told("foyer: no socket or handler of /none is there yet\n", "watch", "-n", "none")
		told("foyer: no socket or handler of /none is there yet\n", "watch", "-n", "none", "--room", "r1")
		told("", "watch")
		told("", "tail", "-n", "/none*")
		watches, _, err := h.node.Attach(t.Context(), service.Registration{Namespaces: []string{"/none"}, Group: "w", ID: "w1", Observer: true, MaxInFlight: 1})
		if err != nil {
			t.Fatal(err)
		}
		told("foyer: no socket or handler of /none is there yet\n", "tail", "-n", "/none")
		watches.Detach()
		handles, _, err := h.node.Attach(t.Context(), service.Registration{Namespaces: []string{"/no*"}, Group: "g", ID: "h1", MaxInFlight: 1})
		if err != nil {
			t.Fatal(err)
		}
		told("", "tail", "-n", "/none")
		told("", "watch", "-n", "/none")
		handles.Detach()
		told("foyer: no socket or handler of /chat is there yet\n", "watch", "-n", "/chat")
		h.connect("ann", "/chat", "")
		told("", "watch", "-n", "/chat", "--room", "r1")
		told("", "tail", "-n", "/chat")
	})
}

// TestTailSamples: one of so many is shown, and so many a second, and the rest is counted.
func TestTailSamples(t *testing.T) {
	inHall(t, func(h *hall) {
		ann := h.connect("ann", "/", "")
		r := h.start("tail", "--every", "3", "--rate", "2", "-o", "json")
		for range 2 {
			for range 10 {
				ann.emits("chat", "")
			}
			synctest.Wait()
			time.Sleep(time.Second)
		}
		if got := strings.Count(r.take(r.out), "\n"); got != 4 {
			t.Errorf("%d are shown, want 2 a second", got)
		}
		time.Sleep(tellEvery)
		r.wantTold("foyer: of 20 events so far, 16 are not shown: 14 by --every, 2 by --rate")
		if code := r.stop(); code != Done {
			t.Errorf("exit code %d", code)
		}
		r.wantTold()
	})
}

// TestTailThatIsNotRead: a tail whose output nobody takes keeps no client waiting, holds no more than it may, and says
// how many it has left out.
func TestTailThatIsNotRead(t *testing.T) {
	inHall(t, func(h *hall) {
		ann := h.connect("ann", "/", "")
		r := h.start("tail", "--rate", "0", "--payloads", "-o", "json")
		full := make(chan struct{})
		r.out.full = full
		const events = tailItems + 1000
		for i := range events {
			ann.emits("chat", fmt.Sprintf(",%d", i))
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		if dropped := h.node.Info().Dropped["observer_slow"]; dropped != 0 {
			t.Errorf("the node has dropped %d copies: it was not answered at once", dropped)
		}
		r.out.mu.Lock()
		r.out.full = nil
		r.out.mu.Unlock()
		close(full)
		shown := strings.Count(r.take(r.out), "\n")
		if code := r.stop(); code != Done {
			t.Errorf("exit code %d", code)
		}
		if shown < tailItems || shown > tailItems+200 {
			t.Errorf("%d are shown", shown)
		}
		r.wantTold(fmt.Sprintf("foyer: of %d events so far, %d are not shown: %d since what is printed was not taken in time", events, events-shown, events-shown))
	})
}

// TestDrain: a node is emptied, and the person who waits for it is shown how far it is.
func TestDrain(t *testing.T) {
	inHall(t, func(h *hall) {
		h.want(Failed, "", "foyer: --api: the node at 127.0.0.1:50051 does not have this call: its version is too old, or it is no node of Foyer\n", "drain")
		h.shut()
		h.open(grpcapi.Config{Drain: func(ctx context.Context, window time.Duration, progress func(left, closed int)) error {
			for i := range 5 {
				progress(4-i, i)
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(window / 4):
				}
			}
			progress(0, 4)
			return nil
		}})
		h.want(Done, "The node is empty: 4 sessions closed. It takes no new ones until it is started again.\n", "", "drain", "--window", "4s")
		out, _, code := h.say("drain", "--window", "4s", "-o", "json")
		if code != Done || !strings.HasSuffix(out, `{"sessionsLeft":0,"sessionsClosed":4,"done":true}`+"\n") || strings.Count(out, "\n") < 3 {
			t.Errorf("code %d, %s", code, out)
		}
		h.want(Usage, "", "foyer: --window: must be between 0 and 1h0m0s\n", "drain", "--window", "2h")

		h.shut()
		h.open(grpcapi.Config{Drain: func(_ context.Context, window time.Duration, progress func(left, closed int)) error {
			<-time.After(window)
			progress(2, 4)
			return context.DeadlineExceeded
		}})
		h.want(Partial, "", "foyer: the node at 127.0.0.1:50051 is not empty: 2 sessions have not closed in time, and stay open\n", "drain", "--window", "4s")
		h.shut()
		h.open(grpcapi.Config{Drain: func(ctx context.Context, _ time.Duration, progress func(left, closed int)) error {
			progress(2, 2)
			<-ctx.Done()
			return ctx.Err()
		}})

		h.sys.ErrTerminal = true
		r := h.start("drain", "--window", "40s")
		time.Sleep(showAfter + showEvery)
		if shown := r.take(r.told); !strings.Contains(shown, "[--------------------] 0 of ") {
			t.Errorf("shown at first: %q", shown)
		}
		time.Sleep(25 * time.Second)
		shown := strings.Split(r.take(r.told), eraseLine)
		if last := shown[len(shown)-1]; !strings.Contains(last, "[##########----------] 2 of 4 sessions closed") {
			t.Errorf("shown at last: %q", last)
		}
		if code := r.stop(); code != Partial {
			t.Errorf("exit code %d", code)
		}
		if told := r.take(r.told); !strings.HasSuffix(told, eraseLine+"foyer: interrupted: 2 sessions stay open\n") {
			t.Errorf("told %q", told)
		}
		r.wantOut()
	})
}
