// Package mongo carries messages of the official form over a collection of MongoDB as @socket.io/mongo-adapter does: it
// is the bridge.Medium to servers on Node with that adapter, and to the emitters that belong to it.
//
// All servers of an application insert into one collection and read all of it, whatever the namespace. Where the server
// is one of a replica set, this node reads by a change stream, as servers on Node do; elsewhere, where only emitters
// can be, it follows the collection by a tailable cursor, if that is capped. Both give documents in the order of the
// collection, and no ids are compared. What nodes of the cluster have inserted, the server passes over, but for this
// node's own words by which it knows that it is heard (beats).
//
// A server that has said something in a namespace is counted in it by others for ten seconds, and asked. So this node
// hears, and answers, where the bridge wants it, where it asks, and for some time wherever it has said something; and
// nothing elsewhere. Nobody says goodbye on this medium.
//
//	mongo.go   Medium, its life and its counters
//	life.go    a client, what the collection is like, and from where it is read on
//	stream.go  the two ways to read
//	in.go      what comes
//	hear.go    namespaces that are heard, and who is there
//	out.go     what is inserted
//
// A life is a client and a reader. When it ends, the next one reads on behind the last document that was read, if the
// server still knows that place. If not, it begins at the present, and the gap is counted and told. What was about to
// be inserted is inserted again in the next life: each document has an id, so none is there twice.
//
// Goroutines, from Open to Close: keep (makes lives, and reads), publish (inserts), deliver (gives what came to the
// bridge), tidy (gives namespaces back) and that of beats. The driver has its own, which end with the life's client.
package mongo
