package metrics

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"foyer/service"
)

// A histogram of a Timing is a native one, whose buckets are those of the Timing, and a classic one for a collector
// that does not take those: its buckets are two of a Timing's each, up to one power of two.
const (
	nativeSchema = 1 // two buckets for each power of two
	classicEach  = 2
)

// histogram is a prometheus.Metric that is both.
type histogram struct {
	desc  *prometheus.Desc
	label []*dto.LabelPair
	as    *dto.Histogram
}

// timing is a Timing as a histogram, with a label or without.
func timing(d *prometheus.Desc, t *service.Timing, label ...string) prometheus.Metric {
	h := histogram{desc: d, as: &dto.Histogram{SampleCount: &t.Count, SampleSum: ptr(t.Sum.Seconds())}}
	if len(label) > 0 {
		h.label = []*dto.LabelPair{{Name: &label[0], Value: &label[1]}}
	}
	last := len(t.Buckets) - 1 // of what is above all bounds
	sum := uint64(0)
	for i, n := range t.Buckets[:last] {
		sum += n
		if i%classicEach == 0 {
			h.as.Bucket = append(h.as.Bucket, &dto.Bucket{CumulativeCount: ptr(sum), UpperBound: ptr(service.TimingBound(i))})
		}
	}
	// What is no more than the first bound is as good as nothing.
	h.as.Schema, h.as.ZeroThreshold, h.as.ZeroCount = ptr(int32(nativeSchema)), ptr(service.TimingBound(0)), &t.Buckets[0]
	before, next := uint64(0), math.MinInt
	for i, n := range t.Buckets[1:] {
		index := i + 1 + service.TimingFirst
		switch {
		case n == 0:
			continue
		case index == next:
			*h.as.PositiveSpan[len(h.as.PositiveSpan)-1].Length++
		default:
			offset := index
			if next != math.MinInt {
				offset -= next
			}
			h.as.PositiveSpan = append(h.as.PositiveSpan, &dto.BucketSpan{Offset: ptr(int32(offset)), Length: ptr(uint32(1))})
		}
		h.as.PositiveDelta = append(h.as.PositiveDelta, int64(n)-int64(before))
		before, next = n, index+1
	}
	return &h
}

func ptr[T any](v T) *T { return &v }

// Desc implements prometheus.Metric.
func (h *histogram) Desc() *prometheus.Desc { return h.desc }

// Write implements prometheus.Metric.
func (h *histogram) Write(m *dto.Metric) error {
	m.Label, m.Histogram = h.label, h.as
	return nil
}
