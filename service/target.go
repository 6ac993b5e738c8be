package service

import (
	"slices"
	"strings"
)

// Target says which sockets of one namespace are meant: the union of Rooms, or All of them, without those in
// ExceptRooms. A socket's id is also the room that holds this socket alone.
type Target struct {
	Namespace   string // as Canonical gives it
	Rooms       []string
	ExceptRooms []string
	All         bool
	Local       bool // only sockets of this node
}

// equal says whether two targets of one namespace mean the same sockets by the same words.
func (t *Target) equal(o *Target) bool {
	return t.All == o.All && t.Local == o.Local && slices.Equal(t.Rooms, o.Rooms) && slices.Equal(t.ExceptRooms, o.ExceptRooms)
}

// Canonical is the full name of a namespace: "" is "/", and a missing slash is added.
func Canonical(namespace string) string {
	if strings.HasPrefix(namespace, "/") {
		return namespace
	}
	return "/" + namespace
}

// Coverage says which nodes an answer does not speak for.
type Coverage struct {
	Unreachable        []string
	UnreachableUnnamed int
	UncountedNodes     int
}

// none says whether the answer speaks for all nodes.
func (c *Coverage) none() bool {
	return len(c.Unreachable) == 0 && c.UnreachableUnnamed == 0 && c.UncountedNodes == 0
}
