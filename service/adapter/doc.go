// Package adapter is the way from one node to the others: what they tell each other, and how it survives a bus that
// loses, repeats, delays and reorders. The protocol is a set of state machines without IO, clock or goroutine. It is
// called Peers: time and frames come in by its methods, frames go out by Take, and what is heard goes out by Upper.
// Cluster is the loop around them, and the API is given a Cluster in place of a single node.
//
// Nodes send each other Frames (proto/foyer/cluster/v1). A Frame is a header and items. The files, in the order of the
// walk:
//
//	envelope.go, emit_wire.go   frames and items, written and read by hand (wire.go)
//	keys.go                     the check of a frame, and the hash of a room
//	trunk_out.go                the way to one peer: a window of what has no ack, repairs, epochs
//	trunk_in.go                 the way from one: in order, none twice; acks, and what is answered to a gap
//	members.go                  hello, leases, runs of a name, terms: who is there and how
//	interest.go                 which rooms a node has sockets in
//	peers.go                    what makes one of them: time, the epochs to each, leaving (config.go, upper.go)
//	peers_in.go, peers_out.go   what a frame does that comes, and how those that go are made
//	peers_tell.go               what all are told: rooms, facts, a new epoch's state; and who has heard it
//	handing.go                  who is given an emit or a question, by what each has told
//	calls.go                    what is asked of others, and who has answered (calls_wire.go, counts_wire.go)
//	cluster.go                  the loop: one mutex around all of these, their time and their bus
//	status.go, traffic.go       what one sees of it: nodes and their states, what is kept, what has gone both ways
//	inbox.go                    what a member has told and this node has yet to do, in order, without that mutex
//	remote.go                   the way out of the service: emits, rooms, connects that others are to hear of first
//	everywhere.go, answer.go    the calls of the API that take other nodes, and what they do there
//	explain.go                  whom an emit would reach, and which handlers there are (explain_wire.go)
//	collect.go                  acknowledgements that come from other nodes
//	presence.go                 which namespaces are followed at whom, and how far each was heard (presence_wire.go)
//	feeds.go                    what followers are told here, at the pace at which their windows have room
//	handlers.go                 this node's handlers as others hear of them: claims, registrations (handlers_wire.go)
//	handlers_peer.go            those of a member: what this node says to their claims, and how they serve here
//	streams.go                  the way from sockets to a handler elsewhere, and back (notices_wire.go)
//
// The walk of an emit. At its node, the leader of the lane calls Cluster.Publish for each run of emits. Publish asks
// the rooms that each member has told, and gives the item, encoded once, to the trunks of the members that want it. The
// leader calls Cluster.Flush once for its whole turn, before it writes to the links here. So under load the bus carries
// frames and not single emits. Flush cuts what waits into frames and hands each out with the ack of the other
// direction. At the other node, Receive checks the frame, finds that it is the next one of its epoch, and puts its
// items into the inbox of their sender. The goroutine of that inbox delivers the emits by Node.DeliverHere, into the
// queues of the links there. It gives the counts to the trunk that goes back. At the emit's node, Ticket.Wait takes
// them for the receipt.
//
// The walk of a join. First, Cluster.Join tells the others, by Edge, that this node is about to have sockets in the
// rooms, and waits until they have heard it. Then it puts its own sockets into the rooms. Then it asks the nodes that
// may have other sockets of the target, and these do the same. The node that asks does not have to be told: it foresees
// that they may have sockets in the rooms. So any node that emits gives the emit to the socket's node before the socket
// is in the room, and that node alone decides. Once one emit has reached the socket, all emits that begin later reach
// it too.
//
// The walk of presence. The first watcher of a namespace makes the service call Cluster.Follow. Peers then tell every
// member that the namespace is wanted, and tell it again in each new epoch, from the first change that was not heard.
// At the member, the inbox opens a service.Feed, which is a watcher of that node's own sockets. The goroutine of
// feeds.go gives the pieces of the feed to the trunk. Such news waits for room and does not end the epoch, since the
// log at its owner keeps what is not told yet. This node checks that what comes goes on from what was heard. Then it
// goes by the inbox to Node.Heard, into the log that watchers here follow. The loss of a node goes the same way, to
// Node.Lost.
//
// The life of a way. A hello makes two nodes know each other. Each opens an epoch to the other with a frame that goes
// alone, and waits for its ack. So an epoch begins only where the other end is there, and after what was on its way
// before has passed. Then the node tells its state (today: its rooms), at most half a window at a time, and then that
// it has told all. News and emits pass meanwhile. A member is up when both have told all. A gap is repaired by sending
// again, from the first frame that has no ack. What cannot be repaired ends the epoch. There are four such cases: the
// peer was lost; the peer has forgotten the epoch and says so (over); news found the window full; or the peer is there
// and has heard nothing for six leases. Then the next epoch tells the state again, and the peer drops what it knew when
// that epoch begins. All state is told as facts that may be told twice, by a walk over the state as it is then. So news
// may be told before or after the walk comes to the same place.
//
// Handlers. A registration is told as a claim first. Each node that can be reached answers the claim. When all have
// agreed, the registration is told as a handler. Its backend may know this before a node that has agreed does. At such
// a node, connects and server-side events wait for the handler. At each other node the handler becomes a
// service.Handler, whose stream is the trunk. A goroutine takes what that handler is told, and gives it to the trunk as
// facts, in the order of its numbers. An epoch may end for want of room. A fact that has no ack then is told again in
// the next epoch, and is heard once by its number. At the handler's own node, a service.Visit offers the facts to the
// handler. What its backend has taken, and what it answers, goes back as facts too. A node that forgets another one
// also forgets the streams to it. They begin anew, with other numbers.
//
// Versions. Two nodes speak the newest version of the wire that both know. What came with that version is told to no
// node of an earlier one. A reader steps over fields that it does not know, and over an item that it cannot read. Such
// an item has no effect and holds up nothing: a frame that is not heard would come again for ever. To a question that
// it does not know, a reader answers that it does not know it. It does the same for an unknown item that has a number
// on a stream. The rules for what is added next are in proto/foyer/cluster/v1.
//
// Trust. A node drops a frame without the right check, a frame for another node or run, and a frame of a run or an
// epoch that is over. Numbers decide that, never clocks. The runs of a name grow, the epochs of a node grow over all
// its trunks, and the hellos of a run are counted. A node that was declared lost has to come back under a higher term.
//
// Time. All deadlines are handled by Due and Tick. Only Tick judges a lease. When Tick comes late, this node has slept,
// and its peers get that time added. Frames that waited meanwhile may come before or after the late Tick.
package adapter
