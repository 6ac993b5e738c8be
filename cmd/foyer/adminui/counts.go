package adminui

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

// counted holds the numbers of sockets that one look has found.
type counted struct {
	nodes      []*foyerv1.Node
	namespaces []spaceCount // by name
	sockets    int
}

// spaceCount holds the numbers of one namespace.
type spaceCount struct {
	name string
	all  int
	at   map[string]int // sockets by node
}

// shown says whether pages show single sockets of it: "/" always, since it is always there.
func (s *spaceCount) shown() bool { return s.all > 0 || s.name == "/" }

// Links holds the numbers of the links of this node, and of what they have done since it started.
type Links struct {
	Open, Polling         int
	Opened                uint64
	PacketsIn, PacketsOut uint64
	BytesIn, BytesOut     uint64
}

// count asks how many sockets there are. It asks Explain about an event for an empty room: the answer says for each
// node how many sockets the event would not reach, which are all of them. A list of the sockets would cost the nodes
// much more. It asks about all namespaces at once, so that a slow node holds up the look for one wait only.
func (w *watch) count() (*counted, error) {
	ctx, cancel := context.WithTimeout(w.ctx, callTimeout)
	defer cancel()
	list, err := foyerv1.NewNodeServiceClient(w.cfg.API).ListNodes(ctx, &foyerv1.ListNodesRequest{})
	if err != nil {
		return nil, err
	}
	c := &counted{nodes: list.GetNodes()}
	names := w.cfg.Namespaces(maxNamespaces)
	for name := range w.followed {
		names = append(names, name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	names = names[:min(len(names), maxNamespaces)]
	c.namespaces = make([]spaceCount, len(names))
	errs := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { c.namespaces[i], errs[i] = w.countOne(ctx, name) })
	}
	all.Wait()
	for i := range c.namespaces {
		c.sockets += c.namespaces[i].all
	}
	return c, errors.Join(errs...)
}

// countOne asks how many sockets one namespace has.
func (w *watch) countOne(ctx context.Context, name string) (spaceCount, error) {
	s := spaceCount{name, 0, map[string]int{}}
	x, err := foyerv1.NewSocketServiceClient(w.cfg.API).Explain(ctx, &foyerv1.ExplainRequest{
		Target: &foyerv1.Target{Namespace: name, Rooms: []string{w.nobody}}, SampleSize: 1,
	})
	for _, n := range x.GetNodes() {
		for _, v := range n.GetVerdicts() {
			s.at[n.GetNodeId()] += int(v.GetCount())
		}
		s.all += s.at[n.GetNodeId()]
	}
	return s, err
}

// tellStats sends the numbers of each node to the pages. The watch knows what links do for this node only.
func (w *watch) tellStats(c *counted, now time.Time) {
	for _, n := range c.nodes {
		if !n.GetAnswers() && n.GetState() != foyerv1.NodeState_NODE_STATE_UP && n.GetState() != foyerv1.NodeState_NODE_STATE_DRAINING {
			continue // a page that hears nothing of a node soon shows it as not healthy
		}
		s := stats{
			ServerID: n.GetNodeId(), Hostname: n.GetNodeId(), Uptime: now.Sub(n.GetStartedAt().AsTime()).Seconds(),
			Aggregated: []aggregated{}, Namespaces: []namespaceCount{},
		}
		sockets := 0
		for _, of := range c.namespaces {
			s.Namespaces = append(s.Namespaces, namespaceCount{of.name, of.at[n.GetNodeId()]})
			sockets += of.at[n.GetNodeId()]
		}
		if n.GetAnswers() {
			links := w.cfg.Links()
			s.Hostname, s.PID, s.Clients, s.Polling = w.cfg.Hostname, w.cfg.PID, links.Open, links.Polling
			s.Aggregated, w.links = changesOf(w.links, links, now), links
		} else {
			s.Clients, s.Polling = w.linksOf(n.GetNodeId(), sockets)
		}
		w.say("", "server_stats", s)
	}
}

// linksOf returns how many links another node has, and how many of them are on polling. It works this out from the
// sockets of that node that the watch knows. When these are a sample, the numbers are estimates.
func (w *watch) linksOf(node string, sockets int) (links, polling int) {
	clients, known, polls := map[string]struct{}{}, 0, 0
	for _, o := range w.sockets {
		if o.node != node {
			continue
		}
		known++
		if _, twice := clients[o.ClientID]; !twice && o.Transport == "polling" {
			polls++
		}
		clients[o.ClientID] = struct{}{}
	}
	if known == 0 {
		return sockets, 0
	}
	share := float64(sockets) / float64(known)
	return int(math.Round(share * float64(len(clients)))), int(math.Round(share * float64(polls)))
}

// changesOf returns what the links have done between two looks.
func changesOf(before, now Links, at time.Time) []aggregated {
	list, second := []aggregated{}, at.Truncate(time.Second).UnixMilli()
	for _, one := range []struct {
		name          string
		before, after uint64
	}{
		{"rawConnection", before.Opened, now.Opened},
		{"rawDisconnection", before.Opened - uint64(before.Open), now.Opened - uint64(now.Open)},
		{"packetsIn", before.PacketsIn, now.PacketsIn},
		{"packetsOut", before.PacketsOut, now.PacketsOut},
		{"bytesIn", before.BytesIn, now.BytesIn},
		{"bytesOut", before.BytesOut, now.BytesOut},
	} {
		if one.after > one.before {
			list = append(list, aggregated{Timestamp: second, Type: one.name, Count: int(one.after - one.before)})
		}
	}
	return list
}
