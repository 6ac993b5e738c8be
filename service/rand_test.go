package service

import "math/rand/v2"

// newRand makes random choices that are the same in every run.
func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }
