// Package engineio serves Engine.IO v4: handshake, polling, WebSocket, the upgrade from one to the other, heartbeat and
// close. Behind a setting it serves version 3 too.
//
// # The walk
//
// ServeHTTP (server.go) checks a request in the order of the protocol, then it is a handshake (handshake.go), a poll or
// a POST of a known session (polling.go), or a probe (upgrade.go). A Session queues Messages (session.go) and writes
// them (session_write.go) to the transport it has: one HTTP response or one websocket write carries all that is queued.
// What comes in is decoded (packet.go, payload.go, wsread.go) and handed to the Receiver, serially (session_read.go); a
// websocket that has nothing to say is parked meanwhile (park.go). One timer per session keeps all its deadlines
// (heartbeat.go). All endings meet in session_close.go.
//
// # Version 3
//
// A session of EIO=3 (Config.AllowEIO3) takes the same walk. What differs stands in three files: how a Message becomes
// bytes (eio3_message.go), how bytes become packets (eio3_payload.go), and what goes around both in HTTP, JSONP
// included (eio3_polling.go); and in heartbeat.go, since it is the client that pings. Each transport of a session has
// its dialect, and the code of version 4 asks for no more than whether that is its own.
//
// # Locks
//
// Session.mu guards the queue, the state and the pair {transport, write token}; nothing is written, called back or
// logged under it. Session.recvMu is the receive lock: Receiver.Message runs under it, and the end of a session waits
// for it. The websocket of an upgrade is not read before the POST under way has been taken. Order: recvMu, then mu.
//
// # The write token
//
// Whoever holds the token writes to the current transport; there is no resident writer. Flush takes it when it is free,
// swaps the queue out and writes without blocking, on Linux by the descriptor itself (trywrite_linux.go). When the
// kernel will not take all, and always over TLS, the token goes to one goroutine that writes the rest, for as long as
// the peer takes something (pressure.go). While a session is polling the token goes to the pending GET. Who gives the
// token back looks for new work first, under the same lock, so nothing stays queued with a free token and a transport
// able to take it.
//
// # Slowness
//
// A queue that is full refuses (pressure.go): its sender waits for room, or goes without. Only time makes a session
// slow: from a refusal on, its timer ends it when its peer has taken nothing for SlowAfter, which the kernel tells,
// too. What a client is owed goes over the bound, and pauses its reading.
//
// # Parking
//
// Between two messages a websocket session of a TCP connection on Linux has no goroutine: the kernel calls when there
// is something to read, and a worker reads until there is nothing left. Exactly one of {nobody, a worker} looks after
// its reading, by wsConn.state; who has news for a parked session (bytes, a deadline, the end) calls wake. What a
// reader of gorilla's keeps between messages is nothing, so readers with their buffers are lent for as long as there is
// something to read. Over TLS, and elsewhere, a goroutine waits for the first bytes and borrows a reader then.
//
// # Pauses and rates
//
// Who takes a session's messages may pause it (pause.go): reading stops after the message in hand, and what the client
// sends waits in the kernel, or in a POST that is answered late. A paused websocket is parked with its reading off: no
// goroutine, and news do not wake it. The server's part in the heartbeat goes on, no deadline that waits for the client
// runs. What a client makes others do passes two token buckets (rate.go); who overspends is paused until there are
// tokens.
//
// # Goroutines
//
//	websocket worker    a few per server, and one for each session in the middle of a message or of its close
//	poller's loop       one per server, from its first websocket on; waits in Go's own poller, not in a thread
//	websocket reader    of a session that cannot be parked, or of a probe; ends with its connection, after the writer has
//	                    given the token back, or when the session is parked
//	websocket writer    only while the kernel refuses bytes, or others keep who has the token writing; ends when the
//	                    queue is empty or the connection fails
//	timer               time.AfterFunc; runs heartbeats, upgrade timeouts and closes, never blocks on IO
//	GET and POST        net/http's own; bounded by the heartbeat and by read and write deadlines, and by their session
//	                    while it is paused
//
// Server.Close ends all sessions and waits for all of these but the last.
//
// # Reasons
//
// Whatever turns a client away has one counter (counters.go), and one line in the log of which the reason is the
// counter's name with engineio_ before it (ending.go): see package service. All ends of sessions are told where they
// meet, in session_close.go; refused requests where they are answered.
//
// # Panics
//
// Nothing recovers around what holds state or a lock: a crash is better than a silent hang. Net/http would recover what
// panics on a request's goroutine, so ServeHTTP hands it to Config.Crash first (crash.go); all other goroutines are our
// own, and a panic there ends the process by itself.
//
// Sources: the Engine.IO protocol, versions 4 and 3 (https://github.com/socketio/engine.io-protocol), RFC 6455 and RFC
// 7692.
package engineio
