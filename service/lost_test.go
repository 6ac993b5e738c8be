package service

import "testing"

// TestLossIsRememberedElsewhere: a watcher that was told that a node is lost goes on at nodes that have not lost it, or
// at that node itself, with a reset, since nothing there is newer than what it knows; and with connects under higher
// generations once the node has risen.
func TestLossIsRememberedElsewhere(t *testing.T) {
	v := &village{}
	t.Cleanup(v.close)
	here, there, lost := v.add("here"), v.add("away"), v.add("lost")
	here.eager, there.eager, lost.eager = true, true, true
	connect(t, lost.n, "/")
	w := watch(t, here.n, everybody, "")
	steps(t, w, 2)
	steps(t, watch(t, there.n, everybody, ""), 2)
	here.ways[lost].end()
	delete(here.ways, lost)
	here.n.Lost(lost.n.self, ReasonNodeLost)
	step := steps(t, w, 1)[0]
	wantEqual(t, "lost", []any{step.Events[0].Kind, step.Events[0].Socket.Generation}, []any{PresenceDisconnected, uint64(1)})
	for name, x := range map[string]*neighbour{"where it is not lost": there, "at the lost one": lost} {
		got := steps(t, watch(t, x.n, everybody, step.Token), 3)
		wantEqual(t, name, []any{got[0].Reset, len(got[1].Snapshot), got[2].Synced}, []any{ResetNodeLost, 1, true})
	}
	late := v.add("late")
	steps(t, watch(t, late.n, everybody, ""), 1)
	for _, x := range []*neighbour{here, there} {
		for late.hear(x, 1<<20) {
		}
	}
	again := watch(t, late.n, everybody, step.Token)
	wantEqual(t, "where nobody has heard of it yet", steps(t, again, 1)[0].Synced, true)
	late.hearAll()
	wantEqual(t, "and then has", steps(t, again, 1)[0].Reset, ResetNodeLost)

	lost.n.Rise(1)
	here.ways[lost] = &way{}
	for name, x := range map[string]*neighbour{"here": here, "at the lost one": lost} {
		got := steps(t, watch(t, x.n, everybody, step.Token), 2)
		wantEqual(t, "risen, "+name, []any{got[0].Synced, got[1].Events[0].Kind, got[1].Events[0].Socket.Generation}, []any{true, PresenceConnected, uint64(1<<termShift + 1)})
	}
}
