//go:build unix

package passing

import (
	"errors"
	"net"
	"syscall"
)

// silence returns a function that says whether a connection has nothing to read, not even its end: one that its other
// side has closed must not be used for one more request.
func silence(conn net.Conn) func() bool {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secure.NetConn()
	}
	c, ok := conn.(syscall.Conn)
	if !ok {
		return func() bool { return true } // only in tests
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return func() bool { return false }
	}
	var nothing bool
	peek := func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		nothing = errors.Is(err, syscall.EAGAIN)
		return true
	}
	return func() bool { return raw.Read(peek) == nil && nothing }
}
