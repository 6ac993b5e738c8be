// Package natsbus is the bus over NATS: servers that others run (Connect), or one within each node (Embed), whose
// servers find each other and make a full mesh. A node subscribes to two subjects, PREFIX.to.NAME and PREFIX.all; rooms
// are no subjects.
//
// The walk of a frame: Send publishes it, which copies it into the library's buffer and wakes its flusher; that writes
// it into an outlet, which does not wait for a server that does not read (outlet.go). The server hands it to the server
// of the other node, whose library puts it into the one channel of both subscriptions, from which deliver gives it to
// the receiver.
//
// The bus promises that frames of one sender come to each node in the order in which they were sent, and none twice.
// Frames are lost without a word when a connection breaks, between node and server or between servers: about a second's
// worth, since each side finds out by itself. They are lost too when a node is behind by more than the server's queue
// for it (64 MiB) or by more than what waits for the receiver. News of a subscription travels from server to server,
// and nobody says when it has come: what is sent to a node that has just come can be lost. So Receive of a bus with a
// server of its own waits for the nodes that are at hand (routes.go), and they hear what it sends then. There it also
// finds out whether they refuse this node, which the server tells its log alone.
//
// Goroutines: keep (checks each new connection), deliver, and, for an embedded server, follow (resolves names) belong
// to the Bus, an outlet's writer to the outlet; Close ends and awaits them. The library and the server have their own,
// which end with Close of the one and Shutdown of the other.
package natsbus
