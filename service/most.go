package service

// most is a heap for container/heap: its first element is the one that has most.
type most[E holder] []E

// holder is an element of most, which knows its place there.
type holder interface {
	has() int
	stands(at int)
}

func (h most[E]) Len() int           { return len(h) }
func (h most[E]) Less(i, j int) bool { return h[i].has() > h[j].has() }
func (h most[E]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].stands(i)
	h[j].stands(j)
}

// Push is for container/heap.
func (h *most[E]) Push(x any) {
	e := x.(E)
	e.stands(len(*h))
	*h = append(*h, e)
}

// Pop is for container/heap.
func (h *most[E]) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	clear((*h)[last:])
	*h = (*h)[:last]
	return e
}
