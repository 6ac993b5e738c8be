package client

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	// A command that is answered soon shows nothing.
	showAfter = 300 * time.Millisecond
	showEvery = 100 * time.Millisecond

	barColumns = 20
)

// wait shows on a terminal that the command waits, and for what, until stop is called, which may be called
// again. It calls text from another goroutine.
func (s *System) wait(text func() string) (stop func()) {
	if !s.ErrTerminal || !s.mayShow(true) {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		next := time.NewTimer(showAfter)
		defer next.Stop()
		for turn := 0; ; turn++ {
			select {
			case <-end:
				return
			case <-next.C:
			}
			s.draw(string(`|/-\`[turn%4]) + " " + text())
			next.Reset(showEvery)
		}
	}()
	return sync.OnceFunc(func() {
		close(end)
		<-ended
		s.mayShow(false)
	})
}

// mayShow takes or gives back the right to show that it waits: what waits within another wait shows nothing of its own.
func (s *System) mayShow(yes bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.undrawLocked()
	was := s.waiting
	s.waiting = yes
	return !was
}

func (s *System) draw(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Width > 0 {
		text = brief(text, max(s.Width-2, 1))
	}
	s.drawn = true
	_, _ = io.WriteString(s.Err, eraseLine+clean(text))
}

// bar is how much of all is done, as [#####---------------] 5 of 20.
func bar(done, all int) string {
	full := 0 // nothing is known yet
	if all > 0 {
		full = barColumns * min(done, all) / all
	}
	return fmt.Sprintf("[%s%s] %d of %d", strings.Repeat("#", full), strings.Repeat("-", barColumns-full), done, all)
}
