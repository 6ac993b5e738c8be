package service

import "time"

// NodeState is how a node of the cluster is, as another one sees it.
type NodeState uint8

// The states of a node.
const (
	NodeUp           NodeState = iota
	NodeJoining                // one of the two has not told the other all that it knows
	NodeSilent                 // it is not heard at this moment, or known from others alone
	NodeDraining               // it is about to go, and takes no new sessions
	NodeLost                   // it was not heard for the lease, and is taken for dead
	NodeIncompatible           // no version of what nodes tell each other is common to both
)

// NodeStatus is a node of the cluster, as another one sees it.
type NodeStatus struct {
	Incarnation
	State   NodeState
	Version string    // of Foyer; "": not known
	Address string    // of its peer listener; "": it has none, or it is not known
	Since   time.Time // since when it has this state
	Heard   time.Time // when it was heard last; zero: never
}

// Nodes are those of the cluster by name, this one among them. A node alone is its cluster.
func (n *Node) Nodes() []NodeStatus {
	s := NodeStatus{Incarnation: n.self, Version: n.cfg.Version, Since: n.startedAt, Heard: time.Now()}
	if n.draining.Load() {
		s.State = NodeDraining
	}
	return []NodeStatus{s}
}

// Started is when a run began, by the clock of its node.
func (i Incarnation) Started() time.Time { return time.UnixMilli(int64(i.Run >> runChance)) }
