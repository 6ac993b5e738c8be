package main

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
)

// perClose is how much time a drain gives each link, up to the window: a few links are closed in a moment.
const perClose = 10 * time.Millisecond

// drain takes the node out of service, in the order in which others depend on it. It is over when the notice, the
// window, waits.lastPoll, waits.end and waits.traces have passed, whatever others do, and as a rule long before: a link
// that has joined nothing is waited for by no step, nor is a connection that has not asked for anything. A second
// signal ends the process.
func (f *foyer) drain() {
	began, sessions := time.Now(), f.engine.Len()
	links := f.engine.Len()
	if f.passing != nil {
		links += f.passing.Len()
	}
	window := min(f.holds.Load().DrainWindow, time.Duration(links)*perClose)
	linksGone, stop := context.WithTimeout(context.Background(), f.holds.Load().DrainNotice+window+f.waits.lastPoll)
	f.empty(linksGone, f.holds.Load().DrainNotice, window) // 1 to 3
	stop()
	left := f.engine.Len()
	f.endLinks()

	ctx, cancel := context.WithTimeout(context.Background(), f.waits.end) // handlers' last words, and running calls
	defer cancel()

	// 4. Handlers and watchers hear of it; handlers finish what they have, and their streams end.
	deadline, _ := ctx.Deadline()
	handlers := f.node.Info().Handlers
	f.stopDemo()
	f.node.BeginDrain(deadline)
	busy := f.node.Idle(ctx)
	f.node.Close()

	// 5. Calls that run may finish, also those over HTTP.
	var overHTTP sync.WaitGroup
	if f.http.api != nil {
		overHTTP.Go(func() { _ = f.http.server.Shutdown(ctx) }) // what is cut is a call of the API, which counts it
	}
	_ = f.api.Shutdown(ctx) // it says how many calls it has cut
	overHTTP.Wait()

	// 6. The others hear what is left to be told, and goodbye; then the rest.
	f.leaveCluster(ctx)
	f.unload()
	f.closeServers()
	f.serving.Wait()
	last, cancel := context.WithTimeout(context.Background(), f.waits.traces) // what the waits have ended is among them
	defer cancel()
	f.tracing.close(last)
	_ = f.told.Sync() // what it has not said yet
	f.tellDrained("signal", began, drained{sessions, left, handlers, busy, f.api.Cut()})
}

// drained is what a drain did.
type drained struct {
	sessions, sessionsCut int // that were there; of them those that were closed without a flush at its end
	handlers, handlersCut int // likewise, of those that had not answered all
	callsCut              int
}

// tellDrained sums a drain up. Nobody needs to act unless something was cut.
func (f *foyer) tellDrained(by string, began time.Time, d drained) {
	level, detail := zap.InfoLevel, "all sessions were closed in good order, and all handlers have answered"
	if d.sessionsCut+d.handlersCut+d.callsCut > 0 {
		level, detail = zap.WarnLevel, "some had not ended in time, and were cut"
	}
	f.log.Log(level, "drained", zap.String("by", by), zap.Int("sessions", d.sessions-d.sessionsCut), zap.Int("sessions_cut", d.sessionsCut),
		zap.Int("handlers", d.handlers-d.handlersCut), zap.Int("handlers_cut", d.handlersCut), zap.Int("calls_cut", d.callsCut),
		zap.Uint64("handshakes_refused", f.engine.Stats()["handshake_refused"]),
		zap.Float64("seconds", time.Since(began).Round(time.Millisecond).Seconds()), zap.String("detail", detail))
}

// empty closes all links of the node at a measured pace. It returns when none is left, or ctx ends.
func (f *foyer) empty(ctx context.Context, notice, window time.Duration) {
	// 1. Balancers and the other nodes look away, while everybody is still served.
	f.log.Info("draining", zap.Int("sessions", f.engine.Len()), zap.Duration("notice", notice), zap.Duration("window", window))
	f.draining.Store(true)
	f.api.NotServing()
	if f.cluster != nil {
		f.cluster.Depart()
	}
	select {
	case <-time.After(notice):
	case <-ctx.Done():
	}

	// 2. No new sessions; the listener stays, since polls and posts of known ones are still served.
	f.engine.Refuse()

	// 3. Links are closed one by one, by their transport, so that clients come back elsewhere; and so are those of clients
	// whose sessions are at other nodes, and which this one passes on.
	var passed sync.WaitGroup
	if f.passing != nil {
		passed.Go(func() { f.passing.Drain(ctx, window) })
	}
	f.engine.Drain(ctx, window)
	passed.Wait()
}

// endLinks closes what is left of links at once.
func (f *foyer) endLinks() {
	f.ui.close() // operators see no more of it, and nothing of theirs is waited for
	f.engine.Close()
	if f.passing != nil {
		f.passing.Close()
	}
}

// emptyByCall is NodeService.Drain: the node is emptied and tells how far it is. It stays, unready, until it is
// stopped.
func (f *foyer) emptyByCall(ctx context.Context, window time.Duration, progress func(left, closed int)) error {
	ctx, cancel := context.WithTimeout(ctx, f.holds.Load().DrainNotice+window+f.waits.lastPoll)
	defer cancel()
	began, total := time.Now(), f.engine.Len()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.empty(ctx, f.holds.Load().DrainNotice, window)
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
			f.tellDrained("call", began, drained{sessions: total, sessionsCut: left})
			if left > 0 {
				return context.Cause(ctx)
			}
			// 4. Handlers and watchers hear of it.
			f.node.BeginDrain(time.Now().Add(f.waits.end))
			return nil
		}
	}
}

func (f *foyer) closeServers() {
	f.http.close()
	_ = f.edgeServer.Close()
	_ = f.adminServer.Close()
	if f.peerServer != nil {
		_ = f.peerServer.Close()
	}
}

// close ends everything at once.
func (f *foyer) close() {
	f.unload()
	f.stopDemo()
	f.closeServers()
	f.endLinks()
	f.node.Close()
	f.api.Stop()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	f.leaveCluster(now)
	// A server that had begun to serve has closed its listener. The other listeners are closed here.
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
	f.tracing.close(now)
}
