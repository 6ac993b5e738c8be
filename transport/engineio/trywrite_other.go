//go:build !unix

package engineio

import "net"

type rawWriter struct{}

// newRawWriter knows no non-blocking write here: everything goes to the writer goroutine.
func newRawWriter(net.Conn, *rawWriter) tryWriter { return nil }
