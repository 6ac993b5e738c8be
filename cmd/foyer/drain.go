package main

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// perClose is how much time a drain gives each link, up to the window: a few links are closed in a moment.
const perClose = 10 * time.Millisecond

// drain takes the node out of service, in the order in which others depend on it. It is over when the notice, the window,
// waits.lastPoll and waits.end have passed, whatever others do, and as a rule long before: a link that has joined nothing is
// waited for by no step, nor is a connection that has not asked for anything. A second signal ends the process.
func (f *foyer) drain() {
	window := min(f.s.DrainWindow, time.Duration(f.engine.Len())*perClose)
	linksGone, stop := context.WithTimeout(context.Background(), f.s.DrainNotice+window+f.waits.lastPoll)
	f.empty(linksGone, f.s.DrainNotice, window) // 1 to 3
	stop()
	f.engine.Close()

	ctx, cancel := context.WithTimeout(context.Background(), f.waits.end) // handlers' last words, and running calls
	defer cancel()

	// 4. Handlers and watchers hear of it; handlers finish what they have, and their streams end.
	deadline, _ := ctx.Deadline()
	f.node.BeginDrain(deadline)
	f.node.Idle(ctx)
	f.stopDemo()
	f.node.Close()

	// 5. Calls that run may finish.
	if err := f.api.Shutdown(ctx); err != nil {
		f.log.Warn("calls were cut off", zap.Error(err))
	}

	// 6. The rest.
	f.unload()
	_ = f.edgeServer.Close()
	_ = f.adminServer.Close()
	f.serving.Wait()
	f.log.Info("stopped")
}

// empty closes all links of the node at a measured pace. It returns when none is left, or ctx ends.
func (f *foyer) empty(ctx context.Context, notice, window time.Duration) {
	// 1. Balancers look away, while everybody is still served.
	f.log.Info("draining", zap.Int("sessions", f.engine.Len()), zap.Duration("notice", notice), zap.Duration("window", window))
	f.draining.Store(true)
	f.api.NotServing()
	select {
	case <-time.After(notice):
	case <-ctx.Done():
	}

	// 2. No new sessions; the listener stays, since polls and posts of known ones are still served.
	f.engine.Refuse()

	// 3. Links are closed one by one, by their transport, so that clients come back elsewhere.
	f.engine.Drain(ctx, window)
}

// emptyByCall is NodeService.Drain: the node is emptied and tells how far it is. It stays, unready, until it is stopped.
func (f *foyer) emptyByCall(ctx context.Context, window time.Duration, progress func(left, closed int)) error {
	ctx, cancel := context.WithTimeout(ctx, f.s.DrainNotice+window+f.waits.lastPoll)
	defer cancel()
	total := f.engine.Len()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.empty(ctx, f.s.DrainNotice, window)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			left := f.engine.Len()
			progress(left, max(0, total-left))
		case <-done:
			left := f.engine.Len()
			progress(left, max(0, total-left))
			if left > 0 {
				return context.Cause(ctx)
			}
			// 4. Handlers and watchers hear of it.
			f.node.BeginDrain(time.Now().Add(f.waits.end))
			return nil
		}
	}
}

// close ends everything at once.
func (f *foyer) close() {
	f.unload()
	f.stopDemo()
	_ = f.edgeServer.Close()
	_ = f.adminServer.Close()
	f.engine.Close()
	f.node.Close()
	f.api.Stop()
	// Whoever had begun to serve has closed its listener; the others are closed here.
	if f.edgeListener != nil {
		_ = f.edgeListener.Close()
	}
	if f.apiListener != nil {
		_ = f.apiListener.Close()
	}
	if f.adminListener != nil {
		_ = f.adminListener.Close()
	}
	f.serving.Wait()
}
