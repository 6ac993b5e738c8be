package service

import (
	"strings"
	"time"

	"go.uber.org/zap"
)

// Bounds on what is remembered of names.
const (
	maxNames    = 10_000
	maxPrefixes = 1_000
)

// learnLocked makes a name or prefix known.
func (hs *handlers) learnLocked(pattern string, mode ConnectMode) {
	known, _ := hs.names.get(pattern)
	hs.names.set(pattern, max(mode, known))
}

// rule says whether a namespace is known, and who may connect.
func (hs *handlers) rule(name string) (mode ConnectMode, known bool) {
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	mode, known = hs.ruleLocked(name)
	for _, p := range hs.promised {
		if p.claims.decides && p.claims.namespaces.covers(name) {
			mode = ConnectHandler // its backend may know already that nobody comes in without it
		}
	}
	return mode, known
}

func (hs *handlers) ruleLocked(name string) (mode ConnectMode, known bool) {
	hs.names.covering(name, func(m ConnectMode) bool { // the closest pattern rules
		mode, known = m, true
		return false
	})
	if hs.decided.covers(name) {
		mode = ConnectHandler
	}
	return mode, known
}

// named says whether a name is known by itself, and not by a prefix.
func (hs *handlers) named(name string) bool {
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	_, named := hs.names.exact[name]
	return named
}

// hope is for how long a handler may still be on its way that nobody knows yet: after the node's start, after a handler
// has left, as the one that comes for it may register for more, and while one of another node is about to register
// name. Nobody waits for observers.
func (hs *handlers) hope(name string) time.Duration {
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	until := hs.startUntil
	if u := hs.leftAt.Add(hs.node.cfg.HandlerWait); u.After(until) {
		until = u
	}
	left := time.Until(until)
	for _, p := range hs.promised {
		if !p.claims.observer && p.claims.namespaces.covers(name) {
			left = max(left, promisedWait)
		}
	}
	return left
}

// deciderLeft is when a handler that decides connects was last taken out of its group; zero: none has been.
func (hs *handlers) deciderLeft() time.Time {
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	return hs.decider
}

// newNamesLocked is how many names and prefixes a registration would make known.
func (hs *handlers) newNamesLocked(h *Handler) (names, prefixes int) {
	if h.reg.Observer {
		return 0, 0
	}
	for _, p := range h.reg.Namespaces {
		if _, known := hs.names.get(p); known {
			continue
		}
		if strings.HasSuffix(p, "*") {
			prefixes++
		} else {
			names++
		}
	}
	return names, prefixes
}

// learnRegistrationLocked makes known what a handler has registered for. An observer makes nothing known: browsers
// would be let into each namespace that somebody looks at, and for good.
func (hs *handlers) learnRegistrationLocked(h *Handler, after *followUps) {
	if h.reg.Observer {
		return
	}
	for _, p := range h.reg.Namespaces {
		decides := h.reg.DecideConnects
		hs.learnLocked(p, ConnectOpen)
		if hs.node.abroad != nil && !h.reg.Local {
			hs.node.abroad.Learned(p, decides)
		}
		if _, known := hs.decided.get(p); known || !decides {
			continue
		}
		if mode, _ := hs.ruleLocked(strings.TrimSuffix(p, "*")); mode == ConnectOpen {
			after.add(func() {
				hs.node.told.Warn("namespace is not open any more", zap.String("namespace", p), zap.String("group", h.reg.Group),
					zap.String("handler", h.reg.ID), zap.String("setting", "--connect="+strings.TrimSuffix(p, "*")+"=handler"),
					zap.String("detail", "a handler decides who connects to it: until the node restarts nobody comes in without one; configure it so"))
			})
		}
		hs.decided.set(p, struct{}{})
	}
}
