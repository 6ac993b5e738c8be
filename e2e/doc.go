// Package e2e holds the tests of the whole house. floors_test.go keeps the import graph; everything else has the build
// tag e2e and is run by `make e2e`: it starts the real binary, on ports that the kernel gives, and looks at it from
// both sides.
//
//	harness_test.go  the binary, the Node process with stock clients, waiting
//	front_test.go    three nodes that a test takes for one; apart_test.go says which tests do not run so
//	backend_test.go  a backend over the gRPC API
//	raw_test.go      programs that no client library is
//	docs_test.go     the blocks of README.md and docs/, their Go as programs; terminal_test.go pastes them
//	proxy_test.go    nginx and Caddy as docs/proxy.md sets them
//	sessions_test.go sessions on any node, behind balancers that know nothing of them; balancer_test.go runs those of
//	                 docs/balancer.md, passing_cost_test.go tells what a request costs that has come to the wrong node
//	official*        the official adapters and emitters of Node against service/adapter/official, without a bus
//	chaos_*          faults between nodes under load, and what was seen held against what was promised; mesh_test.go is
//	                 their network, chaos_nats_test.go stops the NATS server between them
//	rolling_test.go  nodes restarted one after the other under clients that come back (roamer_test.go) and calls
//	versions_test.go nodes of two versions of the wire between them
//	polyglot*        backends and clients in Node, Python and Java
//	examples_test.go the examples, which stand in ../examples
//	comments_test.go what the API's comments show, in Python and Node
//	autobahn.sh      the cases of a WebSocket suite, for a test of transport/engineio
//	compare/         Foyer and Socket.IO on Node side by side, and profiles of Foyer under load: a program, not a test
//	js/              what runs in Node: clients that obey a test, a thousand of them, browsers
package e2e
