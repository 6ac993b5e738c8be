package main

import "testing"

// TestBetween holds the interval against the table of binomial quantiles for the median that statistics books have.
func TestBetween(t *testing.T) {
	for n, drop := range map[int]int{1: 0, 5: 0, 6: 0, 8: 0, 9: 1, 11: 1, 12: 2, 15: 3, 20: 5, 40: 13} {
		sorted := make([]float64, n)
		for i := range sorted {
			sorted[i] = float64(i)
		}
		if low, high := between(sorted); low != float64(drop) || high != float64(n-1-drop) {
			t.Errorf("of %d: %v to %v, want %d to %d", n, low, high, drop, n-1-drop)
		}
	}
}
