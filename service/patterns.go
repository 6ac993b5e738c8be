package service

import (
	"slices"
	"strings"
)

// patterns keeps a value for each of many names and prefixes. To find what covers a name costs a look for each length
// that prefixes have, however many patterns there are. The zero value is empty.
type patterns[V any] struct {
	exact    map[string]V
	prefixes map[string]V // without their star
	lengths  []int        // of prefixes, longest first
}

func makePatterns(list []string) patterns[struct{}] {
	var p patterns[struct{}]
	for _, pattern := range list {
		p.set(pattern, struct{}{})
	}
	return p
}

func (p *patterns[V]) get(pattern string) (V, bool) {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		v, ok := p.prefixes[prefix]
		return v, ok
	}
	v, ok := p.exact[pattern]
	return v, ok
}

func (p *patterns[V]) set(pattern string, v V) {
	prefix, ok := strings.CutSuffix(pattern, "*")
	if !ok {
		if p.exact == nil {
			p.exact = map[string]V{}
		}
		p.exact[pattern] = v
		return
	}
	if p.prefixes == nil {
		p.prefixes = map[string]V{}
	}
	p.prefixes[prefix] = v
	if i, ok := p.placeOf(len(prefix)); !ok {
		p.lengths = slices.Insert(p.lengths, i, len(prefix))
	}
}

// remove takes a pattern out. Lengths stay: there are at most as many as a name has bytes.
func (p *patterns[V]) remove(pattern string) {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		delete(p.prefixes, prefix)
	} else {
		delete(p.exact, pattern)
	}
}

func (p *patterns[V]) placeOf(length int) (int, bool) {
	return slices.BinarySearchFunc(p.lengths, length, func(a, b int) int { return b - a })
}

// covering calls do with the value of each pattern that covers a name, the closest first, until do says false.
func (p *patterns[V]) covering(name string, do func(V) bool) {
	if v, ok := p.exact[name]; ok && !do(v) {
		return
	}
	for _, n := range p.lengths {
		if n > len(name) {
			continue
		}
		if v, ok := p.prefixes[name[:n]]; ok && !do(v) {
			return
		}
	}
}

// covers says whether some pattern covers a name.
func (p *patterns[V]) covers(name string) bool {
	if _, ok := p.exact[name]; ok {
		return true
	}
	return p.hasPrefixOf(name)
}

func (p *patterns[V]) hasPrefixOf(name string) bool {
	for _, n := range p.lengths {
		if n <= len(name) {
			if _, ok := p.prefixes[name[:n]]; ok {
				return true
			}
		}
	}
	return false
}

// meet is a pattern of p that covers a name which one of q covers too; false: no name is covered by both.
func (p *patterns[V]) meet(q *patterns[V]) (string, bool) {
	for name := range p.exact {
		if q.covers(name) {
			return name, true
		}
	}
	for prefix := range p.prefixes {
		if q.hasPrefixOf(prefix) {
			return prefix + "*", true
		}
	}
	for name := range q.exact {
		if p.hasPrefixOf(name) {
			return name, true
		}
	}
	for prefix := range q.prefixes {
		if p.hasPrefixOf(prefix) {
			return prefix + "*", true
		}
	}
	return "", false
}

// same says whether two sets have the same patterns.
func (p *patterns[V]) same(q *patterns[V]) bool {
	return sameKeys(p.exact, q.exact) && sameKeys(p.prefixes, q.prefixes)
}

func sameKeys[V any](a, b map[string]V) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if _, ok := b[k]; !ok {
			return false
		}
	}
	return true
}
