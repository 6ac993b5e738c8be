// Package lives is what the buses have in common that go by a server of somebody else: Redis, PostgreSQL, MongoDB. Such
// a bus is a row of lives. A life is what a node has at the server as long as nothing of it breaks: connections, what
// it listens to, what it sends by. What one life was given and has not sent is lost with it, and the next one begins
// anew, so nothing has to be mended.
//
// A bus gives Connect the two things that are its own: how a life begins, and how a frame is put into what waits to be
// sent. The Bus that it gets back keeps a life going, and has what comes be received: it is an adapter.Bus. The lives
// of all buses go the same Course: several loops run, and the first that ends, ends them all; what the life says comes
// back to it, or it ends.
//
// Goroutines: keep, from Connect to Close, which owns the present life; deliver, from Receive to Close; the loops of a
// life, which its Course owns.
package lives
