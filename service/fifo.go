package service

// fifoKeeps is how many items an empty queue has room for. A handler under load empties its queue a thousand times a
// second and fills it with a hundred events: to grow it anew was nearly half of all bytes allocated.
const fifoKeeps = 512

// fifo is a queue that gives its memory back as it empties.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) push(v T) {
	if len(q.items) == cap(q.items) && q.head > len(q.items)/2 { // what was taken makes room
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

func (q *fifo[T]) first() *T { return &q.items[q.head] }

func (q *fifo[T]) pop() T {
	v := q.items[q.head]
	var zero T
	q.items[q.head] = zero
	q.head++
	switch {
	case q.head == len(q.items):
		if cap(q.items) > fifoKeeps {
			q.items = nil
		}
		q.items, q.head = q.items[:0], 0
	case q.head >= 1024 && q.head > len(q.items)/2:
		q.items = append([]T(nil), q.items[q.head:]...)
		q.head = 0
	}
	return v
}

// take empties the queue and returns what was in it.
func (q *fifo[T]) take() []T {
	items := q.items[q.head:]
	q.items, q.head = nil, 0
	return items
}
