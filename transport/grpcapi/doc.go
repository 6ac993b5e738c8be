// Package grpcapi is the gRPC face of Foyer (proto/foyer/v1). It checks requests, turns them into calls of the service,
// and turns the answers of the service into messages. It knows nothing of browsers' links.
//
// The walk of a call: the tap (auth.go) looks at the call's token when its headers have come. The interceptor
// (interceptor.go) turns away a caller that has no token, and maps what comes back. The request is read when it is its
// turn (conns.go). The call's method (emit.go, acks.go, emit_stream.go, serverside.go, room.go, socket.go, explain.go,
// presence.go, handler.go, handler_list.go, info.go, drain.go) has the request checked (validate.go), calls the service
// through the interfaces of node.go and converts the answer (convert.go). Errors become statuses in status.go and
// nowhere else. A call that is also a command of a handler stream is a method of Server, so that both do the same.
// Calls with a request_id pass by dedup.go.
//
// The busy streams are EmitStream and Attach. The messages that come by the hundred thousand on them are read and
// written by hand (wire.go): an event (event_wire.go), its reply (reply_wire.go), an emit and its receipt
// (emit_wire.go). That halved what they cost, since half of it was in the objects that generated code makes and takes
// apart. A message that is unusual or wrong goes by way of the generated code, so that each fault is found and told in
// one place. The items that have come pass the service as one batch. JSON is copied once between the wire and the
// packet, and that of a reply not at all.
//
// Answers are bounded. A list page, a chunk and an EmitWithAckResponse end before they are too large for a client. A
// stream that is not read is ended (watches, handlers, CollectAcks) or not read any further (EmitStream, commands).
//
// Connections (conns.go) have a wrapper that is found again by the address of a call's peer. Until one of its calls has
// shown a token, a connection has a deadline and little room, and makes place for others. Of a call without a token
// nothing is kept. What a connection sends is bounded while it is not read, by the number of its streams and the window
// of each. While it is read, it is bounded by turns: few requests of a connection are received at a time, and the
// others wait in their windows. Messages of streams have no turn, since a stream may be silent between two. Instead
// frames.go counts what has come of messages that are not complete, and how old they are. Three kinds of connections
// are closed: one that holds too much of such messages, the largest holder when all together hold too much, and one
// whose message does not come to its end. One caller has half of what all may have (shares.go).
//
// Refusals (refusal.go): each way in which a backend is turned away has one counter, named api_ and a word. It has one
// line in the log, with that name as its reason: see package service, "Reasons". Errors of single calls are told to
// their callers and are not logged.
//
// Panics: contain (interceptor.go) recovers around the code that decodes and checks requests, and nothing else
// recovers: see package service.
//
// Reflection (reflection.go) serves the files of the API with their comments, from api.binpb. After a change of proto/
// it is built anew along with gen/, and a test says when it was not.
//
// Goroutines: a unary call runs on its RPC's own goroutine. While an RPC lasts, neither a receive nor a send that
// blocks can be interrupted. So the RPC's own goroutine of a stream does neither, and only decides when the stream is
// over (outlet.go):
//
//	Watch, CollectAcks   a second one that sends
//	EmitStream           a second that sends, a third that receives, a fourth that applies
//	Attach               a second that sends, a third that receives and applies, and one for each server-side emit that
//	                     waits for replies, at most 256
//	Drain                a second that sends, a third that empties the node
//
// They end with their stream, whose context gRPC ends when the RPC has returned. What a receiver still had in hand then
// takes no effect. They belong to the Server, which waits for them in Shutdown and Stop. EmitWithAck and ServerSideEmit
// with a request_id run on a goroutine of their own and go on without their caller, until their timeout or Stop
// (dedup.go). A timer looks after connections as long as there are any.
package grpcapi
