package adapter

import (
	"context"
	"maps"
	"slices"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// Epochs is how many epochs this node has begun.
func (c *Cluster) Epochs() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.peers.epochs)
}

// Inboxes are the names of nodes that this one keeps an inbox of.
func (c *Cluster) Inboxes() []service.NodeID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.inboxes))
}

// Wire has a node speak these versions of the wire.
func (c *Config) Wire(from, to uint64) { c.wireFrom, c.wireTo = from, to }

// AskOfLater asks all members something that came with a later version.
func (c *Cluster) AskOfLater(ctx context.Context) (answers int, coverage service.Coverage) {
	list, coverage := c.askAll(ctx, func(int) *clusterv1.Question {
		q := &clusterv1.Question{}
		q.ProtoReflect().SetUnknown([]byte{15<<3 | 2, 0})
		return q
	})
	return len(list), coverage
}
