package service

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestFifo: what was pushed comes out in its order, whatever room the queue makes meanwhile.
func TestFifo(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var q fifo[*int]
		var model []*int
		for range rapid.IntRange(1, 20).Draw(rt, "rounds") {
			for range rapid.IntRange(0, 3000).Draw(rt, "pushes") {
				v := new(int)
				q.push(v)
				model = append(model, v)
			}
			for range min(rapid.IntRange(0, 3000).Draw(rt, "pops"), len(model)) {
				if got := q.pop(); got != model[0] {
					rt.Fatal("another item")
				}
				model = model[1:]
			}
			if q.len() != len(model) || len(model) > 0 && *q.first() != model[0] {
				rt.Fatalf("%d items, want %d", q.len(), len(model))
			}
			if rest := q.items[:cap(q.items)]; slices.ContainsFunc(rest[:q.head], notNil) || slices.ContainsFunc(rest[len(q.items):], notNil) {
				rt.Fatal("an item that was taken is still held")
			}
			if q.len() == 0 && cap(q.items) > fifoKeeps {
				rt.Fatalf("empty with room for %d items", cap(q.items))
			}
		}
		if !slices.Equal(q.take(), model) || q.len() != 0 {
			rt.Fatal("took something else")
		}
	})
}

func notNil(p *int) bool { return p != nil }
