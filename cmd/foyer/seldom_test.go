package main

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// TestSeldom: of a kind the first line is written at once, and then the newest in each time, which says how many were
// not. No line is lost without being counted.
func TestSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		log := seldom(zap.New(core))
		for _, group := range []string{"one", "other", "one"} { // what has no reason is told apart by its group
			log.Info("attached", zap.String("group", group))
		}
		if n := len(logs.TakeAll()); n != 2 {
			t.Errorf("%d lines of two groups", n)
		}
		time.Sleep(2 * tellEvery)
		logs.TakeAll()
		tell := func(log *zap.Logger, message, reason string, n int) {
			log.Info(message, zap.String("reason", reason), zap.Int("n", n))
		}
		want := func(lines ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for _, l := range logs.TakeAll() {
				fields := l.ContextMap()
				got = append(got, fmt.Sprint(l.LoggerName, " ", l.Message, " ", fields["reason"], " ", fields["n"], " ", fields["left_out"]))
			}
			if fmt.Sprint(got) != fmt.Sprint(lines) {
				t.Errorf("got %q, want %q", got, lines)
			}
		}
		tell(log, "refused", "a", 1)
		want(" refused a 1 <nil>")
		tell(log, "refused", "b", 1) // another reason, message or logger is another kind
		tell(log, "closed", "a", 1)
		tell(log.Named("edge"), "refused", "a", 1)
		want(" refused b 1 <nil>", " closed a 1 <nil>", "edge refused a 1 <nil>")
		for n := range 5 {
			tell(log, "refused", "a", 2+n)
		}
		tell(log.With(zap.Int("more", 1)), "refused", "b", 2)
		log.Debug("refused", zap.String("reason", "a"))
		want()
		time.Sleep(tellEvery)
		synctest.Wait()
		if logs.Len() != 2 {
			t.Errorf("%d lines, want two", logs.Len())
		}
		for _, l := range logs.TakeAll() {
			fields := l.ContextMap()
			switch fields["reason"] {
			case "a":
				if fields["n"] != int64(6) || fields["left_out"] != int64(4) {
					t.Errorf("line %v, want the newest, and four left out", fields)
				}
			case "b":
				if _, some := fields["left_out"]; some || fields["more"] != int64(1) {
					t.Errorf("line %v, want it whole, and none left out", fields)
				}
			}
		}
		tell(log, "refused", "a", 7) // that line has begun another time
		want()
		if err := log.Sync(); err != nil {
			t.Error(err)
		}
		want(" refused a 7 <nil>")
		time.Sleep(3 * tellEvery)
		want()
		tell(log, "refused", "a", 8)
		want(" refused a 8 <nil>")
		time.Sleep(2 * tellEvery)
		if n := remembered(log); n != 0 {
			t.Errorf("%d kinds are remembered", n)
		}
	})
}

func remembered(log *zap.Logger) int {
	ks := log.Core().(*seldomCore).kinds
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return len(ks.recent)
}

// TestSeldomIsBounded: whatever is said, it is so many lines in a time, and so many kinds in memory; and whoever adds
// up what is written and left out has all.
func TestSeldomIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		log := seldom(zap.New(core))
		const each, kinds = 500, 3 * mostKinds
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := range each * kinds / 4 / 100 {
					log.Info(fmt.Sprint("line ", i%kinds))
				}
			})
		}
		wg.Wait()
		if n := remembered(log); n > mostKinds+1 {
			t.Errorf("%d kinds are remembered, want %d at most", n, mostKinds+1)
		}
		_ = log.Sync()
		time.Sleep(5 * tellEvery)
		synctest.Wait()
		all := 0
		for _, l := range logs.All() {
			left, _ := l.ContextMap()["left_out"].(int64)
			all += 1 + int(left)
		}
		if want := 4 * (each * kinds / 4 / 100); all != want {
			t.Errorf("%d lines and left out, want %d", all, want)
		}
	})
}

// BenchmarkSeldom is what a line costs that is not written.
func BenchmarkSeldom(b *testing.B) {
	core, _ := observer.New(zapcore.InfoLevel)
	log := seldom(zap.New(core))
	b.ReportAllocs()
	for b.Loop() {
		log.Info("refused", zap.String("reason", "a"), zap.String("address", "10.0.0.1"))
	}
}
