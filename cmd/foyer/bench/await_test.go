package bench

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// later takes a listener away and brings it back; after 0 it stays away.
func (n *network) later(addr string, after time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.listeners[addr]
	delete(n.listeners, addr)
	if after > 0 {
		time.AfterFunc(after, func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.listeners[addr] = l
		})
	}
}

// TestAwait: a server that is about to listen is waited for, edge and API, and that is said once for each; one that
// never does ends the run with its flag when the patience is over.
func TestAwait(t *testing.T) {
	for _, c := range []struct {
		name      string
		edge, api time.Duration // when they listen; below zero: at once; 0: never
		want      want
		notes     string
	}{
		{"both are there", -1, -1, want{deliveries: 30}, ""},
		{"the edge comes", 3 * time.Second, -1, want{deliveries: 30}, "waiting up to 15s for the server at server:80\n"},
		{"the API comes", -1, 14 * time.Second, want{deliveries: 30}, "waiting up to 15s for the API at server:50051\n"},
		{
			"both come", 3 * time.Second, 9 * time.Second,
			want{deliveries: 30},
			"waiting up to 15s for the server at server:80\nwaiting up to 15s for the API at server:50051\n",
		},
		{"no edge", 0, -1, want{err: "--url: nobody listens at server:80 within 15s"}, "waiting up to 15s for the server at server:80\n"},
		{"no API", -1, 0, want{err: "--api: nobody listens at server:50051 within 15s"}, "waiting up to 15s for the API at server:50051\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &fakeFoyer{}
				o := a.serve(t, "broadcast")
				var notes strings.Builder
				o.Notes = &notes
				if c.edge >= 0 {
					a.f.later(fakeAddr, c.edge)
				}
				if c.api >= 0 {
					a.f.later(fakeAPI, c.api)
				}
				began := time.Now()
				r, err := Run(t.Context(), o)
				c.want.check(t, r, err)
				if took := time.Since(began); err != nil && took != o.Patience {
					t.Errorf("it gave up after %v", took)
				}
				if notes.String() != c.notes {
					t.Errorf("notes: %q, want %q", notes.String(), c.notes)
				}
			})
		})
	}
}

// TestWhatWaitingDoesNotHeal fails at once, with a word on what to do.
func TestWhatWaitingDoesNotHeal(t *testing.T) {
	for _, transport := range []string{transportWebSocket, transportPolling} {
		for name, c := range map[string]struct {
			set  func(f *fake, o *Options)
			tls  bool
			want string
		}{
			"https to plain": {func(_ *fake, o *Options) { o.URL = "https://" + fakeAddr }, false, "--url: server:80 does not speak TLS: say http://"},
			"http to TLS":    {func(*fake, *Options) {}, true, "server:80 speaks TLS: say https://"},
			"TLS to a plain API": {
				func(_ *fake, o *Options) { o.API, o.APITLS = fakeAddr, true }, false, "--api: server:80 does not speak TLS: leave --api-tls away",
			},
			"no such host": {func(_ *fake, o *Options) {
				o.dial = func(_ context.Context, _, addr string) (net.Conn, error) {
					return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: addr, IsNotFound: true}}
				}
			}, false, "--url: there is no host of the name in server:80"},
			"interrupted": {func(f *fake, _ *Options) { f.later(fakeAddr, 0) }, false, "interrupted"},
		} {
			t.Run(name+"/"+transport, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := &fake{}
					s := f.start(t)
					if c.tls {
						s.StartTLS()
					} else {
						s.Start()
					}
					o := f.options("broadcast")
					o.Transport = transport
					if name == "http to TLS" {
						o.Scenario = "connect"
					}
					c.set(f, &o)
					ctx, cancel := context.WithCancelCause(t.Context())
					if name == "interrupted" {
						time.AfterFunc(0, func() { cancel(errors.New("interrupted")) })
					}
					began := time.Now()
					r, err := Run(ctx, o)
					cancel(nil)
					want{err: c.want}.check(t, r, err)
					if took := time.Since(began); took != 0 {
						t.Errorf("it took %v", took)
					}
				})
			})
		}
	}
}
