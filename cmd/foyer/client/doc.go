// Package client is the command line as a client of the API: foyer emit, rooms, sockets, watch and their like. It
// speaks the public API and nothing else, as a program of anybody could.
//
// The walk of a command: kong fills a struct of Commands, and its Run opens a caller (caller.go), which knows where the
// node is: by flags, variables and contexts (connection.go, contexts.go). The caller asks, shows that it waits, and
// puts into words what went wrong, with its exit code (exit.go). What came is printed as a table for people (table.go)
// or as one object a line for programs (lines.go). Strings that come from clients pass clean before they are printed:
// no control character of theirs reaches a terminal.
//
// Goroutines: whatever waits is shown by one goroutine (progress.go), which the function that wait returned ends and
// waits for. tail has one more, which receives (tail.go); it ends with its stream, which Run waits for.
package client
