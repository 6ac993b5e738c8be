// Package socketio speaks Socket.IO protocol v5 on Engine.IO sessions. It turns messages into the packets of package
// service and back, and makes of each session a link that carries many namespaces.
//
// # The walk in
//
// Link.Message (link.go) takes the messages of one session in order. A text is decoded by decodeText (text.go), and its
// attachments are awaited (join.go). A binary message is a whole packet of the msgpack parser (msgpack_decode.go). A
// CONNECT goes to Node.Connect (link_connect.go), an EVENT or ACK to the Socket of its namespace. Payloads are checked
// in full and passed on as the bytes that came. Only msgpack has to be put into JSON, because a packet's payload is
// always JSON.
//
// # The walk out
//
// The service encodes a Packet once per codec (JSON, Msgpack) and gives the frame, an *engineio.Message, to Conn.Send
// of every receiver (link_conn.go).
//
// # Clients of v2
//
// Where engineio lets EIO=3 in, its clients speak version 4 of this protocol (eio3.go). They are in "/" without asking.
// They bring what v5 has as auth in the query of a namespace. They get other answers to a CONNECT. Their socket.id is
// not ours: they make it from the Engine.IO sid, which we keep secret from everybody else. Backends know such a socket
// by the id that the service gave it. A backend that wants a client to know that id has to send it in an event.
//
// # What a wrong packet does
//
// It closes the whole session without a word, as in the reference (Socket.IO protocol v5, "Server-side validation"),
// and is counted by its reason (fault.go). The log has one line for it, and backends hear the same words (tell.go): see
// package service, "Reasons".
//
// # Locks and goroutines
//
// The package starts no goroutine but that of the timer that passes on a held event (hold.go). A link owns one timer,
// until its first namespace is joined or while attachments of a packet are awaited. Link.mu is a leaf below the locks
// of package service: Bind, Send, Forget, Pause, Resume and Codec may be called with those held. Nothing of the service
// is called with Link.mu held. Of the session, Pause and Resume are.
//
// Nothing recovers from a panic: see package service.
package socketio
