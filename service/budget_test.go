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

// TestAnotherLimit: what is taken stays so under a lower limit, and nothing is given until there is room again.
func TestAnotherLimit(t *testing.T) {
	b := NewBudget(100)
	for _, c := range []struct {
		limit       int64
		take        int
		fits, taken bool
	}{
		{100, 90, true, true},
		{50, 1, false, false},
		{50, 0, true, true},
		{91, 1, true, true},
		{91, 1, false, false},
		{0, 1000, true, true},
		{1092, 2, false, false},
	} {
		b.SetLimit(c.limit)
		if fits, taken := b.Fits(c.take), b.Take(UseData, c.take); fits != c.fits || taken != c.taken || b.Limit() != max(c.limit, 0) {
			t.Errorf("%d of %d beside %d: fits %v, taken %v", c.take, c.limit, b.Used(), fits, taken)
		}
	}
	wantEqual(t, "used", b.Used(), int64(1091))
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
