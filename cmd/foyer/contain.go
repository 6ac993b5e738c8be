package main

import (
	"net/http"
	"runtime/debug"

	"go.uber.org/zap"
)

// page answers a request that is for it, and says whether it was.
type page func(http.ResponseWriter, *http.Request) bool

// pageOf answers all.
func pageOf(h http.Handler) page {
	return func(w http.ResponseWriter, r *http.Request) bool {
		h.ServeHTTP(w, r)
		return true
	}
}

func (p page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p(w, r) }

// contain keeps a panic of a page to its request, which net/http would do without a count. A page holds no state and no
// lock; what does is not to be contained: see package service.
func (f *foyer) contain(p page) page {
	return func(w http.ResponseWriter, r *http.Request) (served bool) {
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler: // a way to close the connection
				panic(v)
			default:
				f.panics.Add(1)
				f.told.Error("panic of a page", zap.String("reason", "page_panic"), zap.String("path", r.URL.Path), zap.Any("panic", v), zap.ByteString("stack", debug.Stack()))
				http.Error(w, "internal error", http.StatusInternalServerError)
				served = true
			}
		}()
		return p(w, r)
	}
}
