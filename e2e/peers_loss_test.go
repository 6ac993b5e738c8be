//go:build e2e

package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
)

// TestPeersAreLost: a server on Node that is killed or frozen amid a call, and one that comes meanwhile, are told by
// number: a call that waits for one that is gone ends, and those that are made when all is settled are whole.
func TestPeersAreLost(t *testing.T) { testPeersLost(t, classic) }

func testPeersLost(t *testing.T, on *medium) {
	m := startMixed(t, on)
	all, ids := m.clients("/", opts{})
	for _, c := range all {
		c.answers("question", []any{"yes"})
		c.answers("silence", nil)
	}
	every := &foyerv1.Target{All: true}
	list := func() *foyerv1.ListSocketsResponse {
		t.Helper()
		page, err := m.apis[0].sockets.ListSockets(t.Context(), &foyerv1.ListSocketsRequest{Target: every})
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	ask := func(event string, timeout time.Duration) <-chan *foyerv1.EmitWithAckResponse {
		answered := make(chan *foyerv1.EmitWithAckResponse, 1)
		go func() {
			r, err := m.apis[0].emits.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{Target: every, Payload: say(event), Timeout: durationpb.New(timeout)})
			if err != nil {
				t.Error(err)
			}
			answered <- r
		}()
		return answered
	}
	whole := func(sockets int) {
		t.Helper()
		eventually(t, func() error {
			if page := list(); len(page.GetSockets()) != sockets || page.GetCoverage().GetUnreachableUnnamed() != 0 {
				return fmt.Errorf("%d sockets are listed, want %d; %v", len(page.GetSockets()), sockets, page.GetCoverage())
			}
			return nil
		})
		r := <-ask("question", 10*time.Second)
		for len(r.GetSummary().GetCoverage().GetUnreachable()) > 0 { // on a busy machine a node of Foyer takes its time
			r = <-ask("question", 10*time.Second)
		}
		if int(r.GetSummary().GetAcked()) != sockets || r.GetSummary().GetCoverage().GetUnreachableUnnamed() != 0 {
			t.Errorf("the answers are %v, want %d", r.GetSummary(), sockets)
		}
	}
	whole(3)

	t.Run("frozen", func(t *testing.T) {
		if err := m.peer.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		answered := ask("question", 4*time.Second)
		page := list()
		if len(page.GetSockets()) != 2 || page.GetCoverage().GetUnreachableUnnamed() != 1 {
			t.Errorf("%d sockets are listed, %v; want those of Foyer and one server that is missing", len(page.GetSockets()), page.GetCoverage())
		}
		if r := <-answered; r.GetSummary().GetAcked() != 2 || r.GetSummary().GetCoverage().GetUnreachableUnnamed() != 1 {
			t.Errorf("the answers are %v, want those of Foyer and one server that is missing", r.GetSummary())
		}
		if err := m.peer.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		whole(3)
	})

	t.Run("killed", func(t *testing.T) {
		// Its socket and another one do not answer, and this call would wait a minute.
		for _, id := range ids[1:] {
			if _, err := m.apis[0].rooms.JoinRooms(t.Context(), &foyerv1.JoinRoomsRequest{Target: &foyerv1.Target{Rooms: []string{id}}, Rooms: []string{"at Foyer"}}); err != nil {
				t.Fatal(err)
			}
		}
		answered := make(chan *foyerv1.EmitWithAckResponse, 1)
		go func() {
			r, err := m.apis[0].emits.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{
				Target: &foyerv1.Target{All: true, ExceptRooms: []string{"at Foyer"}}, Payload: say("silence"), Timeout: durationpb.New(50 * time.Second),
			})
			if err != nil {
				t.Error(err)
			}
			answered <- r
		}()
		all[0].event("silence")
		m.peer.run(`"it has said how many it has"`)
		began := time.Now()
		m.peer.kill()
		select {
		case r := <-answered:
			t.Logf("the call ended %v after the server on Node was killed", time.Since(began))
			if s := r.GetSummary(); s.GetMatched() > 1 || s.GetUnattributed() != s.GetMatched() || s.GetCoverage().GetUnreachableUnnamed() != 1 {
				t.Errorf("the answer is %v, want one recipient, or none, whose server is missing", s)
			}
		case <-time.After(3 * patience):
			t.Error("the call waits for a server that is gone")
		}
		all[0].expect("disconnect")
		whole(2)
	})

	t.Run("joins", func(t *testing.T) {
		// Lists that are made meanwhile have all that is there, or say that a server is missing.
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for n := 0; ; n++ {
				select {
				case <-stop:
					t.Logf("%d lists were made meanwhile", n)
					return
				default:
				}
				page, err := m.apis[1].sockets.ListSockets(t.Context(), &foyerv1.ListSocketsRequest{Target: every})
				if err != nil || len(page.GetSockets()) < 2 && len(page.GetCoverage().GetUnreachable()) == 0 {
					t.Errorf("%d sockets are listed, %v, %v", len(page.GetSockets()), page.GetCoverage(), err)
					return
				}
			}
		}()
		m.t = t
		m.peer = startPeer(t, on, m.url)
		c, _ := m.puppets.connect(t, m.peer.url, "/", opts{})
		c.answers("question", []any{"yes"})
		close(stop)
		<-stopped
		whole(3)
	})
}
