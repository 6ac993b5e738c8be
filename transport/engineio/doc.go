// Package engineio serves Engine.IO v4: handshake, polling, WebSocket, the upgrade from one to the other, heartbeat and
// close. Behind a setting it serves version 3 too.
//
// # The walk
//
// ServeHTTP (server.go) checks a request in the order of the protocol. Then the request is a handshake (handshake.go),
// a poll or a POST of a known session (polling.go), or a probe (upgrade.go). A Session queues Messages (session.go) and
// writes them (session_write.go) to the transport that it has. One HTTP response or one websocket write carries all
// that is queued. What comes in is decoded (packet.go, payload.go, wsread.go) and handed to the Receiver, serially
// (session_read.go). A websocket that has nothing to say is parked meanwhile (park.go). One timer per session keeps all
// its deadlines (heartbeat.go). All ends of sessions meet in session_close.go.
//
// # Version 3
//
// A session of EIO=3 (Config.AllowEIO3) takes the same walk. What differs is in three files: how a Message becomes
// bytes (eio3_message.go), how bytes become packets (eio3_payload.go), and what goes around both in HTTP, JSONP
// included (eio3_polling.go). There is also a difference in heartbeat.go, since in this version the client pings. Each
// transport of a session has its dialect. The code of version 4 only asks whether that dialect is its own.
//
// # Locks
//
// Session.mu guards the queue, the state and the pair {transport, write token}. Nothing is written, called back or
// logged under it. Session.recvMu is the receive lock: Receiver.Message runs under it, and the end of a session waits
// for it. The websocket of an upgrade is not read before the POST under way has been taken. Order: recvMu, then mu.
//
// # The write token
//
// The holder of the token writes to the current transport; there is no resident writer. Flush takes the token when it
// is free, swaps the queue out and writes without blocking, on Linux by the descriptor itself (trywrite_linux.go). When
// the kernel does not take all, and always over TLS, the token goes to one goroutine. It writes the rest, for as long
// as the peer takes something (pressure.go). While a session is polling, the token goes to the pending GET. Before a
// holder gives the token back, it looks for new work under the same lock. So nothing stays queued while the token is
// free and a transport is able to take it.
//
// # Slowness
//
// A full queue refuses a message (pressure.go): its sender waits for room, or goes without. Only time makes a session
// slow. From a refusal on, the session's timer ends the session when the peer has taken nothing for SlowAfter. The
// kernel, too, tells whether the peer takes something. What a client is owed may go over the bound, and the reading of
// that client is then paused.
//
// # Parking
//
// Between two messages, a websocket session of a TCP connection on Linux has no goroutine. The kernel says when there
// is something to read, and a worker reads until there is nothing left. Exactly one of {nobody, a worker} looks after
// its reading, by wsConn.state. A goroutine that has news for a parked session (bytes, a deadline, the end) calls wake.
// A reader of gorilla's keeps nothing between messages. So readers with their buffers are lent for as long as there is
// something to read. Over TLS, and elsewhere, a goroutine waits for the first bytes and borrows a reader then.
//
// # Pauses and rates
//
// The code that takes a session's messages may pause the session (pause.go). Reading then stops after the message in
// hand. What the client sends waits in the kernel, or in a POST that is answered late. A paused websocket is parked
// with its reading off: it has no goroutine, and news do not wake it. The server's part in the heartbeat goes on, and
// no deadline that waits for the client runs. What a client makes others do passes two token buckets (rate.go). A
// client that overspends is paused until there are tokens.
//
// # Goroutines
//
//	websocket worker    a few per server, and one for each session in the middle of a message or of its close
//	poller's loop       one per server, from its first websocket on; waits in Go's own poller, not in a thread
//	websocket reader    of a session that cannot be parked, or of a probe; ends with its connection, after the writer has
//	                    given the token back, or when the session is parked
//	websocket writer    only while the kernel refuses bytes, or while others keep the holder of the token writing; ends
//	                    when the queue is empty or the connection fails
//	timer               time.AfterFunc; runs heartbeats, upgrade timeouts and closes, never blocks on IO
//	GET and POST        net/http's own; bounded by the heartbeat and by read and write deadlines, and by their session
//	                    while it is paused
//
// Server.Close ends all sessions and waits for all of these but the last.
//
// # Reasons
//
// Each way in which a client is turned away has one counter (counters.go) and one line in the log. The reason of the
// line is the counter's name with engineio_ before it (ending.go): see package service. All ends of sessions are logged
// where they meet, in session_close.go. Refused requests are logged where they are answered.
//
// # Panics
//
// Nothing recovers around code that holds state or a lock: a crash is better than a silent hang. Net/http would recover
// a panic on a request's goroutine, so ServeHTTP hands the panic to Config.Crash first (crash.go). All other goroutines
// are our own, and a panic there ends the process by itself.
//
// Sources: the Engine.IO protocol, versions 4 and 3 (https://github.com/socketio/engine.io-protocol), RFC 6455 and RFC
// 7692.
package engineio
