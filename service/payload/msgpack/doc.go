// Package msgpack turns msgpack into JSON with attachments beside it, as payloads are kept here, and back: for clients
// with socket.io-msgpack-parser, and for the adapters of Socket.IO servers on Node.
//
// The walk: Skip finds the end of a value, and with it whether it is one (Read tells its items one by one); Text writes
// a value so checked as JSON. Append writes JSON as msgpack. Both look at each byte once, without a tree of values and
// without recursion, since a deep value must not leave a goroutine with a large stack. msgpack says in front how many
// items an array has, so Append lets payload.Measure count them first. The forms are those of notepack.io, which
// @msgpack/msgpack reads too: integers in the shortest form, whatever is not whole a float64.
//
// All functions are safe for concurrent use and start nothing.
package msgpack
