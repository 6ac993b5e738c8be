// Package service is Foyer's domain: who is here, in which rooms, and who hears what. It knows no wire, no socket of
// the operating system and no HTTP; the transports bring links in as Conn and calls in as methods of Node.
//
// The walk of an emit: Node.Emit finds the Namespace, which takes the emit through its lane (broadcast.go); deliver
// matches the Target against the room index (match.go), encodes the packet once per codec, puts the frame into the
// queue of every matching link and flushes each touched link once. An emit for one link that is full waits outside of
// the lane (lane.go) and passes anew. With other nodes a run is handed to them just before it is delivered here
// (remote.go), and who called waits for their part outside of the lane.
//
// The walk of a browser's event: Node.Receive finds the group that owns the event (view.go) and the handler that this
// socket has in it (route.go), and appends the event to what that handler is to be told, or to the socket's backlog
// there (handler_events.go); what is too much pauses the link (share.go). The handler's stream takes it by
// Handler.Next. A Handler knows the sockets that its events come from as Origins, and nothing of who has which socket:
// that is assign.go. What is done when a handler comes is attach.go, and when it goes failover.go. A handler that is
// attached to another node stands here for a way to that node (away.go), and there the sockets of this one come to it
// by a Visit (visit.go). What nodes agree on before a handler is attached is abroad.go.
//
// The walk of a change: whoever changes membership or notes records it in the namespace's log (presence_log.go) under
// the same lock; each Watcher tells a snapshot in pages (snapshot.go) and then follows the log (presence.go). With
// other nodes, a namespace that is watched here has what they tell in its log too, and a copy of each of their sockets
// (elsewhere.go). What this node tells them is a Feed (feed.go): a watcher of its own sockets alone. A token says of
// each node how far its changes were heard, by that node's own numbers, so that a watch goes on at any node
// (resume.go).
//
// The walk of a question about an emit: Node.Explain matches its target as an emit does and asks each link what it
// would do (explain.go). Of a socket that is gone it knows what departures.go remembers. Which handlers there are is
// handler_list.go.
//
// Memory: what is kept for peers is taken from Config.Budget (budget.go), of which each queue, log and page has a part.
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
// lane.mu is held alone. Nothing blocks, writes or logs while one of them is held.
//
// Reasons: for each way in which a client or a backend is refused or closed there is one counter of Info.Dropped, or of
// what the transports add to it for GetInfo, and one line in the log at info or above. The line has a message from a
// small set, and the same fields everywhere: reason is the counter's name, address who was turned away, session, socket
// and namespace what of it, detail what was wrong, and setting the flag that rules it, with its value. Backends hear
// the same words as the detail of a disconnect. What is only dropped, waited for or ignored is counted and has no line;
// what a client or a backend ends by itself has neither. The lines go to Config.Told, since peers can cause them at any
// rate: of a message and a reason it writes one in 10 s, and how many it has left out (cmd/foyer/seldom.go). Nothing is
// logged for each message. Each package holds the rule by a test over all its reasons (reasons_test.go). A refused
// connect is told by the transport, which knows its client; what the log says of it comes in Refusal.
//
// Goroutines: a Node owns its flush workers, which Node.Close ends; everything else runs on the goroutine of its caller
// or of a timer.
//
// Panics: nothing recovers around what holds state or a lock, here and in every package that calls this one. A panic
// under a lock that was recovered would leave the lock taken: every later emit of the namespace would hang, nobody
// would connect, and the node would not even stop. A crash is better than a silent hang: clients and backends come back
// elsewhere, and the runtime tells the panic and its stack on stderr. A panic is contained only where no lock of ours
// can be held: while a request is decoded and checked, before the service is called (grpcapi.contain), and in pages
// that hold no state (cmd/foyer/contain.go). It is then logged with its stack, counted, and answered as an internal
// error. What net/http would recover by itself is taken from it (engineio/crash.go). Goroutines and timers have no
// recover: a panic there ends the process by itself.
package service
