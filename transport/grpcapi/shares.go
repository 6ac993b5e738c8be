package grpcapi

import (
	"context"
	"fmt"
	"sync"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// shares counts what callers have of something that the node has so many of. One caller has half of them at most, so
// that a fault of one backend leaves room for the others. Safe for concurrent use.
type shares struct {
	limit int

	mu    sync.Mutex
	total int            // guarded by mu
	held  map[string]int // by caller; guarded by mu
}

func newShares(limit int) *shares { return &shares{limit: limit, held: make(map[string]int)} }

// each is how many one caller has at most.
func (s *shares) each() int { return max(1, s.limit/2) }

// take counts one more; false: there is none left, or none for this caller.
func (s *shares) take(caller string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= s.limit || s.held[caller] >= s.each() {
		return false
	}
	s.total++
	s.held[caller]++
	return true
}

func (s *shares) give(caller string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.held[caller]--; s.held[caller] == 0 {
		delete(s.held, caller)
	}
}

// beyondShare counts that a caller's share of streams is used up, and says so.
func (s *Server) beyondShare(ctx context.Context, of *shares, what string) error {
	s.gate.refuse(refusedShare, hostOfCall(ctx), fmt.Sprintf("this caller's share of %s is %d, half of what this node has", what, of.each()))
	return fail(service.Exhausted, foyerv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, "",
		"this caller's share of %s is %d, half of what the node takes, and is used up", what, of.each())
}
