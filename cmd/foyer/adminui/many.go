package adminui

import (
	"context"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	foyerv1 "foyer/gen/foyer/v1"
)

const (
	sampleEvery = 10 * time.Second
	sampleSize  = 200 // sockets of one namespace
	// othersName is under which name the sockets of the other nodes are told where they are only counted together.
	othersName = "(other nodes)"
)

// counted is what a look has found.
type counted struct {
	info    *foyerv1.GetInfoResponse
	nodes   []*foyerv1.Node
	names   map[string]count // of namespaces
	sockets int
}

type count struct{ all, here int }

func (c *counted) namespaces() []string { return slices.Sorted(maps.Keys(c.names)) }

// count asks the node how many sockets there are.
func (w *watch) count() (*counted, error) {
	ctx, cancel := context.WithTimeout(w.ctx, callTimeout)
	defer cancel()
	node := foyerv1.NewNodeServiceClient(w.cfg.API)
	c := &counted{names: map[string]count{}}
	var err error
	if c.info, err = node.GetInfo(ctx, &foyerv1.GetInfoRequest{}); err != nil {
		return nil, err
	}
	list, err := node.ListNodes(ctx, &foyerv1.ListNodesRequest{})
	if err != nil {
		return nil, err
	}
	c.nodes = list.GetNodes()
	names := w.cfg.Namespaces(maxNamespaces)
	for name := range w.followed {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		n := count{}
		if n.all, err = w.totalOf(ctx, &foyerv1.Target{Namespace: name, All: true}); err != nil {
			return nil, err
		}
		n.here = n.all
		if len(c.nodes) > 1 {
			if n.here, err = w.totalOf(ctx, &foyerv1.Target{Namespace: name, All: true, Local: true}); err != nil {
				return nil, err
			}
		}
		c.names[name] = n
		c.sockets += n.all
	}
	return c, nil
}

func (w *watch) totalOf(ctx context.Context, target *foyerv1.Target) (int, error) {
	page, err := foyerv1.NewSocketServiceClient(w.cfg.API).ListSockets(ctx, &foyerv1.ListSocketsRequest{
		Target: target, View: foyerv1.SocketView_SOCKET_VIEW_REF, PageSize: 1,
	})
	return int(page.GetTotal()), err
}

// sample tells the pages some of the sockets in place of all.
func (w *watch) sample(namespaces []string) {
	ctx, cancel := context.WithTimeout(w.ctx, callTimeout)
	defer cancel()
	clear(w.sockets)
	for _, name := range namespaces {
		page, err := foyerv1.NewSocketServiceClient(w.cfg.API).ListSockets(ctx, &foyerv1.ListSocketsRequest{
			Target: &foyerv1.Target{Namespace: name, All: true}, View: foyerv1.SocketView_SOCKET_VIEW_FULL, PageSize: sampleSize,
		})
		if err != nil {
			w.cfg.Told.Info("a namespace can not be sampled for operators", zap.NamedError("err", err))
			continue
		}
		for _, s := range page.GetSockets() {
			w.sockets[key{name, s.GetId()}] = objectOf(s)
		}
	}
	w.tellAll()
}

// tellStats tells the pages each node with its numbers. Of another node they are those of its sockets that are
// followed; where none are, the sockets of all others are one entry.
func (w *watch) tellStats(c *counted, now time.Time) {
	for _, n := range c.nodes {
		s := stats{
			ServerID: n.GetNodeId(), Hostname: n.GetNodeId(), Uptime: now.Sub(n.GetStartedAt().AsTime()).Seconds(),
			Aggregated: []aggregated{}, Namespaces: []namespaceCount{},
		}
		switch {
		case n.GetAnswers():
			s.Hostname, s.PID, s.Aggregated = w.cfg.Hostname, w.cfg.PID, w.aggregated(now)
			s.Clients, s.Polling = int(c.info.GetSessions()), w.polling(n.GetNodeId(), int(c.info.GetSessions()))
			for _, name := range c.namespaces() {
				s.Namespaces = append(s.Namespaces, namespaceCount{name, c.names[name].here})
			}
		case n.GetState() != foyerv1.NodeState_NODE_STATE_UP:
			continue // the page shows it as not healthy in a while
		case w.few:
			s.Clients, s.Namespaces = w.linksOf(n.GetNodeId(), c)
			s.Polling = w.polling(n.GetNodeId(), s.Clients)
		}
		w.say("", "server_stats", s)
	}
	if !w.few && len(c.nodes) > 1 {
		s := stats{ServerID: othersName, Hostname: othersName, Aggregated: []aggregated{}, Namespaces: []namespaceCount{}}
		for _, name := range c.namespaces() {
			n := c.names[name]
			s.Namespaces = append(s.Namespaces, namespaceCount{name, max(0, n.all-n.here)})
			s.Clients += max(0, n.all-n.here)
		}
		w.say("", "server_stats", s)
	}
}

// linksOf counts the links of a node, and its sockets, by those that are followed.
func (w *watch) linksOf(node string, c *counted) (links int, names []namespaceCount) {
	clients, sockets := map[string]bool{}, map[string]int{}
	for k, o := range w.sockets {
		if o.node == node {
			clients[o.ClientID] = true
			sockets[k.namespace]++
		}
	}
	names = make([]namespaceCount, 0, len(c.names))
	for _, name := range c.namespaces() {
		names = append(names, namespaceCount{name, sockets[name]})
	}
	return len(clients), names
}

// polling is how many of a node's links are on polling, as far as it is known: of many links by the sample.
func (w *watch) polling(node string, links int) int {
	clients, polls := map[string]bool{}, 0
	for _, o := range w.sockets {
		if o.node == node && !clients[o.ClientID] {
			clients[o.ClientID] = true
			if o.Transport == "polling" {
				polls++
			}
		}
	}
	if len(clients) == 0 {
		return 0
	}
	return polls * links / len(clients)
}
