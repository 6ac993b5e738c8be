package service

// view says which groups have registered for one namespace, and which of them owns what: as of a version of the
// handlers. Immutable. The code that assigns sockets looks at it with Namespace.assigning held. A handler that comes or
// goes changes the version first and then walks over the sockets, so that each socket meets one of the two.
type view struct {
	version  uint64
	groups   []*group // all, the one with the closest pattern first
	named    []*group // those that own the events that they name: with handlers, and before they are forgotten without
	catchAll *group   // owns all other events
}

// owner is the group that named an event, else the one that takes all others; nil: nobody.
func (v *view) owner(event string) *group {
	for _, g := range v.named {
		if _, ok := g.claims.Load().events[event]; ok {
			return g
		}
	}
	return v.catchAll
}

// viewOf is the view of a namespace, remade when handlers have come or gone since. Among groups that claim the same,
// those that have handlers win: what a group without any has claimed is free for others.
func (hs *handlers) viewOf(ns *Namespace) *view {
	if v := ns.view.Load(); v != nil && v.version == hs.version.Load() {
		return v
	}
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	v := &view{version: hs.version.Load()}
	hs.coveringLocked(ns.name, func(g *group) { v.groups = append(v.groups, g) })
	for _, live := range []bool{true, false} {
		for _, g := range v.groups {
			switch {
			case g.observer || (len(g.members.Load().handlers) > 0) != live:
			case len(g.claims.Load().events) > 0:
				v.named = append(v.named, g)
			case v.catchAll == nil:
				v.catchAll = g
			}
		}
	}
	ns.view.Store(v)
	return v
}
