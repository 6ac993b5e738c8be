package adminui

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"foyer/service"
)

// What the panel costs is what a look costs, every 2 s, with what the node does for it: the metric is its part of one
// processor, what was taken for memory in the meantime included. Between two looks 1000 sockets come and 1000 go.
func BenchmarkLookAtCrowd(b *testing.B) {
	for _, n := range []int{2000, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkLook(b, n, 1000) })
	}
}

func benchmarkLook(b *testing.B, sockets, churn int) {
	node, err := service.New(service.Config{NodeID: "node"})
	if err != nil {
		b.Fatal(err)
	}
	defer node.Close()
	h := &house{TB: b, node: node}
	all := h.crowd("/", "a", sockets)
	out := make(chan said, 16*maxSaid)
	w := newWatch(b.Context(), Config{API: serveMemory(b, node), Namespaces: node.Namespaces, Links: func() Links { return Links{} }}, out)
	defer w.cancel()
	next, took, looks := 0, time.Duration(0), 0
	for b.Loop() {
		for range churn {
			l := all[next%sockets]
			node.End(l.socket, service.ReasonTransportClose, "")
			next++
		}
		for i, l := range h.crowd("/", "b", churn) {
			all[(next-churn+i)%sockets] = l
		}
		w.sample.at = w.sample.at.Add(-tellEvery) // as if so much time had passed
		began := processorTime(b)
		w.look()
		for len(out) > 0 {
			s := <-out
			_, _ = encode(s.args)
		}
		took += processorTime(b) - began
		looks++
	}
	b.ReportMetric(took.Seconds()/float64(looks)/tellEvery.Seconds()*100, "%core")
	b.ReportMetric(float64(len(w.sockets)), "shown")
}

// processorTime is what this process has taken, in all its threads.
func processorTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
