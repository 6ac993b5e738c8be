//go:build linux && (amd64 || arm64)

package engineio

import (
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// rawWriter sends on the descriptor itself. Of a delivery that costs 6 µs by syscall.RawConn, 1 µs is what this leaves
// out: the lock and the poller's state of net.Conn are two more cache lines a connection, cold in a fan-out to
// thousands; the scheduler need not be told of a call that does not block; and send is shorter than write inside of the
// kernel.
type rawWriter struct {
	mu     sync.Mutex // a descriptor that is written to is not closed, and so not another connection's
	fd     int32
	closed bool // guarded by mu
}

// newRawWriter makes w the writer of a connection, or returns nil for one without a descriptor of its own, such as a
// *tls.Conn.
func newRawWriter(conn net.Conn, w *rawWriter) tryWriter {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	if raw.Control(func(fd uintptr) { w.fd = int32(fd) }) != nil {
		return nil
	}
	return w
}

func (w *rawWriter) tryWrite(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, net.ErrClosed
	}
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(w.fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
			syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, nil
		default:
			return 0, os.NewSyscallError("send", errno)
		}
	}
}

func (w *rawWriter) unsent() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	var n int32
	if w.closed {
		return -1
	}
	_, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(w.fd), syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n)))
	if errno != 0 {
		return -1
	}
	return int(n)
}

func (w *rawWriter) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
}
