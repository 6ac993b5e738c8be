package service

import (
	"context"
	"errors"
)

// Feed is a watcher of this node's own sockets in a namespace, for another node that follows them. It costs what a
// watcher costs, and never blocks: its owner calls Next when it is woken and has room for what comes. For one
// goroutine.
type Feed struct {
	w     *Watcher
	begun bool // a snapshot has begun
	whole bool // it is told that all was told
}

// Feed begins to tell a follower, from the change with a number on if all of them are kept, else with a snapshot. wake
// is called when Next may have something after it had nothing: with locks of this package held, once, and it must not
// call back. The caller ends it with Close.
func (n *Node) Feed(namespace string, from uint64, wake func()) *Feed {
	f := &Feed{}
	f.begin(n, namespace, from, wake)
	return f
}

func (f *Feed) begin(n *Node, namespace string, from uint64, wake func()) {
	w := &Watcher{node: n, scope: Scope{Namespace: namespace, All: true}, done: make(chan struct{}), wake: wake}
	*f = Feed{w: w}
	w.enter(n.acquire(namespace, true, "")) // how many there may be is bound where they are watched
	w.ns.mu.RLock()
	defer w.ns.mu.RUnlock()
	l := w.log
	l.mu.Lock()
	resumes := from >= l.ownFirst && from <= l.own
	if resumes {
		w.own, w.walking = from, false
		w.pos = max(l.first, min(from, l.next)) // a change stands at its number, or behind it
		w.marks = map[*owner]mark{nil: {number: from}}
	}
	l.mu.Unlock()
	if !resumes {
		w.startWalkLocked(nil)
	}
}

// Close ends the feed.
func (f *Feed) Close() { f.w.Close() }

// Next is what there is to tell, of about so many bytes; ok false: nothing, until wake is called.
func (f *Feed) Next(most int) (t Told, ok bool) {
	t, ok, err := f.next(most)
	if err != nil { // the log has overtaken it too often
		w := f.w
		f.Close()
		f.begin(w.node, w.scope.Namespace, 0, w.wake)
		t, ok, _ = f.next(most)
	}
	return t, ok
}

func (f *Feed) next(most int) (t Told, ok bool, err error) {
	w := f.w
	w.letGo(false)
	w.most = most
	for w.walk != nil && !w.walk.done {
		t.Begin = t.Begin || !f.begun
		f.begun = true
		list, err := w.page(context.Background())
		switch void := voided(0); {
		case errors.As(err, &void):
			f.begun = false
		case err != nil:
			return Told{}, false, err
		case len(list) > 0:
			t.Sockets = list
			return t, true, nil
		}
	}
	t.From = w.own
	for end := false; len(t.Changes) == 0 && !end; {
		if t.Changes, end, _, err = w.read(); err != nil {
			return Told{}, false, err
		}
	}
	t.Next, t.Whole = w.own, w.walk == nil
	ok = len(t.Changes) > 0 || t.Begin || t.Whole && !f.whole
	f.whole = t.Whole
	return t, ok, nil
}
