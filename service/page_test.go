package service

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestPageHasItsBudget: a page ends before the socket that would make it too large in its view, and has one at least.
func TestPageHasItsBudget(t *testing.T) {
	n := newNode(t, Config{})
	for i := range 6 {
		s, _ := connect(t, n, "/", strings.Repeat("r", 100))
		data := fmt.Appendf(nil, `{"n":%q}`, strings.Repeat("x", 1000*(1+i%2)))
		if _, err := n.Update(t.Context(), "/", s.ID(), Update{Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := n.Sockets(t.Context(), Target{Namespace: "/", All: true}, PageRequest{Limit: 10})
	if err != nil || len(all.Sockets) != 6 {
		t.Fatal(len(all.Sockets), err)
	}
	for _, target := range []Target{{Namespace: "/", All: true}, {Namespace: "/", All: true, ExceptRooms: []string{"x"}}} {
		for _, view := range []View{ViewRef, ViewBasic, ViewFull} {
			for _, bytes := range []int{1, 200, 700, 2500, 10_000} {
				at := 0
				for r := (PageRequest{Limit: 4, Bytes: bytes, View: view}); ; {
					page, err := n.Sockets(t.Context(), target, r)
					if err != nil {
						t.Fatal(err)
					}
					want, sum := 0, 0
					for _, s := range all.Sockets[at:] {
						if sum += view.Bytes(&s); want == r.Limit || want > 0 && sum > bytes {
							break
						}
						want++
					}
					if len(page.Sockets) != want || page.Sockets[0].ID != all.Sockets[at].ID {
						t.Fatalf("view %d within %d bytes: %d sockets from the %dth on, want %d", view, bytes, len(page.Sockets), at, want)
					}
					at += want
					if r.Place = page.Next; r.Place == (Place{}) {
						break
					}
				}
				wantEqual(t, "listed", at, 6)
			}
		}
	}
}

// TestPlaceIsOfOneRun: a place of an earlier run of the node does not leave out those that came with the new one, and
// another node's is refused.
func TestPlaceIsOfOneRun(t *testing.T) {
	all := Target{Namespace: "/", All: true}
	list := func(n *Node, p Place) (Page, error) {
		return n.Sockets(t.Context(), all, PageRequest{Place: p, Limit: 2})
	}
	before, now, other := newNode(t, Config{NodeID: "same"}), newNode(t, Config{NodeID: "same"}), newNode(t, Config{NodeID: "else"})
	for range 4 {
		connect(t, before, "/")
		connect(t, now, "/")
	}
	first, err := list(before, Place{})
	wantEqual(t, "first", []any{len(first.Sockets), first.Total, err}, []any{2, 4, nil})
	second, err := list(before, first.Next)
	wantEqual(t, "second", []any{len(second.Sockets), second.Total, second.Next, err}, []any{2, 0, Place{}, nil})
	beginning, _ := list(now, Place{})
	anew, err := list(now, first.Next)
	wantEqual(t, "in a later run", []any{anew.Sockets[0].ID, anew.Total, err}, []any{beginning.Sockets[0].ID, 0, nil})
	if _, err := list(other, first.Next); !errors.Is(err, ErrToken) {
		t.Errorf("at another node: %v, want %v", err, ErrToken)
	}
}

// TestRoomIsListedOnce: one that the walk comes to twice, since it went and was made anew meanwhile, takes one place.
func TestRoomIsListedOnce(t *testing.T) {
	twice := []RoomInfo{{"d", 1}, {"b", 1}, {"a", 1}, {"b", 1}, {"a", 1}, {"c", 1}}
	for most, want := range map[int][]RoomInfo{
		1: {{"a", 1}}, 3: {{"a", 1}, {"b", 1}, {"c", 1}}, 5: {{"a", 1}, {"b", 1}, {"c", 1}, {"d", 1}},
	} {
		wantEqual(t, "rooms", firstRooms(slices.Clone(twice), most), want)
	}
}
