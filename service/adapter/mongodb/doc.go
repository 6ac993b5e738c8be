// Package mongodb is what a bus and a medium need of a MongoDB server before anything is said over it: its URL, a
// client that tells what will not pass by itself from what may, and what a collection is like.
//
//	url.go     the URL, as --cluster-url has it
//	server.go  a client of one database, and why a server does not do
//	tail.go    collections: capped or not, and how one that is capped is followed
//
// It starts no goroutine; the driver of a Server does, until Close.
package mongodb
