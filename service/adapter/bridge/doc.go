// Package bridge joins the nodes of a cluster to Socket.IO servers on Node that share their rooms through one of the
// official adapters, and to the official emitters. Between nodes everything goes by the cluster's own trunks. A bridge
// stands beside them at each node: it tells the servers on Node, here called peers, what this node was asked to do, in
// their form, and does here what they and emitters ask for. What nodes tell peers, other nodes pass over, since they
// have it by their trunk.
//
// A Bridge is the Remote of its node and answers the calls of the API, for the cluster and the peers. It knows nothing
// of how messages travel: that is a Medium. What messages mean is package official.
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
// Peers have no names here: answers say how many of them have not answered, or were not counted. How many there are,
// the medium knows: it counts who listens, and takes off the nodes of the cluster, which listen to a channel of their
// own in each namespace too. Where a medium does not say who listens, package beats knows it by what is said.
package bridge
