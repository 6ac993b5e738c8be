package engineio

import (
	"crypto/tls"
	"net"
)

// tryWriter is the one seam of writing without blocking.
type tryWriter interface {
	// tryWrite writes what is taken now, n < len(p) with no error when not all of it was. Called by the holder of the
	// write token only.
	tryWrite(p []byte) (n int, err error)
	// unsent is how much of what was written the peer has not acknowledged, in bytes; negative: unknown. For anybody.
	unsent() int
	// close returns once no tryWrite is under way; those that come later fail. It comes before the connection is closed.
	close()
}

// tryWriter returns the writer of a connection; nil: it can only be written to by waiting, and nothing is known of it.
func (s *Server) tryWriter(conn net.Conn, w *rawWriter) tryWriter {
	if try := s.newTryWriter(conn, w); try != nil {
		return try
	}
	if t, ok := conn.(*tls.Conn); ok {
		if try := s.newTryWriter(t.NetConn(), w); try != nil {
			return askOnly{try}
		}
	}
	return nil
}

// askOnly knows of a connection under TLS what its peer has acknowledged, and takes nothing.
type askOnly struct{ tryWriter }

func (askOnly) tryWrite([]byte) (int, error) { return 0, nil }
