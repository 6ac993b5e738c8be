package adminui

import (
	"context"
	"math"
	"slices"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

// counted is how many sockets a look has found.
type counted struct {
	nodes      []*foyerv1.Node
	namespaces []spaceCount // by name
	sockets    int
}

// spaceCount is of one namespace.
type spaceCount struct {
	name string
	all  int
	at   map[string]int // by node
}

func (c *counted) names() []string {
	list := make([]string, len(c.namespaces))
	for i := range c.namespaces {
		list[i] = c.namespaces[i].name
	}
	return list
}

// Links are those of this node, and what they have done since it started.
type Links struct {
	Open, Polling         int
	Opened                uint64
	PacketsIn, PacketsOut uint64
	BytesIn, BytesOut     uint64
}

// count asks how many sockets there are. It asks whom an event for a room would reach that nobody is in: the answer has the
// number of all others by their nodes, and costs no node more than that.
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
	for _, name := range names[:min(len(names), maxNamespaces)] {
		x, err := foyerv1.NewSocketServiceClient(w.cfg.API).Explain(ctx, &foyerv1.ExplainRequest{
			Target: &foyerv1.Target{Namespace: name, Rooms: []string{w.nobody}}, SampleSize: 1,
		})
		if err != nil {
			return nil, err
		}
		s := spaceCount{name, 0, map[string]int{}}
		for _, n := range x.GetNodes() {
			for _, v := range n.GetVerdicts() {
				s.at[n.GetNodeId()] += int(v.GetCount())
			}
			s.all += s.at[n.GetNodeId()]
		}
		c.namespaces = append(c.namespaces, s)
		c.sockets += s.all
	}
	return c, nil
}

// tellStats tells the pages each node with its numbers. What links do is known of this node alone.
func (w *watch) tellStats(c *counted, now time.Time) {
	for _, n := range c.nodes {
		if !n.GetAnswers() && n.GetState() != foyerv1.NodeState_NODE_STATE_UP && n.GetState() != foyerv1.NodeState_NODE_STATE_DRAINING {
			continue // the page shows it as not healthy in a while
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

// linksOf counts the links of another node, and those on polling, by those of its sockets that are known here: where these
// are a sample, it is an estimate.
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

// changesOf are what links have done since they were looked at last.
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
