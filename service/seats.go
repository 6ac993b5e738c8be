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
	order most[*asker]
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

func (a *asker) has() int      { return a.waiting.Len() }
func (a *asker) stands(at int) { a.index = at }

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
