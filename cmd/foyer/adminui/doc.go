// Package adminui is the server side of the official Socket.IO Admin UI: the page's namespace /admin, for operators. It is an
// ordinary client of two gRPC APIs, and knows nothing of what is behind them: that of the node which it shows, and that
// of a small hall of the operators' own, whose sockets are the pages. So nothing of an operator is ever at the edge, and
// what an operator may do is what the API does.
//
// The walk: the hall asks who may connect (login.go), and a password waits for its turn (attempts.go). The first operator who
// is in begins a watch (watch.go), the last one who leaves ends it: between them nothing runs. The watch counts
// (counts.go) and follows presence in all namespaces, and copies of browsers' events, as long as there are few sockets
// (few.go); of many it tells numbers and a sample (many.go). What it finds goes to the pages as the events of the UI
// (objects.go), to each by a queue of its own (page.go). What operators do comes as events of theirs (commands.go).
//
// Goroutines: Run is the one that has the operators, and waits for none of them. It starts one that reads from the hall, one
// that looks at passwords, for each page one that writes to the hall and one that carries out commands, and the watch
// with one for each stream that it follows. It ends and awaits all of them.
package adminui
