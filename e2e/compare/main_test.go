package main

import (
	"math"
	"testing"
)

// TestHighest finds the highest rate that holds, wherever it begins.
func TestHighest(t *testing.T) {
	for _, want := range []float64{1.5, 7, 20, 33, 640, 5000} {
		got, err := highest(20, func(rate float64) (bool, error) { return rate <= want, nil })
		if err != nil || got > want || got < want/1.11 {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
	}
	if got, err := highest(20, func(float64) (bool, error) { return true, nil }); err != nil || got < 10_000 || math.IsInf(got, 0) {
		t.Errorf("%v, %v of what always holds", got, err)
	}
	if got, err := highest(20, func(float64) (bool, error) { return false, nil }); err != nil || got != 0 {
		t.Errorf("%v, %v of what never holds", got, err)
	}
}

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
