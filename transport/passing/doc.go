// Package passing lets a client's requests come to any node. A node that is asked for a session of another one passes
// the request on, and nobody needs sticky sessions.
//
// # The walk
//
// A sid names its node and is authenticated (sid.go). When a sid is not its own, engineio asks Pass (passing.go). Pass
// finds out which node has the session, asks the cluster where that member's peer listener is, and sends the request
// there as it came. A poll or a POST (request.go) takes a connection that is kept for the next one (lines.go), and is
// done on the goroutine that net/http has for its client. An upgrade has a connection of its own, and becomes a stream:
// bytes both ways for as long as both sides last (stream.go). At the other node, Handler lets members in and gives the
// request to that node's engineio (listener.go), which cannot tell it from one that has come directly. A request that
// was passed to a node is never passed on.
//
// # Who answers what
//
// The session's node decides all that there is to decide about the session: bounds of bodies, rates, heartbeats, slow
// clients, the end. This node adds only what its own connection to the client needs: a deadline for each piece that is
// written to it. The session's node sees that a client leaves by the end of the passed request, or of the stream.
//
// When a request cannot be passed, engineio answers "Session ID unknown", and the client then begins anew. It answers
// so at once when the sid is forged, or when its node is no member, was lost or refuses the connection. It answers so
// after Config.Patience when that node says nothing. An answer that takes its time, as that of a poll does, is
// announced by an informational status 102 (listener.go). A member whose heartbeats the cluster hears is slow, not
// silent: a moment without a processor must not end the sessions of its polling clients. It has thirty times Patience,
// since its heartbeats prove the cluster's part of it alone. While requests or streams are under way, this node looks
// once a second whether their members are still there, and ends those of a lost one. A poll may wait for longer than
// the node that passes it is there. Its client would then lose a session that is well, at another node. So when a
// member that has passed a poll is about to leave, the session's node answers that poll with nothing, and the client's
// next poll comes by another node. A node that has ended its own part does not answer at all: a balancer then asks
// another one.
//
// # Members
//
// A request that is passed has a proof, which is a check by a key that comes from the cluster's. It proves who passes
// the request, to whom, for which address and what the request is. On a network that others can read, the connections
// need TLS as well, where each side demands a certificate of the other. An answer names the node that it comes from,
// since an address may belong to another node by now.
//
// # Bounds
//
// Config.Most bounds what is under way. At most 256 connections to a member rest for the next request. A stream has two
// goroutines and two buffers of 512 bytes. A direction that fills its buffer borrows one of 256 large ones, for as long
// as it fills it. A request has the buffers of net/http.
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
// Engineio logs a refused request, with the reason that Pass returns. The file counters.go counts these by kind. What
// this package ends or refuses by itself has one counter and one line in the log, of which the reason is the counter's
// name.
package passing
