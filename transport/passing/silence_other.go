//go:build !unix

package passing

import "net"

// silence knows no way to look without waiting: a request that meets the end of its connection is refused.
func silence(net.Conn) func() bool { return func() bool { return true } }
