//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

// downPayload is event number i of a burst to a client.
func downPayload(i, size int, binary bool) *foyerv1.Payload {
	if !binary {
		return say("down", i, strings.Repeat("x", size))
	}
	p := say("down", i, map[string]any{"_placeholder": true, "num": 0})
	p.Attachments = [][]byte{bytes.Repeat([]byte("x"), size)}
	return p
}

// emitStream emits to one target over one stream, so many items a message and all of them without waiting for a result,
// and returns the results.
func emitStream(t testing.TB, b *backend, to *foyerv1.Target, n, batch int, payload func(i int) *foyerv1.Payload) []*foyerv1.EmitResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	stream, err := b.emits.EmitStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		for i := 0; i < n; {
			m := &foyerv1.EmitStreamRequest{}
			for range min(batch, n-i) {
				m.Items = append(m.Items, &foyerv1.EmitStreamItem{Id: uint64(i), Emit: &foyerv1.EmitRequest{Target: to, Payload: payload(i), Receipt: receiptOfAll()}})
				i++
			}
			if stream.Send(m) != nil {
				return // the receiver hears why
			}
		}
		_ = stream.CloseSend()
	})
	var results []*foyerv1.EmitResponse
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Errorf("after %d results: %v", len(results), err)
			break
		}
		for _, result := range m.GetResults() {
			if result.GetOk() == nil || result.GetId() != uint64(len(results)) {
				t.Errorf("result %d is %v", len(results), result)
			}
			results = append(results, result.GetOk())
		}
	}
	if len(results) != n {
		t.Errorf("got %d results, want %d", len(results), n)
	}
	return results
}

// wantDelivered fails unless each emit reached just its one socket.
func wantDelivered(t testing.TB, results []*foyerv1.EmitResponse) {
	t.Helper()
	for i, r := range results {
		if len(r.GetCoverage().GetUnreachable()) > 0 { // a busy node was late to count; the client tells
			continue
		}
		if r.GetEnqueued() != 1 || r.GetMatched() != 1 || r.GetDroppedSlow() != 0 {
			t.Errorf("emit %d: %v", i, r)
			return
		}
	}
}

// downs are the ways in which much comes to a client at once.
var downs = []struct {
	name            string
	n, bytes, batch int // batch 0: unary calls, all side by side
	binary          bool
}{
	{"12 of 100 KB in one message", 12, 100_000, 12, true},
	{"60 calls of 100 KB side by side", 60, 100_000, 0, true},
	{"3 of 600 KB in one message", 3, 600_000, 3, false},
	{"20,000 of 10 B", 20_000, 10, 1000, false},
}

// TestBurstsToClients: much is emitted at once to a stock client that reads.
func TestBurstsToClients(t *testing.T) {
	// The Python client leaves when it has read no ping for the longer one of these times and 5 s. On a busy machine it
	// needs longer for what comes before the ping.
	// A busy client that polls may take less than half of its queue in the default --slow-after; then copies are dropped.
	f := startFoyer(t, "--log-level=info", "--ping-timeout=90s", "--slow-after=60s")
	takeAt(t, f, "/", "", nil) // for the last word
	columns(t, f, func(t *testing.T, _ string, c *burstClient) {
		b := api(t, f.api)
		for _, down := range downs {
			t.Run(down.name, func(t *testing.T) {
				order := burst{
					Name: down.name, Namespaces: []string{"/"}, Receive: down.n, Bytes: down.bytes, Binary: down.binary, Unordered: down.batch == 0,
				}
				c.begin(t, order)
				to := &foyerv1.Target{Rooms: []string{c.connected(t, order)["/"]}}
				payload := func(i int) *foyerv1.Payload { return downPayload(i, down.bytes, down.binary) }
				if down.batch > 0 {
					wantDelivered(t, emitStream(t, b, to, down.n, down.batch, payload))
				} else {
					wantDelivered(t, emitSideBySide(t, b, to, down.n, payload))
				}
				c.done(t, order)
			})
		}
	})
	wantDropped(t, f)
}

// emitSideBySide makes a unary call for each emit, all at the same time.
func emitSideBySide(t testing.TB, b *backend, to *foyerv1.Target, n int, payload func(i int) *foyerv1.Payload) []*foyerv1.EmitResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	results := make([]*foyerv1.EmitResponse, n)
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			var err error
			if results[i], err = b.emits.Emit(ctx, &foyerv1.EmitRequest{Target: to, Payload: payload(i)}); err != nil {
				t.Errorf("emit %d: %v", i, err)
			}
		})
	}
	calls.Wait()
	return results
}
