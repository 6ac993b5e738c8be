package grpcapi

import (
	"container/list"
	"context"
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
)

const (
	dedupFor     = 10 * time.Minute
	dedupEntries = 100_000
	dedupBytes   = 64 << 20
	// dedupOverhead is what an entry weighs beside its response: map slot, list element, key, channel.
	dedupOverhead = 512
	// maxLeft is how many calls with a request_id may wait on without their callers.
	maxLeft = 1024
)

// requestKey is one request: ids of different callers and of different calls have nothing to do with each other.
type requestKey struct {
	caller, call, id string
}

// dedup remembers the responses of calls with a request_id, so that a repeat gets the first response instead of doing
// it again. A failed call is not remembered: nothing was done, so its repeat may try. Safe for concurrent use.
type dedup struct {
	mu       sync.Mutex
	requests map[requestKey]*request
	done     *list.List // of *request, in the order in which they were answered, which is also that of their expiry
	bytes    int        // of what is in done
}

// request is one call that is remembered.
type request struct {
	key         requestKey
	fingerprint [sha256.Size]byte
	answered    chan struct{} // closed when the fields below are set
	response    proto.Message
	err         error
	bytes       int
	expires     time.Time
}

func newDedup() *dedup {
	return &dedup{requests: make(map[requestKey]*request), done: list.New()}
}

// once runs call, unless a call of the same key was answered lately or is running: then it returns that one's response
// as mark makes it, waiting for it until ctx ends. call runs on this goroutine. Different content under the same key is
// refused: to answer it with the response of something else would lose it silently.
func once[T proto.Message](ctx context.Context, d *dedup, key requestKey, content [sha256.Size]byte, call func() (T, error), mark func(T) T) (T, error) {
	return onceTelling(ctx, d, key, content, func() {}, call, mark)
}

// onceTelling is once, and calls joins before it waits for a call that is running.
func onceTelling[T proto.Message](
	ctx context.Context, d *dedup, key requestKey, content [sha256.Size]byte, joins func(), call func() (T, error), mark func(T) T,
) (T, error) {
	var none T
	if key.id == "" {
		return call()
	}
	r, first := d.begin(key, content)
	if !first {
		if r.fingerprint != content {
			return none, invalidField("request_id", "was used for another request before: give each request its own")
		}
		joins()
		select {
		case <-r.answered:
		case <-ctx.Done():
			return none, ctx.Err()
		}
		if r.err != nil {
			return none, r.err
		}
		return r.response.(T), nil
	}
	r.err = internalError(nil) // what those who joined are told should call panic
	defer func() { d.end(r) }()
	resp, err := call()
	r.err = err
	if err != nil {
		return none, err
	}
	r.response = mark(resp)
	return resp, nil
}

// outliving is onceTelling for a call that waits, whose response is also that of a repeat, which may come because the
// caller's connection broke: with an id it goes on when the caller is gone, on a goroutine that the Server waits for,
// until its own bound or Stop. What gRPC counts of the caller's is free then: nobody could call any more otherwise who
// opens and resets such calls. How much a caller leaves behind is bounded: beyond it the wait ends, with what is known
// by then.
func outliving[T proto.Message](
	ctx context.Context, s *Server, key requestKey, content [sha256.Size]byte, joins func(), call func(context.Context) (T, error), mark func(T) T,
) (T, error) {
	if key.id == "" {
		return call(ctx)
	}
	type answer struct {
		response T
		err      error
	}
	answered := make(chan answer, 1)
	work, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(s.stopping, end)
	var first atomic.Bool
	s.streams.Go(func() {
		defer end()
		defer stop()
		response, err := onceTelling(work, s.dedup, key, content, joins, func() (T, error) {
			first.Store(true)
			return call(work)
		}, mark)
		answered <- answer{response, err}
	})
	select {
	case a := <-answered:
		return a.response, a.err
	case <-ctx.Done():
	}
	switch {
	case !first.Load(): // it waits for another's call, or has not begun
		end()
	case s.left.take(key.caller):
		context.AfterFunc(work, func() { s.left.give(key.caller) })
	default:
		s.gate.refuse(refusedLeft, hostOfCall(ctx), "")
		end()
	}
	var none T
	return none, ctx.Err()
}

func (d *dedup) begin(key requestKey, content [sha256.Size]byte) (r *request, first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trimLocked(time.Now())
	if r, ok := d.requests[key]; ok {
		return r, false
	}
	r = &request{key: key, fingerprint: content, answered: make(chan struct{})}
	d.requests[key] = r
	return r, true
}

func (d *dedup) end(r *request) {
	defer close(r.answered)
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.err != nil {
		delete(d.requests, r.key)
		return
	}
	now := time.Now()
	r.expires = now.Add(dedupFor)
	r.bytes = proto.Size(r.response) + len(r.key.id) + dedupOverhead
	d.bytes += r.bytes
	d.done.PushBack(r)
	d.trimLocked(now)
}

// trimLocked forgets what is too old, and the oldest of what is too much. Calls that still run are not counted: the
// number of concurrent streams bounds them.
func (d *dedup) trimLocked(now time.Time) {
	for e := d.done.Front(); e != nil; e = d.done.Front() {
		r := e.Value.(*request)
		if d.done.Len() <= dedupEntries && d.bytes <= dedupBytes && now.Before(r.expires) {
			return
		}
		d.done.Remove(e)
		d.bytes -= r.bytes
		delete(d.requests, r.key)
	}
}

// contentOf is a fingerprint of messages, so that a repeat can be told from a mistake.
func contentOf(messages ...proto.Message) (sum [sha256.Size]byte) {
	h := sha256.New()
	var buf []byte
	for _, m := range messages {
		// Deterministic within one binary, and the fingerprints never leave the process.
		var err error
		if buf, err = (proto.MarshalOptions{Deterministic: true}).MarshalAppend(buf[:0], m); err != nil {
			buf = append(buf[:0], err.Error()...) // unreachable: what was received can be marshalled
		}
		part := sha256.Sum256(buf)
		h.Write(part[:])
	}
	h.Sum(sum[:0])
	return sum
}
