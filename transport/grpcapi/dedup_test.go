package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

func bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// counted is a call that answers how often it was made.
type counted struct {
	calls int32
	err   error
	wait  time.Duration
	size  int
}

func (c *counted) call() (*foyerv1.EmitResponse, error) {
	c.calls++
	calls := c.calls
	time.Sleep(c.wait)
	return &foyerv1.EmitResponse{Matched: &calls, Coverage: &foyerv1.Coverage{Unreachable: []string{strings.Repeat("x", c.size)}}}, c.err
}

func (c *counted) once(ctx context.Context, d *dedup, caller, id string, content byte) (*foyerv1.EmitResponse, error) {
	return once(ctx, d, requestKey{caller, "Emit", id}, [32]byte{content}, c.call, func(r *foyerv1.EmitResponse) *foyerv1.EmitResponse {
		return &foyerv1.EmitResponse{Matched: r.Matched, Coverage: r.Coverage, Deduplicated: true}
	})
}

func TestDedup(t *testing.T) { bubble(t, testDedup) }

func testDedup(t *testing.T) {
	d, c, ctx := newDedup(), &counted{}, t.Context()
	want := func(caller, id string, matched int32, repeat bool) {
		t.Helper()
		r, err := c.once(ctx, d, caller, id, 0)
		if err != nil || r.GetMatched() != matched || r.GetDeduplicated() != repeat {
			t.Errorf("%s %s: got %v, %v, want %d, deduplicated %t", caller, id, r, err, matched, repeat)
		}
	}
	want("a", "1", 1, false)
	want("a", "1", 1, true)
	want("b", "1", 2, false) // another caller's
	want("a", "2", 3, false)
	want("a", "", 4, false) // no id: every call sends
	want("a", "", 5, false)
	time.Sleep(dedupFor - 1)
	want("a", "1", 1, true)
	time.Sleep(time.Nanosecond)
	want("a", "1", 6, false)
	if len(d.requests) != 1 || d.done.Len() != 1 {
		t.Errorf("what was too old is still there: %d, %d", len(d.requests), d.done.Len())
	}
}

func TestDedupInFlight(t *testing.T) { bubble(t, testDedupInFlight) }

func testDedupInFlight(t *testing.T) {
	d, c := newDedup(), &counted{wait: time.Minute}
	answers := make(chan *foyerv1.EmitResponse, 3)
	for range 3 {
		go func() {
			r, err := c.once(t.Context(), d, "a", "1", 0)
			if err != nil {
				t.Error(err)
			}
			answers <- r
		}()
		synctest.Wait()
	}
	// One that has no time to wait does not.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := c.once(ctx, d, "a", "1", 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	repeats := 0
	for range 3 {
		if r := <-answers; r.GetDeduplicated() {
			repeats++
		}
	}
	if c.calls != 1 || repeats != 2 {
		t.Errorf("got %d calls and %d repeats, want 1 and 2", c.calls, repeats)
	}
}

func TestDedupFailure(t *testing.T) { bubble(t, testDedupFailure) }

func testDedupFailure(t *testing.T) {
	d, c := newDedup(), &counted{err: service.ErrDraining, wait: time.Second}
	joined := make(chan error, 1)
	go func() {
		time.Sleep(time.Millisecond)
		_, err := c.once(t.Context(), d, "a", "1", 0)
		joined <- err
	}()
	_, err := c.once(t.Context(), d, "a", "1", 0)
	if second := <-joined; !errors.Is(err, service.ErrDraining) || !errors.Is(second, service.ErrDraining) {
		t.Errorf("got %v and %v, want %v twice", err, second, service.ErrDraining)
	}
	c.err = nil
	if r, err := c.once(t.Context(), d, "a", "1", 0); err != nil || r.GetDeduplicated() {
		t.Errorf("after a failure: got %v, %v, want a new call", r, err)
	}
}

func TestDedupPanic(t *testing.T) {
	d := newDedup()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is gone")
			}
		}()
		_, _ = once(t.Context(), d, requestKey{id: "1"}, [32]byte{}, func() (*foyerv1.EmitResponse, error) { panic("x") }, nil)
	}()
	if c := (&counted{}); len(d.requests) > 0 {
		t.Error("a call that has panicked is remembered")
	} else if _, err := c.once(t.Context(), d, "", "1", 0); err != nil {
		t.Error(err)
	}
}

func TestDedupOtherContent(t *testing.T) {
	d, c := newDedup(), &counted{}
	if _, err := c.once(t.Context(), d, "a", "1", 1); err != nil {
		t.Fatal(err)
	}
	_, err := c.once(t.Context(), d, "a", "1", 2)
	wantStatus(t, toStatus(err), codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD, "request_id")
	if c.calls != 1 {
		t.Errorf("got %d calls, want 1", c.calls)
	}
}

func TestDedupBounds(t *testing.T) {
	t.Run("entries", func(t *testing.T) {
		d, c := newDedup(), &counted{}
		for i := range dedupEntries + 10 {
			if _, err := c.once(t.Context(), d, "a", fmt.Sprint(i), 0); err != nil {
				t.Fatal(err)
			}
		}
		if len(d.requests) != dedupEntries || d.done.Len() != dedupEntries {
			t.Errorf("got %d entries, want %d", len(d.requests), dedupEntries)
		}
		if _, ok := d.requests[requestKey{"a", "Emit", "9"}]; ok {
			t.Error("the oldest is still there")
		}
		if _, ok := d.requests[requestKey{"a", "Emit", "10"}]; !ok {
			t.Error("more than the oldest is gone")
		}
	})
	t.Run("bytes", func(t *testing.T) {
		d, c := newDedup(), &counted{size: dedupBytes / 10}
		for i := range 30 {
			if _, err := c.once(t.Context(), d, "a", fmt.Sprint(i), 0); err != nil {
				t.Fatal(err)
			}
			if d.bytes > dedupBytes {
				t.Fatalf("%d bytes, want at most %d", d.bytes, dedupBytes)
			}
		}
		if n := len(d.requests); n != 9 {
			t.Errorf("got %d entries, want 9", n)
		}
	})
	t.Run("larger than all", func(t *testing.T) {
		d, c := newDedup(), &counted{size: dedupBytes}
		if _, err := c.once(t.Context(), d, "a", "1", 0); err != nil || len(d.requests) != 0 || d.bytes != 0 {
			t.Errorf("got %v, %d entries, %d bytes, want none", err, len(d.requests), d.bytes)
		}
	})
}
