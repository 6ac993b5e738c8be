// Package grpcapi is the gRPC face of Foyer (proto/foyer/v1): it checks requests, turns them into calls of the service and
// its answers into messages. It knows nothing of browsers' links.
//
// The walk of a call: the interceptors (interceptor.go) authenticate it and map what comes back; its method (emit.go, room.go,
// socket.go, presence.go, handler.go, info.go) has the request checked (validate.go), calls the service through the interfaces
// of node.go and converts the answer (convert.go). Errors become statuses in status.go and nowhere else.
//
// Goroutines: a unary call runs on its RPC's own goroutine. While an RPC lasts, neither a receive nor a send that blocks can
// be interrupted, so the RPC's own goroutine of a stream does neither but decides when the stream is over: a watch has a
// second one that sends, a handler stream a third that receives. They end with their stream, whose context gRPC ends when the
// RPC has returned; what the receiver of a handler stream still had in hand then takes no effect. They belong to the Server,
// which waits for them in Shutdown and Stop.
package grpcapi
