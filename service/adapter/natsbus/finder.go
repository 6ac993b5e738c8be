package natsbus

import (
	"context"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	findEvery   = 2 * time.Second
	findTimeout = 2 * time.Second
	// keepFor is how long an address counts that the names do not stand for any more. The server closes a connection whose
	// address is taken from it, and resolvers leave out nodes that are there: those that are not ready, or for no reason.
	keepFor = 10 * time.Minute
)

// finder resolves the names of other nodes. The server itself would resolve a name once for each try, and take one of
// its addresses by chance.
type finder struct {
	routes []string
	lookup func(ctx context.Context, host string) ([]string, error)
	log    *zap.Logger
	seen   map[string]time.Time // when an address was last what a route stands for. Owned by the caller of find
}

func newFinder(c *Embedded, log *zap.Logger) *finder {
	f := &finder{routes: c.Routes, lookup: c.lookup, log: log, seen: make(map[string]time.Time)}
	if f.lookup == nil {
		f.lookup = net.DefaultResolver.LookupHost
	}
	return f
}

// find returns the addresses of all routes, sorted, each once. It blocks for findTimeout at most.
func (f *finder) find() []string {
	ctx, cancel := context.WithTimeout(context.Background(), findTimeout)
	defer cancel()
	found := make([][]string, len(f.routes))
	var looking sync.WaitGroup
	for i, route := range f.routes {
		looking.Go(func() { found[i] = f.resolve(ctx, route) })
	}
	looking.Wait()
	now := time.Now()
	for _, address := range slices.Concat(found...) {
		f.seen[address] = now
	}
	maps.DeleteFunc(f.seen, func(_ string, at time.Time) bool { return now.Sub(at) > keepFor })
	return slices.Sorted(maps.Keys(f.seen))
}

// resolve returns the addresses that one route stands for; nil: none is known now.
func (f *finder) resolve(ctx context.Context, route string) []string {
	host, port, err := splitAddress(route)
	if err != nil {
		return nil
	}
	if net.ParseIP(host) != nil {
		return []string{route}
	}
	ips, err := f.lookup(ctx, host)
	if err != nil {
		f.log.Debug("name of nodes not resolved", zap.String("name", host), zap.Error(err))
		return nil
	}
	addresses := make([]string, 0, len(ips))
	for _, ip := range ips {
		addresses = append(addresses, net.JoinHostPort(ip, strconv.Itoa(port)))
	}
	return addresses
}

// urls are addresses as the server takes them. This server's own are no harm: it finds out.
func (e *embedded) urls(addresses []string) []*url.URL {
	urls := make([]*url.URL, 0, len(addresses))
	for _, address := range addresses {
		urls = append(urls, &url.URL{Scheme: "nats-route", Host: address, User: e.user})
	}
	return urls
}

// follow gives the server the addresses of its routes anew when they have changed.
func (e *embedded) follow() {
	tick := time.NewTicker(findEvery)
	defer tick.Stop()
	known := e.finder.find()
	for {
		select {
		case <-e.done:
			return
		case <-tick.C:
		}
		now := e.finder.find()
		if slices.Equal(now, known) {
			continue
		}
		options := e.options.Clone()
		options.Routes = e.urls(now)
		if err := e.server.ReloadOptions(options); err != nil {
			e.log.log.Warn("new addresses of nodes not taken", zap.Error(err))
			continue
		}
		e.log.log.Info("addresses of nodes changed", zap.Strings("addresses", now))
		known = now
	}
}
