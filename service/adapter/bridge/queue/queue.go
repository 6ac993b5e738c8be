// Package queue is what waits between a medium of the bridge and a goroutine that takes it, bounded in bytes.
package queue

import "sync"

// Queue is what waits for one taker. Safe for concurrent use.
type Queue[T any] struct {
	most   int
	filled chan struct{} // has a value after something was put

	mu    sync.Mutex
	list  []T // guarded by mu
	bytes int // guarded by mu; with what was taken and is not done
}

// New makes a queue of so many bytes.
func New[T any](most int) *Queue[T] { return &Queue[T]{most: most, filled: make(chan struct{}, 1)} }

// Put appends something. false: it is too much. What is larger than the queue is taken when nothing else waits.
func (q *Queue[T]) Put(item T, bytes int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bytes > 0 && q.bytes+bytes > q.most {
		return false
	}
	q.list = append(q.list, item)
	q.bytes += bytes
	select {
	case q.filled <- struct{}{}:
	default:
	}
	return true
}

// Filled has a value after something was put.
func (q *Queue[T]) Filled() <-chan struct{} { return q.filled }

// Take returns all that waits. It counts until Done is told of its bytes.
func (q *Queue[T]) Take() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.list
	q.list = nil
	return list
}

// Done gives back the room of what was taken.
func (q *Queue[T]) Done(bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= bytes
}
