// Package socketio speaks Socket.IO protocol v5 on Engine.IO sessions: it turns messages into the packets of package
// service and back, and makes of each session a link that carries many namespaces.
//
// # The walk in
//
// Link.Message (link.go) takes the messages of one session in order. A text is decoded by decodeText (text.go), its
// attachments are awaited (join.go); a binary is a whole packet of the msgpack parser (msgpack_decode.go). A CONNECT goes
// to Node.Connect (link_connect.go), an EVENT or ACK to the Socket of its namespace. Payloads are checked in full and
// passed on as the bytes that came; only msgpack has to be put into JSON, because a packet's payload is always JSON.
//
// # The walk out
//
// The service encodes a Packet once per codec (JSON, Msgpack) and gives the frame, an *engineio.Message, to Conn.Send of
// every receiver (link_conn.go).
//
// # What a wrong packet does
//
// It closes the whole session without a word, as in the reference (Socket.IO protocol v5, "Server-side validation"), and
// is counted by its reason (fault.go).
//
// # Locks and goroutines
//
// The package starts no goroutine; a link owns one timer until its first namespace is joined or it closes. Link.mu is a
// leaf below the locks of package service: Bind, Send, Forget and Codec may be called with those held. Nothing of the
// service is called with Link.mu held.
package socketio
