package client

import (
	"errors"

	foyerv1 "foyer/gen/foyer/v1"
)

// scope are the flags of a target, the same for all commands. None has a variable: what a command does to whom is not
// to depend on what somebody has set before.
type scope struct {
	Namespace string   `short:"n" env:"-" group:"Whom" placeholder:"NAME" help:"The namespace. Default /."`
	Room      []string `short:"r" env:"-" group:"Whom" sep:"none" placeholder:"ROOM" help:"The sockets in this room; again for more rooms. The id of a socket is a room with it alone."`
	Except    []string `env:"-" group:"Whom" sep:"none" placeholder:"ROOM" help:"But not those in this room; again for more rooms."`
	All       bool     `env:"-" group:"Whom" help:"All sockets of the namespace."`
	Local     bool     `env:"-" group:"Whom" help:"Of the node that is asked alone."`
}

func (s *scope) target() *foyerv1.Target {
	return &foyerv1.Target{Namespace: s.Namespace, Rooms: s.Room, ExceptRooms: s.Except, All: s.All, Local: s.Local}
}

// Validate is called by kong.
func (s *scope) Validate() error {
	if s.All && len(s.Room) > 0 {
		return errors.New("--room and --all exclude each other")
	}
	return nil
}

// target is a scope that has to say whom: never everyone by accident.
type target struct{ scope }

// Validate is called by kong.
func (t *target) Validate() error {
	if !t.All && len(t.Room) == 0 {
		return errors.New("--room or --all is missing: it says whom")
	}
	return t.scope.Validate()
}

// anyone is a scope that means all when it says nothing, for commands that look only.
type anyone struct{ scope }

func (a *anyone) target() *foyerv1.Target {
	t := a.scope.target()
	t.All = len(t.GetRooms()) == 0
	return t
}
