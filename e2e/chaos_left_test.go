//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	foyerv1 "foyer/gen/foyer/v1"
)

// traces are what a running node has of all that comes and goes.
type traces map[string]int64

// spare is how much more of a kind a node may have after the load than before it. Everything else is to be as before.
var spare = traces{
	// The servers of NATS try to connect where they are connected already, and to the address that leads nowhere, again
	// and again: each try has a goroutine and a connection for a moment. There were hundreds of clients and streams.
	"goroutines": 2, "files": 2,
}

// unlike is what is not as before when everybody has gone: logs of presence stay for two minutes, for a watcher that
// comes back with a token, and the sockets of a lost node stay in them.
var unlike = []string{"queued_bytes", "copies_bytes"}

// traces asks a node.
func (n *meshNode) traces(ctx context.Context) (traces, error) {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	r, err := n.node.GetInfo(ctx, &foyerv1.GetInfoRequest{})
	if err != nil {
		return nil, err
	}
	all := traces(maps.Clone(r.GetKept()))
	for _, kind := range unlike {
		delete(all, kind)
	}
	all["sessions"], all["sockets"] = int64(r.GetSessions()), int64(r.GetSockets())
	all["namespaces"], all["handlers"] = int64(r.GetNamespaces()), int64(r.GetHandlers())
	profile, err := n.goroutines(ctx)
	if err != nil {
		return nil, err
	}
	var goroutines int64
	if _, err := fmt.Sscanf(profile, "goroutine profile: total %d", &goroutines); err != nil {
		return nil, fmt.Errorf("%w in %.80q", err, profile)
	}
	all["goroutines"] = goroutines
	return all, nil
}

// goroutines is the profile of them. It takes a connection of its own, which is over when it has come.
func (n *meshNode) goroutines(ctx context.Context) (string, error) {
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.admin+"/debug/pprof/goroutine?debug=1", nil)
	if err != nil {
		return "", err
	}
	ask.Close = true
	r, err := http.DefaultClient.Do(ask)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	profile, err := io.ReadAll(r.Body)
	return string(profile), err
}

// before takes note of what each node has before there are clients. Each has been watched once: what is known of other
// nodes then stays for two minutes. And each has had a client: those who wait for what clients send have come for good.
func (c *chaos) before() {
	for _, n := range c.nodes {
		w := api(c.t, n.api)
		ctx, stop := context.WithTimeout(c.t.Context(), patience)
		stream, err := w.presence.Watch(ctx, &foyerv1.WatchRequest{All: true})
		for err == nil {
			var m *foyerv1.WatchResponse
			if m, err = stream.Recv(); m.GetSynced() != nil {
				break
			}
		}
		stop()
		if err != nil {
			c.t.Fatalf("watch at %s: %v", n.name, err)
		}
		w.conn.Close()
		mustJoin(c.t, "", n.edge).Close()
		eventually(c.t, func() error {
			has, err := n.traces(c.t.Context())
			if err == nil && has["sessions"] > 0 {
				err = fmt.Errorf("%d sessions at %s", has["sessions"], n.name)
			}
			return err
		})
	}
	// The most of three looks: what is there for a moment only, such as a heartbeat, comes after the load too.
	c.had = traces{}
	for range 3 {
		for _, n := range c.nodes {
			has, err := n.traces(c.t.Context())
			if err != nil {
				c.t.Fatal(err)
			}
			has["files"] = int64(n.descriptors(c.t))
			for kind, v := range has {
				c.had[kind] = max(c.had[kind], v)
			}
		}
	}
}

// left waits until each node that runs has no more of anything than it had before there were clients, which all go now.
func (c *chaos) left() {
	c.t.Helper()
	for _, client := range c.clients {
		client.Close()
	}
	for _, n := range c.nodes {
		if n.stopped {
			continue
		}
		var has traces
		done := false
		defer func() {
			if !done {
				profile, _ := n.goroutines(context.WithoutCancel(c.t.Context()))
				c.t.Logf("goroutines of %s:\n%.20000s", n.name, profile)
			}
		}()
		eventually(c.t, func() (err error) {
			if has, err = n.traces(c.t.Context()); err != nil {
				return err
			}
			has["files"] = int64(n.descriptors(c.t))
			var more []string
			for _, kind := range slices.Sorted(maps.Keys(has)) {
				if has[kind] > c.had[kind]+spare[kind] {
					more = append(more, fmt.Sprintf("%d %s, and %d before", has[kind], kind, c.had[kind]))
				}
			}
			if len(more) > 0 {
				return fmt.Errorf("%s has %s", n.name, strings.Join(more, "; "))
			}
			return nil
		})
		done = true
		c.t.Logf("%s has %d goroutines and %d files left, and had %d and %d", n.name, has["goroutines"], has["files"], c.had["goroutines"], c.had["files"])
	}
}
