package service

import (
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Bounds on what is remembered of names.
const (
	maxNames    = 10_000
	maxPrefixes = 1_000
	maxDenied   = 1_024
	deniedFor   = time.Minute
)

// learnLocked makes a name or prefix known.
func (hs *handlers) learnLocked(pattern string, mode ConnectMode) {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		hs.prefixes[prefix] = max(mode, hs.prefixes[prefix])
	} else {
		hs.names[pattern] = max(mode, hs.names[pattern])
	}
}

// ruleLocked says whether a namespace is known, and who may connect.
func (hs *handlers) ruleLocked(name string) (mode ConnectMode, known bool) {
	mode, known = hs.names[name]
	if !known {
		longest := -1
		for prefix, m := range hs.prefixes {
			if len(prefix) > longest && strings.HasPrefix(name, prefix) {
				mode, known, longest = m, true, len(prefix)
			}
		}
	}
	if slices.ContainsFunc(hs.deciders, func(p string) bool { return matches(p, name) }) {
		mode = ConnectHandler
	}
	return mode, known
}

// matches says whether a pattern covers a name.
func matches(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// overlap says whether some name is covered by both patterns.
func overlap(a, b string) bool {
	return matches(a, strings.TrimSuffix(b, "*")) || matches(b, strings.TrimSuffix(a, "*"))
}

// covers says whether a handler has registered for a namespace.
func (h *Handler) covers(name string) bool {
	return slices.ContainsFunc(h.reg.Namespaces, func(p string) bool { return matches(p, name) })
}

// newNamesLocked is how many names and prefixes of a registration are not known yet.
func (hs *handlers) newNamesLocked(h *Handler) (names, prefixes int) {
	for _, p := range h.reg.Namespaces {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			if _, known := hs.prefixes[prefix]; !known {
				prefixes++
			}
		} else if _, known := hs.names[p]; !known {
			names++
		}
	}
	return names, prefixes
}

func (hs *handlers) learnRegistrationLocked(h *Handler, after *followUps) {
	for _, p := range h.reg.Namespaces {
		hs.learnLocked(p, ConnectOpen)
		if !h.reg.DecideConnects || h.reg.Observer || slices.Contains(hs.deciders, p) {
			continue
		}
		if mode, _ := hs.ruleLocked(p); mode == ConnectOpen {
			after.add(func() {
				hs.node.log.Warn("a handler decides connects of an open namespace: until the node restarts nobody comes in without one; configure it so",
					zap.String("nsp", p), zap.String("group", h.reg.Group))
			})
		}
		hs.deciders = append(hs.deciders, p)
	}
	clear(hs.denied)
}
