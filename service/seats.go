package service

import (
	"container/heap"
	"container/list"
	"net/netip"
)

// seats are the places of what waits, by the address that it came from, so that one address cannot take all places.
// When all places are taken, a newcomer gets the place of the oldest of the address that has most.
type seats struct {
	by    map[string]*asker
	order askers // the one with most first
	total int
}

// asker is an address with what it has waiting, oldest first.
type asker struct {
	address string
	waiting list.List // of *pending
	index   int       // in order
}

// seat is one of them.
type seat struct {
	asker   *asker
	element *list.Element
}

func (c *seats) add(p *pending, address string) seat {
	a := c.by[address]
	if a == nil {
		if c.by == nil {
			c.by = map[string]*asker{}
		}
		a = &asker{address: address}
		c.by[address] = a
		heap.Push(&c.order, a)
	}
	c.total++
	e := a.waiting.PushBack(p)
	heap.Fix(&c.order, a.index)
	return seat{a, e}
}

// remove gives a place back, if it is one.
func (c *seats) remove(s *seat) {
	a := s.asker
	if a == nil {
		return
	}
	c.total--
	a.waiting.Remove(s.element)
	*s = seat{}
	if a.waiting.Len() > 0 {
		heap.Fix(&c.order, a.index)
		return
	}
	heap.Remove(&c.order, a.index)
	delete(c.by, a.address)
}

func (c *seats) of(address string) int {
	if a := c.by[address]; a != nil {
		return a.waiting.Len()
	}
	return 0
}

// oldestOfMost is who has to go for a newcomer.
func (c *seats) oldestOfMost() *pending { return c.order[0].waiting.Front().Value.(*pending) }

// askers are a heap by what they have waiting.
type askers []*asker

func (h askers) Len() int           { return len(h) }
func (h askers) Less(i, j int) bool { return h[i].waiting.Len() > h[j].waiting.Len() }
func (h askers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is for container/heap.
func (h *askers) Push(x any) {
	a := x.(*asker)
	a.index = len(*h)
	*h = append(*h, a)
}

// Pop is for container/heap.
func (h *askers) Pop() any {
	last := len(*h) - 1
	a := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return a
}

// neighbourhood is what counts as one address: of IPv6 a network of 64 bits, as one client may have all of it.
func neighbourhood(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Unmap().Is4() {
		return address
	}
	p, err := a.Prefix(64)
	if err != nil {
		return address
	}
	return p.Masked().Addr().String()
}
