//go:build !unix

package engineio

import "net"

// newRawWriter knows no non-blocking write here: everything goes to the writer goroutine.
func newRawWriter(net.Conn) tryWriter { return nil }
