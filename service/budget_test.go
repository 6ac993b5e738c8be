package service

import (
	"testing"
)

func TestBudget(t *testing.T) {
	b := NewBudget(100)
	if !b.Take(UseOutbound, 60) || b.Take(UseInbound, 41) || !b.Take(UseInbound, 40) {
		t.Fatal("want 60 and 40 of 100 taken, and 41 beside 60 refused")
	}
	b.Force(UseNotices, 10)
	if got := b.Used(); got != 110 {
		t.Errorf("used: got %d, want 110", got)
	}
	if got := b.Refused(UseInbound); got != 1 {
		t.Errorf("refused: got %d, want 1", got)
	}
	b.Give(UseOutbound, 60)
	b.Give(UseInbound, 40)
	b.Give(UseNotices, 10)
	for u := UseOutbound; u <= UseAcks; u++ {
		if got := b.UsedBy(u); got != 0 {
			t.Errorf("%v: got %d bytes left, want 0", u, got)
		}
	}
	if unlimited := NewBudget(0); !unlimited.Take(UseAcks, 1<<40) {
		t.Error("a budget without a limit refuses")
	}
}

// TestRefusalsAreTold: whatever the budget refuses is counted with its use among what the node dropped.
func TestRefusalsAreTold(t *testing.T) {
	b := NewBudget(10)
	n := newNode(t, Config{Budget: b})
	for u := range useCount {
		b.Take(u, 11)
		if got := n.Info().Dropped["budget_"+u.String()]; got != 1 {
			t.Errorf("%v: got %d refusals, want 1", u, got)
		}
	}
	wantEqual(t, "told", []int64{n.Info().Budget, n.Info().Held}, []int64{10, 0})
}
