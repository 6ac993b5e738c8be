//go:build unix && !(linux && (amd64 || arm64))

package engineio

import (
	"net"
	"syscall"
)

// rawWriter writes to the descriptor, once per call. Its fields and the bound method spare an allocation per write.
type rawWriter struct {
	raw   syscall.RawConn
	bound func(fd uintptr) bool

	// owned by the token holder, during a call
	p   []byte
	n   int
	err error
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
	w.raw, w.bound = raw, w.write
	return w
}

func (w *rawWriter) tryWrite(p []byte) (int, error) {
	w.p = p
	err := w.raw.Write(w.bound)
	w.p = nil
	if err != nil {
		return 0, err
	}
	return w.n, w.err
}

// unsent is not known here.
func (w *rawWriter) unsent() int { return -1 }

// close has nothing to do: the connection itself sees to it.
func (w *rawWriter) close() {}

// write always returns true: RawConn must not wait for the descriptor to become writable.
func (w *rawWriter) write(fd uintptr) bool {
	for {
		w.n, w.err = syscall.Write(int(fd), w.p)
		switch w.err {
		case nil:
			return true
		case syscall.EINTR: //nolint:errorlint // a bare errno, on the hot path
			continue
		case syscall.EAGAIN:
			w.err = nil
		}
		w.n = max(w.n, 0)
		return true
	}
}
