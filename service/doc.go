// Package service is Foyer's domain: which sockets are here, which rooms they are in, and which of them get an event.
// It knows no wire format, no socket of the operating system and no HTTP. The transports bring links in as Conn, and
// calls in as methods of Node.
//
// The walk of an emit: Node.Emit finds the Namespace, which takes the emit through its lane (broadcast.go). There,
// deliver matches the Target against the room index (match.go) and encodes the packet once per codec. It puts the frame
// into the queue of every matching link. Each link that was touched is then flushed once. An emit for one link that is
// full waits outside of the lane (lane.go) and passes the lane anew. When there are other nodes, a run of emits is
// handed to them just before it is delivered here (remote.go). The caller waits for their part outside of the lane.
//
// The walk of a browser's event: Node.Receive finds the group that owns the event (view.go) and the handler that this
// socket has in that group (route.go). It appends the event to what that handler is to be told, or to the socket's
// backlog there (handler_events.go). When too much waits, the link is paused (share.go). The handler's stream takes the
// event by Handler.Next. A Handler knows the sockets that its events come from as Origins. It does not know which
// handler has which socket: that is in assign.go. What is done when a handler comes is in attach.go, and what is done
// when it goes is in failover.go. A handler that is attached to another node has a Handler here, which stands for the
// way to that node (away.go). At that node, the sockets of this one come to the handler by a Visit (visit.go). What
// nodes agree on before a handler is attached is in abroad.go.
//
// The walk of a change: the code that changes membership or notes records the change in the namespace's log
// (presence_log.go) under the same lock. Each Watcher tells a snapshot in pages (snapshot.go) and then follows the log
// (presence.go). When there are other nodes, the log of a namespace that is watched here also has what they tell, and
// this node keeps a copy of each of their sockets (elsewhere.go). What this node tells them is a Feed (feed.go): a
// watcher of its own sockets alone. A resume token says of each node how far its changes were heard, by that node's own
// numbers. So a watch can go on at any node (resume.go).
//
// The walk of a question about an emit: Node.Explain matches its target as an emit does, and asks each link what it
// would do (explain.go). Of a socket that is gone, it knows what departures.go remembers. The list of the handlers is
// in handler_list.go.
//
// Memory: what is kept for peers is taken from Config.Budget (budget.go). Each queue, log and page has a part of it.
//
// Locks, in the order in which they may be taken; a name in brackets says what is guarded:
//
//	Node.measuring       what is being measured
//	Node.merging         a merge into one socket's data
//	connects.mu          connects without a decision
//	Namespace.assigning  which handlers the namespace's sockets have, and what is parked of them
//	lane.step            the order of emits; full links are flushed under it, which does not block
//	Node.mu              the namespaces by name
//	handlers.mu          groups, their members, the names that are known
//	Namespace.mu         sockets, rooms, the presence log's order
//	presenceLog.mu       the log and its watchers
//	Socket.mu            its assignments and its end, as events see them
//	Handler.mu           one at a time: its queue, slots and debts
//	those of a Remote, which may tell Acks what other nodes say under them
//	acks.mu, serverCall.mu, parking.mu, share.mu, departures.mu
//	those of a link
//
// lane.mu is held alone. Nothing blocks, writes or logs while one of these locks is held.
//
// Reasons: for each way in which a client or a backend is refused or closed, there is one counter, and one line in the
// log at info or above. The counter is one of Info.Dropped, or one that the transports add to it for GetInfo. The line
// has a message from a small set, and the same fields everywhere. The field reason is the counter's name, and address
// says who was turned away. The fields session, socket and namespace say what of it was turned away. The field detail
// says what was wrong, and setting is the flag that rules it, with its value. Backends hear the same words as the
// detail of a disconnect. What is only dropped, waited for or ignored is counted and has no line. What a client or a
// backend ends by itself has neither. The lines go to Config.Told, since peers can cause them at any rate. For each
// message and reason it writes one line in 10 s, and says how many it has left out (cmd/foyer/seldom.go). Nothing is
// logged for each message of a client or a backend. In each package, a test over all its reasons (reasons_test.go)
// holds this rule. A refused connect is logged by the transport, which knows its client. What the log says of it comes
// in Refusal.
//
// Goroutines: a Node owns its flush workers, and Node.Close ends them. Everything else runs on the goroutine of its
// caller or of a timer.
//
// Panics: nothing recovers around code that holds state or a lock, here and in every package that calls this one. A
// panic under a lock that was recovered would leave the lock taken. Then every later emit of the namespace would hang,
// nobody could connect, and the node could not even stop. A crash is better than a silent hang: clients and backends
// come back elsewhere, and the runtime writes the panic and its stack to stderr. A panic is contained only where no
// lock of ours can be held. One such place is where a request is decoded and checked, before the service is called
// (grpcapi.contain). The other is pages that hold no state (cmd/foyer/contain.go). The panic is then logged with its
// stack, counted, and answered as an internal error. A panic that net/http would recover by itself is taken from it
// (engineio/crash.go). Goroutines and timers have no recover: a panic there ends the process by itself.
package service
