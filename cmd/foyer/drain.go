package main

import (
	"context"
	"time"

	"go.uber.org/zap"
)

const (
	// perClose is how much time a drain gives each link, up to the window: a few links are closed in a moment.
	perClose = 10 * time.Millisecond
	// endTime bounds what comes after the links: handlers' last words and running calls.
	endTime = 5 * time.Second
)

// drain takes the node out of service, in the order in which others depend on it. A second signal ends the process.
func (f *foyer) drain() {
	// 1. Balancers look away, while everybody is still served.
	f.log.Info("draining", zap.Int("sessions", f.engine.Len()), zap.Duration("notice", f.s.DrainNotice))
	f.draining.Store(true)
	f.api.NotServing()
	time.Sleep(f.s.DrainNotice)

	window := min(f.s.DrainWindow, time.Duration(f.engine.Len())*perClose)
	ctx, cancel := context.WithTimeout(context.Background(), window+endTime)
	defer cancel()

	// 2. No new sessions; the listener stays, since polls and posts of known ones are still served.
	f.engine.Refuse()

	// 3. Links are closed one by one, by their transport, so that clients come back elsewhere.
	f.engine.Drain(ctx, window)
	f.engine.Close()

	// 4. Handlers and watchers hear of it, and their streams end.
	f.stopDemo()
	f.node.BeginDrain(time.Now().Add(endTime))
	f.node.Close()

	// 5. Calls that run may finish.
	if err := f.api.Shutdown(ctx); err != nil {
		f.log.Warn("calls were cut off", zap.Error(err))
	}

	// 6. The rest.
	_ = f.edgeServer.Close()
	_ = f.adminServer.Close()
	f.serving.Wait()
	f.log.Info("stopped")
}

// close ends everything at once.
func (f *foyer) close() {
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
