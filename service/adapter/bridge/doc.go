// Package bridge joins the nodes of a cluster to Socket.IO servers on Node that share their rooms through one of the
// official adapters, and to the official emitters. Between nodes, everything goes by the cluster's own trunks. A bridge
// stands beside the trunks at each node. It tells the servers on Node, here called peers, what this node was asked to
// do, in their form. It does at this node what peers and emitters ask for. Other nodes ignore what a node tells peers,
// since they have it by their trunk.
//
// A Bridge is the Remote of its node. It answers the calls of the API, for the cluster and the peers. It does not know
// how messages travel: that is a Medium. What messages mean is in package official.
//
//	bridge.go     Bridge, what it is made of and its life
//	medium.go     what a Medium promises
//	out.go        the way out: emits, rooms, subscriptions
//	calls.go      the calls of the API that take peers
//	asks.go       requests of this node, and what peers answer
//	loss.go       peers that are gone while this node waits for them
//	hear.go       what peers and emitters ask of this node
//	describe.go   sockets as the official servers describe them, and back
//
// Peers have no names here: answers say how many of them have not answered, or were not counted. The medium knows how
// many peers there are. It counts the listeners and takes off the nodes of the cluster, which also listen to a channel
// of their own in each namespace. Where a medium does not say who listens, package beats knows it from what is said.
package bridge
