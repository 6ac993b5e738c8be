// Package sharded is the bridge's medium to servers on Node with the sharded adapter of @socket.io/redis-adapter:
// sharded Pub/Sub of one Redis server, or of a Redis Cluster, from version 7.0 on.
//
// Each namespace has a channel, on which requests and most broadcasts come, and one for the answers to this node. In
// the dynamic modes a room has a channel too, to which those nodes subscribe that have sockets in it. In a Redis
// Cluster a channel lives at the server that has its slot, and slots move.
//
//	sharded.go  Medium, what it is made of and its life
//	servers.go  the servers, and which of them has the slot of a channel
//	places.go   the channels that are wanted, and where each is subscribed to
//	tune.go     how subscriptions are made, changed and audited
//	ear.go      a connection to one server on which channels are heard
//	in.go       what comes, until the bridge has it
//	out.go      what goes out, on which channel and at which server
//	count.go    who else is there, and whether their answers are heard
//	recent.go   rooms that have changed lately
//	greet.go    what is wrong with a server, found out at the start
//
// The walk of a subscription. Room and Follow note what is wanted, under a mutex, and put each channel once into a
// list. The one goroutine of tune takes the list, finds the server of each channel and writes an SSUBSCRIBE of its own
// for it: several channels in one command are refused where their slots differ. The server's word makes the channel
// stand. Whatever takes it down (the server's own sunsubscribe, MOVED, a connection that ends) puts it back into the
// list, and has the slots be asked for anew. Three seconds after the last time, all of it is audited: the slots are
// read, channels whose server is another one now are moved, those without the server's word are asked for again, and at
// each server one of its channels is subscribed to once more. The answer shows that the connection lives, and says how
// many subscriptions the server knows of it: if these are fewer than there should be, the connection is given up, and
// all of its channels with it.
//
// The library is redis/go-redis (v9.23.0), which the classic medium has. Its subscriptions over a whole Redis Cluster
// go to one server, that of the slot of the first channel, and after a loss it asks there for all channels in one
// command, which the server refuses. So here an ear has a client of its own, to one server, which can make one
// connection only. redis/rueidis (v1.0.79) has a goroutine wait for each subscription, of which there may be thousands.
//
// Order. What this node says in a namespace goes to one server, that of the namespace's channel, so that each server on
// Node hears it in its order: the channel of a room is used where it is at the same server, and else the namespace's,
// which all servers hear. It is always so with one Redis server. In a cluster the official adapter does not keep that
// order.
//
// Goroutines: tune, deliver and publish, from Open to Close; the hear of each ear, which ends with it.
package sharded
