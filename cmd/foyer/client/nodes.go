package client

import (
	"context"
	"strings"

	"github.com/alecthomas/kong"

	foyerv1 "foyer/gen/foyer/v1"
)

// nodesCommand asks one node for those of its cluster.
type nodesCommand struct {
	connection
	format
}

// Run prints the nodes.
func (c *nodesCommand) Run(ctx context.Context, k *kong.Context, sys *System) error {
	from, err := c.open(k, sys)
	if err != nil {
		return err
	}
	defer from.close()
	nodes, err := call(ctx, from, foyerv1.NewNodeServiceClient(from.conn).ListNodes, &foyerv1.ListNodesRequest{})
	if err != nil {
		return err
	}
	if c.json() {
		err = printLines(sys, nodes.GetNodes()...)
	} else {
		err = printNodes(sys, nodes.GetNodes())
	}
	if err != nil {
		return err
	}
	return from.verdict(int32(len(nodes.GetNodes())), nodes.GetCoverage()) //nolint:gosec // one message has no more
}

var stateColours = map[foyerv1.NodeState]string{
	foyerv1.NodeState_NODE_STATE_UP:           green,
	foyerv1.NodeState_NODE_STATE_JOINING:      yellow,
	foyerv1.NodeState_NODE_STATE_DRAINING:     yellow,
	foyerv1.NodeState_NODE_STATE_SILENT:       yellow,
	foyerv1.NodeState_NODE_STATE_LOST:         red,
	foyerv1.NodeState_NODE_STATE_INCOMPATIBLE: red,
}

// printNodes prints a table for people.
func printNodes(sys *System, nodes []*foyerv1.Node) error {
	t := sys.table("NODE", "STATE", "FOR", "HEARD", "VERSION", "PEER ADDRESS")
	for _, n := range nodes {
		row := cells(n.GetNodeId(), word(n.GetState().String(), "NODE_STATE_"), age(n.GetStateAge()), "never", n.GetVersion(), n.GetPeerAddress())
		row[1].colour = stateColours[n.GetState()]
		switch {
		case n.GetAnswers():
			row[3].text = "it answers"
		case n.GetHeardAge() != nil:
			row[3].text = age(n.GetHeardAge()) + " ago"
		}
		if err := t.add(row...); err != nil {
			return err
		}
	}
	return t.flush()
}

// word is the name of an enum's value as people read it: NODE_STATE_UP is up.
func word(name, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, prefix)), "_", " ")
}
