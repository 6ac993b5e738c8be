// Package adapter is the way from one node to the others: what they tell each other, and how it survives a bus that
// loses, repeats, delays and reorders. The protocol is a set of state machines without IO, clock or goroutine: Peers,
// to which time and frames come in by methods, and from which frames go out by Take and what is heard by Upper. Cluster
// is the loop around them, and what the API is given in place of a single node.
//
// What travels is a Frame (proto/foyer/cluster/v1): a header and items. Who reads in the order of the walk reads:
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
// The walk of an emit. At its node the leader of the lane calls Cluster.Publish for each run, which asks the rooms that
// each member has told and gives the item, encoded once, to the trunks of those that want it; and Cluster.Flush once
// for its whole turn, before it writes to the links here: so under load the bus carries frames and not emits. Flush
// cuts what waits into frames and hands each out with the ack of the other direction. At the other node, Receive checks
// the frame, finds that it is the next one of its epoch, and puts its items into the inbox of their sender. The
// goroutine of that inbox delivers the emits by Node.DeliverHere, into the queues of the links there, and gives the
// counts to the trunk back, where Ticket.Wait adds them to the receipt.
//
// The walk of a join. Cluster.Join first tells the others, by Edge, that this node is about to have sockets in the
// rooms, and waits until they have heard; then it puts its own sockets into the rooms; then it asks the nodes that may
// have others of the target, which do the same. Who asks does not have to be told: it foresees that they may. So
// whoever emits gives the emit to the socket's node before the socket is in the room, and that node alone decides: once
// one emit has reached the socket, all that begin later do.
//
// The walk of presence. The first watcher of a namespace makes the service call Cluster.Follow, and Peers tell every
// member that it is wanted, and again in each new epoch, from the first change that was not heard. There the inbox
// opens a service.Feed, a watcher of that node's own sockets, and the goroutine of feeds.go gives its pieces to the
// trunk: news that waits for room rather than end the epoch, since the log at its owner keeps what is not told yet.
// What comes is checked to go on from what was heard, and goes by the inbox to Node.Heard, into the log that watchers
// here follow. Who is lost goes the same way, to Node.Lost.
//
// The life of a way. A hello makes two nodes know each other. Each opens an epoch to the other with a frame that goes
// alone, and waits for its ack: so an epoch begins only where the other end is, and what was on its way before has
// passed. Then it tells its state (today: its rooms), at most half a window at a time, and that it has told all; news
// and emits pass meanwhile. A member is up when both have told all. A gap is repaired by sending again, from the first
// frame that has no ack. What cannot be repaired ends the epoch: the peer was lost, or has forgotten the epoch and says
// so (over), news found the window full, or the peer is there and has heard nothing for six leases. Then the next epoch
// tells the state again, and the peer drops what it knew when that begins. All state is told as facts that may be told
// twice, by a walk over what is so now; so news may pass the walk on either side.
//
// Handlers. A registration is told as a claim first, which each node that can be reached answers, and when all have
// agreed as a handler. Its backend may know that before a node does that has agreed: there connects and server-side
// events wait for it. At each other node it becomes a service.Handler, whose stream is the trunk: a goroutine takes
// what that is told and gives it to the trunk as facts, in the order of its numbers; a fact that has no ack when an
// epoch ends for want of room is told again in the next one, and heard once by its number. At its own node a
// service.Visit offers them to the handler. What its backend has taken, and what it answers, goes back as facts too.
// A node that forgets another one forgets the streams to it, too: they begin anew, with other numbers.
//
// Versions. Two nodes speak the newest version of the wire that both know, and what came with it is told to nobody of
// an earlier one. A reader steps over fields that it does not know, and over an item that it cannot read, which has no
// effect and holds up nothing: a frame that is not heard would come again for ever. A question that it does not know it
// answers so, and what has a number on a stream too. The rules for what is added next are in proto/foyer/cluster/v1.
//
// What is never believed: a frame without the right check, one for another node or run, one of a run or an epoch that
// is over. Numbers decide that, never clocks: runs of a name grow, epochs of a node grow over all its trunks, hellos of
// a run are counted, and a node that was declared lost has to come back under a higher term.
//
// Time. All deadlines are Due and Tick. Only Tick judges a lease; when it comes late, this node has slept, and its
// peers get that time added. Frames that waited meanwhile may come before or after the late Tick.
package adapter
