//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
)

// A node that is emptied by call closes its links so that clients come back, takes no new ones, tells handlers and
// watchers, reports its progress, and is still there to be asked.
func TestDrainByCall(t *testing.T) {
	f := startFoyer(t)
	b := attach(t, f.api, &foyerv1.Register{Namespaces: []string{"/"}}, nil)
	p := startPuppets(t)
	const clients = 6
	var crowd []*client
	for i := range clients {
		c, _ := p.connect(t, f.url(), "/", quick.with(transports[i%len(transports)].opts))
		c.settle()
		crowd = append(crowd, c)
	}
	caller := api(t, f.api)
	watch, err := caller.presence.Watch(t.Context(), &foyerv1.WatchRequest{All: true})
	if err != nil {
		t.Fatal(err)
	}
	drain := func() (last *foyerv1.DrainResponse, err error) {
		stream, err := caller.node.Drain(t.Context(), &foyerv1.DrainRequest{Window: durationpb.New(2 * time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return last, nil
			}
			if err != nil {
				return last, err
			}
			last = m
		}
	}
	least := int32(clients)
	last, err := drain()
	for tries := 0; status.Code(err) == codes.DeadlineExceeded && tries < 5; tries++ {
		least = 0 // some clients of a busy machine are still open, and the next call counts only those
		last, err = drain()
	}
	if err != nil {
		t.Fatal(err)
	}
	if n := last.GetSessionsClosed(); !last.GetDone() || last.GetSessionsLeft() != 0 || n < least || n > clients {
		t.Errorf("the last word is %v", last)
	}
	for i, c := range crowd {
		if got := c.expect("disconnect"); got.Reason != "transport close" || !got.Active {
			t.Errorf("client %d saw %q, active %v", i, got.Reason, got.Active)
		}
	}
	b.await(t, "draining", func(m *foyerv1.AttachResponse) bool {
		return m.GetDraining().GetReason() == foyerv1.DrainReason_DRAIN_REASON_NODE_DRAIN
	})
	for err = nil; err == nil; {
		_, err = watch.Recv()
	}
	wantError(t, err, codes.Unavailable, "DRAINING")
	response, err := http.Get(f.url() + "/socket.io/?EIO=4&transport=polling")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a newcomer is answered %s", response.Status)
	}
	eventually(t, func() error {
		nodes, err := caller.node.ListNodes(t.Context(), &foyerv1.ListNodesRequest{})
		if err != nil || len(nodes.GetNodes()) != 1 || !nodes.GetNodes()[0].GetDraining() {
			return fmt.Errorf("the node is listed as %v, %v", nodes, status.Convert(err).Message())
		}
		return nil
	})
}
