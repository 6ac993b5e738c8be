package service

import (
	"math"
	"time"
)

// Timing is how long something took, each time. It is guarded by what guards its owner.
type Timing struct {
	Count   uint64
	Sum     time.Duration
	Buckets [TimingBuckets]uint64 // see TimingBound; the last is of what exceeded the bounds of all others
}

// The buckets of a Timing: two for each power of two, as those of a native histogram of Prometheus with schema 1.
const (
	TimingBuckets = 50
	TimingFirst   = -34 // index of the first one in such a histogram; of 7.6 us. The last but one is of 128 s
)

// TimingBound is the most that a thing of a bucket took, in seconds. It took more than the bound of the bucket before.
func TimingBound(bucket int) float64 {
	half := bucket + TimingFirst
	bound := math.Ldexp(1, half>>1)
	if half&1 != 0 {
		bound *= math.Sqrt2
	}
	return bound
}

func (t *Timing) add(took time.Duration) {
	t.Count++
	t.Sum += took
	t.Buckets[timingBucket(took)]++
}

func timingBucket(took time.Duration) int {
	if took <= 0 {
		return 0
	}
	part, power := math.Frexp(took.Seconds()) // from a half up to one
	index := 2 * power
	switch {
	case part == 0.5:
		index -= 2
	case part <= math.Sqrt2/2:
		index--
	}
	return min(max(index-TimingFirst, 0), TimingBuckets-1)
}

func (t *Timing) merge(other *Timing) {
	t.Count += other.Count
	t.Sum += other.Sum
	for i, n := range other.Buckets {
		t.Buckets[i] += n
	}
}
