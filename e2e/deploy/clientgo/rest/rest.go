// Package rest has the address of a cluster, which nobody has here.
package rest

// Config says nothing.
type Config struct{}
