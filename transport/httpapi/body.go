package httpapi

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"connectrpc.com/connect"

	foyerv1 "foyer/gen/foyer/v1"
)

// body is a request that has come whole. It is held, and counted, until the gRPC server has taken it.
type body struct {
	server *Server
	rest   []byte // nil when it was read, or is not held any more
	held   int
}

type bodyKey struct{}

// readBody reads a body while there is room for it. Its time is that of the connection's read deadline, which whoever
// serves sets and which ends here: net/http reads on to hear when the client goes.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (_ *body, err error) {
	tooLarge := fault(connect.CodeInvalidArgument, foyerv1.ErrorReason_ERROR_REASON_PAYLOAD_TOO_LARGE,
		"the request is larger than %d bytes", s.cfg.MaxMessage)
	if r.ContentLength > int64(s.cfg.MaxMessage) {
		return nil, tooLarge
	}
	b := &body{server: s}
	defer func() {
		if err != nil {
			b.release()
		}
	}()
	b.rest = make([]byte, 0, min(max(r.ContentLength+1, 512), 64<<10)) // what is said to come may not
	for {
		n, err := r.Body.Read(b.rest[len(b.rest):cap(b.rest)])
		b.rest = b.rest[:len(b.rest)+n]
		b.hold(n)
		switch {
		case len(b.rest) > s.cfg.MaxMessage:
			return nil, tooLarge
		case s.held.Load() > s.cfg.RequestBytes:
			return nil, s.refuse(refusedBytes, r, "the requests that have not reached the API yet hold all the bytes that they may")
		case errors.Is(err, io.EOF):
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
			return b, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, s.refuse(refusedLate, r, "the request has not come to its end in time")
		case err != nil:
			return nil, invalid("the request is cut off, or is no HTTP")
		}
		if len(b.rest) == cap(b.rest) {
			b.rest = append(b.rest, 0)[:len(b.rest)]
		}
	}
}

func (b *body) hold(n int) {
	b.held += n
	b.server.held.Add(int64(n))
	b.server.cfg.Hold(n)
}

// release forgets the body. It may be called again.
func (b *body) release() {
	b.rest = nil
	b.hold(-b.held)
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (b *body) Close() error { return nil }
