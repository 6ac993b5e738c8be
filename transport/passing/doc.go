// Package passing lets a client's requests come to any node: a node that is asked for a session of another one passes
// the request on, and nobody needs sticky sessions.
//
// # The walk
//
// A sid names its node and is authenticated (sid.go). Of a sid that is not its own, engineio asks Pass (passing.go),
// which finds out whose it is, asks the cluster where that member's peer listener is, and sends the request there as
// it came. A poll or a POST (request.go) takes a connection that is kept for the next one (lines.go), and is done on
// the goroutine that net/http has for its client. An upgrade has a connection of its own, and becomes a stream: bytes
// both ways for as long as both sides last (stream.go). At the other node Handler lets members in and gives the
// request to that node's engineio (listener.go), which cannot tell it from one that has come directly. What was passed
// to a node is never passed on.
//
// # Who answers what
//
// All that is decided about a session is decided by its node: bounds of bodies, rates, heartbeats, slow clients, the
// end. This node adds only what its own connection to the client needs: a deadline for each piece that is written to
// it. A client that leaves is seen by the end of the passed request, or of the stream.
//
// Where a request cannot be passed it is engineio that answers: "Session ID unknown", upon which a client begins anew.
// That is so at once when the sid is forged, or its node is no member, was lost or refuses the connection; and after
// Config.Patience when its node says nothing. An answer that takes its time, as that of a poll does, is announced by
// an informational status 102 (listener.go); and a member of which the cluster has heard lately is slow, not silent.
// While requests or streams are under way it is looked once a second whether their members are still there: those of a
// lost one end. A poll may wait for longer than the node that passes it is there, and its client would lose a session
// at another node which is well. So the session's node answers what a member has passed that is about to leave, with
// nothing, and the client's next poll comes by another node. A node that has ended its own part does not answer at
// all: a balancer then asks another one.
//
// # Members
//
// A request that is passed has a proof: a check, by a key that comes from the cluster's, of who passes it, to whom, for
// which address and what. On a network that others can read the connections need TLS as well, where each side demands a
// certificate of the other. An answer names the node that it comes from, since an address may be another's by now.
//
// # Bounds
//
// Config.Most bounds what is under way, and 256 the connections to a member that rest for the next request. A stream
// has two goroutines and two buffers of 512 bytes; who fills one borrows one of 256 large ones, for as long as it
// does. A request has the buffers of net/http.
//
// # Goroutines and timers
//
//	carriers     two for each stream, until it ends; Passing waits for them in Close
//	the look     one timer while something is under way
//	a request    its own goroutine of net/http, and a timer for the first word
//	early words  a timer for each request that is served to a member
//
// # Reasons
//
// A refused request is told by engineio, with the reason that Pass returns; counters.go counts these by kind. What this
// package ends or refuses by itself has one counter and one line in the log, of which the reason is the counter's name.
package passing
