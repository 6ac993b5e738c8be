// Package mongobus is the bus over one collection of a MongoDB database, NAME.frames, for which nothing has to run
// beside the database that an application has. The collection is capped: it keeps the newest frames, up to a bound, and
// the server takes the oldest away by itself. The collection that the official Socket.IO adapter and emitter use is
// another one.
//
// The walk of a frame: Send puts it into the outbox, where small frames share a document; a goroutine inserts the
// documents that wait there by one command, and waits for the answer. Each node follows the collection by a tailable
// cursor, whose filter lets the server pass over what is for others; hear reads what comes into the channel from which
// deliver gives it to the receiver. Each document has the tag of its sender, which ignores it.
//
// The bus promises that frames of one sender come to each node in the order in which they were sent, and none twice,
// while a life lasts. Frames are lost when an insertion fails, and when a node is so far behind that the collection has
// come round: the cursor is lost then, and the node goes on at the present. What it has missed it sees by the numbers
// that each sender gives to what it has for one node, and to what it has for all. A node that does not take what comes
// loses it beyond a bound.
//
// A life is a client, a tag and a cursor. It is up when a document of this node has come back to it. Each second one
// more is inserted, and a life whose documents do not come back ends. How a bus goes from life to life is in package
// lives.
//
// A cursor begins at the oldest document, since a capped collection knows no other place, and what is there has been
// for those who were there. So a node inserts a mark first, and passes over what comes before it. Servers put the time,
// which grows, into the field "at", and the filter begins at that of the mark: so they do not send what would be passed
// over. Where a server does not do so, all have the same time, and the mark alone decides.
//
// Goroutines: those of package lives; the loops of a life are hear, write and probe. The driver has its own, which end
// with the life's client.
package mongobus
