// Package bench is a load generator for any server that speaks Engine.IO v4 and Socket.IO v5. It opens clients of its
// own, has events sent to them or sends some, counts what arrives and tells what that cost the server.
//
// # The walk
//
// A scenario (idle.go, broadcast.go, echo.go, churn.go) opens its clients (crowd.go), each a raw connection with one
// goroutine that reads (websocket.go, polling.go), asks a driver (driver.go) to let the server do something, and fills
// a Result (result.go) from what the clients' tallies (tally.go) and /proc (process.go) say.
//
// Foyer is driven by its gRPC API. Any other server is driven by events that a few lines of its application serve:
//
//	bench:join  room, ack        the socket joins a room
//	bench:leave room, ack        and leaves it
//	bench:emit  room, seq, pad   the event "bench" with seq and pad goes to a room
//	bench:echo  text, ack        is acknowledged with the text
//
// # What counts as lost
//
// Every delivery bears the number of its emit, and the numbers that one client hears ascend by one. A gap is a loss, as
// is what has not come when nothing has for the time of Options.Patience; a number again is a duplicate. Either makes
// the run fail: a server is not fast that does not deliver.
//
// # How a run ends
//
// A run has one context, and whatever goes wrong fails it with its reason: a client that is closed, an emit that is
// refused, a step that takes too long, an interrupt. Nothing waits for the server longer than its patience.
//
// # Goroutines
//
// Each client has one that reads and ends when its connection is closed; a scenario's own end before its Run returns.
package bench
