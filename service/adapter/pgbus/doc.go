// Package pgbus is the bus over the notifications (LISTEN, NOTIFY) of a PostgreSQL database. A node listens to two
// channels, NAME.to.NODE and NAME.all; rooms are no channels. The official Socket.IO adapter listens to names that have
// a # in them, which no name of a cluster can have: it hears nothing of this, and nodes hear nothing of it here.
//
// The walk of a frame: Send cuts it into parts, since a notification takes less than 8000 bytes of text, and appends
// them to the outbox, each behind the tag of this bus and where it belongs (parts.go). A goroutine publishes all that
// waits there by one statement. The server gives it to the other node's second connection, whose goroutine puts the
// parts together and the frame into the channel from which deliver gives it to the receiver. PostgreSQL gives a node
// also what it has published itself: the tag says so. It gives equal notifications of one statement once: no two parts
// are equal.
//
// The bus promises that frames of one sender come to each node in the order in which they were sent, and none twice,
// while a pair of connections lives. A frame is published once or not at all. Frames are lost when a connection breaks,
// and when a node is behind by more than what waits for the receiver; so the connection is read without a pause, since
// whatever the server cannot get rid of fills its queue, which all share.
//
// A life is a pair of connections: one publishes, one hears. It is up when what it publishes has come back to it on
// both channels, so a pooler that gives each statement another session is found out before, and so are two servers
// behind one name. When nothing of its own came back for a while it publishes something for itself; a life to which
// nothing comes back, or whose server does not answer, ends. After a pause that grows, and is not the same at all
// nodes, the next one begins.
//
// Notifications need no table and no rights beyond a login. Commits of those who notify wait for each other in the
// whole database server, which bounds what a bus can carry: some thousand statements a second. What waits goes in one
// statement, so under load a statement carries many frames. It does not wait for a disk (synchronous_commit).
//
// Goroutines: those of package lives; the loops of a life are hear, write and probe.
package pgbus
