// Package httpapi lets programs without gRPC call the API: by JSON over HTTP/1.1, as curl does, by the Connect protocol
// (https://connectrpc.com/docs/protocol) and by gRPC-Web. It stands before the gRPC server and is a client of it, by a
// connection in memory: what a call may do and how it is bounded is decided there, once for all ways in.
//
// The walk of a call: ServeHTTP (server.go) looks whether a page of another origin stands behind it (origin.go), finds
// its method (methods.go), has the caller's token looked at, reads the body whole (body.go) and hands it to vanguard,
// which translates protocols. What vanguard makes of it goes to the gRPC server and comes back in call.go. A stream
// that is asked for by plain JSON is answered in lines (lines.go). Errors of this package are made in fault.go.
//
// Bounds: a body has a size, a time, and a share of what all bodies together may hold, and few are decoded at once,
// since JSON can become many times as large as a message; compressed bodies are not taken. A call with one answer has a
// deadline. A client that does not read is held up by the windows of the connection in memory, and its connection is
// closed when a write does not end. How many connections there are is bounded by the listener's owner.
//
// It starts no goroutines. Close ends the connection in memory.
package httpapi
