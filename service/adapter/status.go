package adapter

import (
	"cmp"
	"maps"
	"slices"
	"time"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// This file has what a Cluster says of itself and of the others.

var nodeStates = [...]service.NodeState{
	Hearsay: service.NodeSilent, Joining: service.NodeJoining, Up: service.NodeUp, Silent: service.NodeSilent,
	Leaving: service.NodeDraining, Incompatible: service.NodeIncompatible, Lost: service.NodeLost,
}

// Nodes are those of the cluster by name, as this one sees them at this moment. Nobody is asked.
func (c *Cluster) Nodes() []service.NodeStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	self := service.NodeStatus{
		Incarnation: c.peers.self, Version: c.peers.cfg.Version, Address: c.peers.cfg.Address, Since: c.began, Heard: time.Now(),
	}
	switch stage := c.peers.stage; {
	case stage == clusterv1.Stage_STAGE_JOINING:
		self.State = service.NodeJoining
	case stage != clusterv1.Stage_STAGE_UP:
		self.State = service.NodeDraining
	}
	nodes := []service.NodeStatus{self}
	for _, m := range c.peers.members {
		if m.State == Gone {
			continue
		}
		s := service.NodeStatus{
			Incarnation: m.Incarnation, State: nodeStates[m.State], Version: m.Version, Address: m.Address, Since: c.began.Add(m.turned),
		}
		if m.count > 0 {
			s.Heard = c.began.Add(m.heard)
		}
		nodes = append(nodes, s)
	}
	slices.SortFunc(nodes, func(a, b service.NodeStatus) int { return cmp.Compare(a.Node, b.Node) })
	return nodes
}

// Missing are the nodes that this one knows and that have not told it all, or been told all: it waits for them before
// it serves.
func (c *Cluster) Missing() (names []service.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.peers.members {
		if m.State == Joining || m.State == Hearsay {
			names = append(names, m.Node)
		}
	}
	return names
}

// DropReasons are all names that Info.Dropped of a Cluster can have beside those of its node.
func DropReasons() []string {
	names := []string{"cluster_bus", "cluster_bus_refused", "cluster_epoch", "cluster_question"}
	for d := DropUnreadable; d < drops; d++ {
		names = append(names, "cluster_frame_"+d.String())
	}
	for s := SkipUnknown; s < skips; s++ {
		names = append(names, "cluster_item_"+s.String())
	}
	return names
}

// Info adds to that of the node what was dropped on the way between nodes.
func (c *Cluster) Info() service.Info {
	info := c.Node.Info()
	dropped := maps.Clone(info.Dropped)
	if dropped == nil {
		dropped = map[string]int64{}
	}
	lost := c.bus.Lost()
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, n := range map[string]uint64{
		"cluster_bus": lost, "cluster_bus_refused": c.unsent, "cluster_epoch": c.lost, "cluster_question": c.busy,
	} {
		if n > 0 {
			dropped[name] = int64(n)
		}
	}
	for d := DropUnreadable; d < drops; d++ {
		if n := c.peers.Dropped(d); n > 0 {
			dropped["cluster_frame_"+d.String()] = int64(n)
		}
	}
	for s := SkipUnknown; s < skips; s++ {
		if n := c.peers.Skipped(s); n > 0 {
			dropped["cluster_item_"+s.String()] = int64(n)
		}
	}
	info.Dropped = dropped
	c.keptLocked(info.Kept)
	return info
}

// keptLocked adds what is kept for other nodes, and of them.
func (c *Cluster) keptLocked(kept map[string]int64) {
	p := c.peers
	kept["cluster_rooms"] = int64(len(p.own.list))
	kept["cluster_followed"] = int64(len(p.follows.list))
	for _, m := range p.members {
		kept["cluster_rooms_elsewhere"] += int64(len(m.rooms))
		kept["cluster_window_bytes"] += int64(m.out.bytes)
	}
	for _, in := range c.inboxes {
		kept["cluster_inbox_bytes"] += int64(in.bytes)
		kept["cluster_questions"] += int64(in.asked)
		kept["cluster_handlers_elsewhere"] += int64(in.theirs)
		kept["cluster_visits"] += int64(in.visits)
	}
	for _, of := range c.feeds.of {
		kept["cluster_feeds"] += int64(len(of))
	}
	kept["cluster_calls"] = int64(len(c.calls.open) + len(c.collect.mine) + len(c.collect.theirs) + len(c.marks))
	kept["cluster_claims"] = int64(len(c.handlers.claims))
	kept["cluster_handlers"] = int64(len(c.handlers.own))
	kept["cluster_streams"] = int64(len(c.streams))
}
