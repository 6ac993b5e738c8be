package engineio

import (
	"net/http"
	"strings"
	"testing"
)

// A panic on a request's goroutine reaches Crash with its stack, while the lock it came under is still taken: net/http,
// which would recover it, hears of it only when Crash returns.
func TestPanicCrashes(t *testing.T) {
	type crash struct {
		v     any
		stack string
		held  bool
	}
	for name, fail := range map[string]func(data []byte){
		"panic":         func([]byte) { panic("on purpose") },
		"runtime error": func(data []byte) { _ = data[len(data)] },
	} {
		t.Run(name, func(t *testing.T) {
			crashes := make(chan crash, 1)
			var h *harness
			var q string
			h = serveTCP(t, Config{Crash: func(v any, stack []byte) {
				s := h.last().session
				held := !s.recvMu.TryLock()
				if !held {
					s.recvMu.Unlock()
				}
				crashes <- crash{v, string(stack), held}
				if held { // the test goes on, a process does not
					s.recvMu.Unlock()
				}
			}})
			h.onMsg = func(_ *Session, data []byte, _ bool) { fail(data) }
			q, _ = h.openPolling()
			if res, err := h.try("POST", q, strings.NewReader("4a")); err == nil {
				t.Errorf("answered %v", res)
			}
			got := <-crashes
			if !got.held {
				t.Error("the lock is not held any more")
			}
			if !strings.Contains(got.stack, "TestPanicCrashes") {
				t.Errorf("no stack of the panic: %s", got.stack)
			}
		})
	}
}

// ErrAbortHandler is no panic of ours.
func TestAbortIsNoCrash(t *testing.T) {
	h := serveTCP(t, Config{Crash: func(v any, _ []byte) { t.Errorf("crash: %v", v) }})
	h.onMsg = func(s *Session, _ []byte, _ bool) {
		s.recvMu.Unlock() // which nobody else would
		panic(http.ErrAbortHandler)
	}
	q, _ := h.openPolling()
	if res, err := h.try("POST", q, strings.NewReader("4a")); err == nil {
		t.Errorf("answered %v", res)
	}
}
