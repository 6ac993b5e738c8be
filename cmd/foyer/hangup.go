package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// hangups catches SIGHUP until stop: it asks a node to reload. When the terminal that the node was started in is
// closed, the same signal says so and means the end, as for any other program: then cancel is called. A node that was
// started to outlive its terminal (nohup) does.
func hangups(cancel context.CancelFunc) (asked <-chan os.Signal, stop func()) {
	const terminal = "/dev/tty" // can be opened by who has one; absent on Windows, where nobody sends this signal
	has := func() bool {
		f, err := os.Open(terminal)
		if err == nil {
			_ = f.Close()
		}
		return err == nil
	}
	ends := has() && !signal.Ignored(syscall.SIGHUP)
	caught, reload, done := make(chan os.Signal, 1), make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(caught, syscall.SIGHUP)
	go func() {
		defer close(done)
		for s := range caught {
			if ends && !has() {
				cancel()
				continue
			}
			select {
			case reload <- s:
			default: // one that waits is enough
			}
		}
	}()
	return reload, func() {
		signal.Stop(caught)
		close(caught)
		<-done
	}
}
