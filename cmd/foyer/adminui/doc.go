// Package adminui is the server side of the official Socket.IO Admin UI: it serves the namespace /admin, to which the
// operators' pages connect. It is a client of two gRPC APIs. One is the API of the node that the pages show. The other
// is the API of the hall, a small node without other clients, whose sockets are the operators' pages. So an operator
// never connects to the node that serves browsers, and can do only what the API can do.
//
// The walk of an operator. The hall asks whether a page may connect (login.go). A login with a password is queued
// (attempts.go). When the first operator connects, a watch starts (watch.go); when the last one leaves, it stops, and
// nothing runs in between. The watch counts sockets (counts.go). While there are few sockets, it follows presence and
// copies of browsers' events in all namespaces (few.go). When there are many, it shows numbers and a sample (many.go).
// The watch sends what it finds as the events of the Admin UI (objects.go), through one outbox per page (page.go). The
// pages send what an operator does as commands (commands.go).
//
// Goroutines. Run owns the operators and waits for none of them. It starts one goroutine that reads from the hall, one
// that checks passwords, two per page (one writes to the hall, one carries out commands), and the watch, which has one
// per stream. Run stops all of them and waits for them.
package adminui
