// Package official is the wire form of the official Socket.IO adapters and emitters on Node: what their servers say to
// each other over Redis, PostgreSQL and MongoDB. It reads and writes bytes and names of channels, and does nothing
// else: no IO, no clock, no goroutine, nothing random.
//
// The walk: a Message is what was said, whatever the medium. A caller that writes calls the Append function of the
// medium, and asks the medium's names for the channel. A caller that reads gives the bytes to the Read function of the
// channel that they came on.
//
//	message.go          Message, Kind, Socket
//	fault.go            what is refused, by name, in both directions
//	classic.go          the Redis adapter's own protocol: broadcasts, requests, responses
//	classic_names.go    its channels
//	cluster.go          the messages that the other adapters share, in JSON and in msgpack
//	sharded.go          channels of the sharded Redis adapter
//	streams.go          entries of the Redis streams adapter
//	postgres.go         notifications, and rows of the table of attachments
//	handshake.go        what a socket says of the request that opened its link
//	read.go             the parts of a message as they are read
//	mongo.go            documents of the MongoDB adapter, and how BSON is written (bson.go reads it)
//	value.go            one value of a message, in JSON, msgpack or BSON, as they are read
//	writer.go           the same for writing
//
// Events, acknowledgements and replies are kept as everywhere in Foyer: JSON text, with binary values beside it. From a
// medium of msgpack they come by service/payload/msgpack, which is shared with socket.io-msgpack-parser. It is plain
// code over bytes: tinylib/msgp recurses where it skips, so only its writing of scalars is used. BSON is plain code
// too, since a driver's would build trees of values.
//
// What comes is untrusted. A Read function returns a Fault for whatever an official server would die of, go deaf by or
// hurt its clients with, and takes what the official emitters of all languages and years write: names that are numbers,
// rooms and flags that are missing or empty texts, binary events as type 5. The bytes that it was given belong to the
// Message afterwards. What is written is checked just so: no Append function writes what an official server dies of.
//
// Where a server on Node would hand its clients something that JSON cannot hold, it is what JSON.stringify makes of
// it: dates are ISO text, NaN and infinities null. Half a surrogate pair, which @msgpack/msgpack writes as invalid
// UTF-8, becomes U+FFFD here; Node's clients get the half pair or U+FFFD, by the length of the text. Integers of 64
// bits keep their digits, which a browser rounds as Node would have.
package official
