package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// TestContain: a panic of a page is told in the log and counted, and nothing else is affected.
func TestContain(t *testing.T) {
	core, logs := observer.New(zapcore.ErrorLevel)
	f := &foyer{log: zap.New(core), told: zap.New(core)}
	p := f.contain(pageOf(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/fault":
			panic(errors.New("a fault"))
		case "/abort":
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusNoContent)
	})))
	for path, want := range map[string]int{"/fault": http.StatusInternalServerError, "/": http.StatusNoContent} {
		w := httptest.NewRecorder()
		if served := p(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)); !served || w.Code != want {
			t.Errorf("%s: got %d, served %t, want %d", path, w.Code, served, want)
		}
	}
	func() {
		defer func() {
			if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
				t.Errorf("got %v, want %v", err, http.ErrAbortHandler)
			}
		}()
		p(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/abort", http.NoBody))
	}()
	list := logs.All()
	if len(list) != 1 || f.panics.Load() != 1 {
		t.Fatalf("%d entries are in the log and %d are counted, want 1", len(list), f.panics.Load())
	}
	if stack, _ := list[0].ContextMap()["stack"].(string); !strings.Contains(stack, "TestContain") {
		t.Errorf("the stack does not lead to the fault: %v", list[0].ContextMap())
	}
}
