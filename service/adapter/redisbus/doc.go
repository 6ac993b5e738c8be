// Package redisbus is the bus over the Pub/Sub of Redis, of Valkey, or of what speaks as they do. A node subscribes to
// two channels, PREFIX.to.NAME and PREFIX.all; rooms are no channels. The official Socket.IO adapters and emitters
// subscribe to names and patterns that have a # in them, which no name of a cluster can have: they hear nothing of
// this, and nodes hear nothing of them.
//
// The walk of a frame: Send appends it to the outbox as a command, behind the tag of this bus; a goroutine writes all
// that waits there, without waiting for answers. The server gives it to the other node's second connection, where hear
// reads it into the channel from which deliver gives it to the receiver. Redis gives a node also what it has published
// itself: the tag says so.
//
// The bus promises that frames of one sender come to each node in the order in which they were sent, and none twice,
// while a pair of connections lives. A frame is published once or not at all. Frames are lost without a word when a
// connection breaks, and when a node is behind by more than the server keeps for it (client-output-buffer-limit pubsub:
// it closes the connection then) or by more than what waits for the receiver; so the connection is read without a
// pause.
//
// A life is a pair of connections to one server: one publishes, one hears. It is up when this node's subscriptions
// stand and what it publishes has come back to it on both channels, so a user's rights, a replica and a name that
// stands for two servers are found out before. Each second both connections are made to say something, and one that
// says nothing for five breaks, and both with it. How a bus goes from life to life is in package lives.
//
// The two connections are made and read here and not by a library. redis/rueidis (v1.0.79) and redis/go-redis (v9.23.0)
// were read and tried for it, on one machine with NATS beside them: 1 allocation per frame, and 7 and 16; 2.0 µs of
// this process's time, and 2.8 and 3.8 (NATS 1.6 to 1.9). With either, a node that publishes in order waits for the
// answers to one batch before the next is written, so a frame waits for a round trip more than it has to. Either makes
// a buffer as large as the server says that a message is, and anybody who may publish makes that 512 MB. rueidis
// panics, in a goroutine of its own, at an answer that it does not expect. What is left of a library's work is little,
// since a bus has no keys: what is published at one node of a Redis Cluster is heard at all of them, and slots do not
// matter.
//
// A life is made at any of the addresses, which are of one Redis Cluster if there are several; or at the master
// that most of the sentinels name (find.go). A life at a server that is the master no more ends within seconds: the
// server closes its connections, or else follow hears it from the sentinels.
//
// Goroutines: those of package lives; the loops of a life are hear, read, probe, follow, and the writer of the outbox.
package redisbus
