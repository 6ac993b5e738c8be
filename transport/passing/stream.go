package passing

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"foyer/service"
)

const (
	// A stream has a small buffer for each direction, since most streams say little and seldom. A direction that fills its
	// buffer gets a large one on loan, while there is one.
	smallBytes        = 512
	largeBuffers      = 256
	carriersPerStream = 2

	maxRefusalBytes = 64 << 10 // of the answer to an upgrade that is refused
)

// stream is an upgrade that was passed: bytes both ways, for as long as both sides have the connection.
type stream struct {
	// set before start
	passing *Passing
	to      service.NodeID
	client  net.Conn
	owner   net.Conn

	ended  atomic.Bool  // by this node
	finals atomic.Int32 // directions that are through

	up, down [smallBytes]byte // each owned by the carrier of its direction
	until    time.Time        // when the client has to have taken what was written to it last; owned by its carrier
}

// passUpgrade passes an upgrade on. When its member agrees, the client's connection becomes a stream, and the request
// is over.
func (p *Passing) passUpgrade(q *request, w http.ResponseWriter, r *http.Request) error {
	owner, err := p.connect(q)
	if err != nil {
		return err
	}
	taken := false
	defer func() {
		if !taken {
			_ = owner.Close()
		}
	}()
	stop := context.AfterFunc(q, func() { _ = owner.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	out := r.Clone(q)
	out.Body, out.ContentLength, out.TransferEncoding = http.NoBody, 0, nil
	out.URL.Scheme, out.URL.Host = "http", q.at // by name only: the connection is there
	p.sign(out.Header, r, q.to)
	if err := out.Write(owner); err != nil {
		return err
	}
	in := bufio.NewReaderSize(owner, smallBytes)
	res, err := http.ReadResponse(in, out) //nolint:bodyclose // it is the connection
	if err != nil {
		return err
	}
	q.hear()
	if err := answeredBy(q.to, res.Header); err != nil {
		return err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return relay(w, res)
	}
	if !stop() { // it was ended meanwhile
		return context.Cause(q)
	}
	client, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	s := &stream{passing: p, to: q.to, client: client, owner: owner}
	taken = true
	early, _ := rw.Peek(rw.Reader.Buffered())
	late, _ := in.Peek(in.Buffered())
	_ = client.SetDeadline(time.Time{})
	if !p.become(q, s) {
		s.close()
		return nil
	}
	var head strings.Builder
	fmt.Fprintf(&head, "HTTP/1.1 %s\r\n", res.Status)
	_ = res.Header.Write(&head) // a strings.Builder does not fail
	head.WriteString("\r\n")
	s.begin(append([]byte(nil), early...), append([]byte(head.String()), late...))
	p.counts.add(countStreams)
	return nil
}

// connect connects to a member.
func (p *Passing) connect(q *request) (net.Conn, error) {
	conn, err := p.dial(q, "tcp", q.at)
	if err != nil || p.cfg.TLS == nil {
		return conn, err
	}
	config := p.cfg.TLS
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(q.at)
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(q); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// relay gives a client the answer to an upgrade that its session's node has refused.
func relay(w http.ResponseWriter, res *http.Response) error {
	h := w.Header()
	clear(h)
	for name, values := range res.Header {
		h[name] = values
	}
	h.Set("Connection", "close")
	w.WriteHeader(res.StatusCode)
	_, _ = io.Copy(w, io.LimitReader(res.Body, maxRefusalBytes)) // refused either way
	return nil
}

// begin starts the carriers, with what both sides have said already.
func (s *stream) begin(early, late []byte) {
	go s.carry(s.down[:], s.client, s.owner, late)
	go s.carry(s.up[:], s.owner, s.client, early)
}

func (s *stream) member() service.NodeID { return s.to }

// end closes a stream that would go on.
func (s *stream) end(why counter) {
	if s.ended.Swap(true) {
		return
	}
	s.passing.counts.add(why)
	if why != countDraining {
		detail := "its node " + string(s.to) + " was lost"
		if why == countSlow {
			detail = "its client has taken nothing of what was passed to it"
		}
		s.passing.tell(zap.InfoLevel, "stream closed", why, s.client.RemoteAddr().String(), detail)
	}
	s.close()
}

func (s *stream) close() {
	// What is under way ends at once. The close of a TLS connection says goodbye first, which may take its time.
	past := time.Unix(1, 0)
	_ = s.client.SetDeadline(past)
	_ = s.owner.SetDeadline(past)
	_ = s.client.Close()
	_ = s.owner.Close()
}

// carry carries one direction until it ends. Its end is passed on, and the other direction has a moment to end as well;
// when a connection fails, both do.
func (s *stream) carry(small []byte, to, from net.Conn, first []byte) {
	defer s.passing.carriers.Done()
	err := s.write(to, first)
	if err == nil {
		err = s.copy(small, to, from)
	}
	last := s.finals.Add(1) == carriersPerStream
	if last || !errors.Is(err, io.EOF) {
		s.close()
	} else {
		if c, ok := to.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite()
		}
		_ = to.SetReadDeadline(time.Now().Add(lingerTimeout))
	}
	if last {
		s.passing.leave(s)
	}
}

// copy returns what ended it; io.EOF: nothing more comes.
func (s *stream) copy(small []byte, to, from net.Conn) error {
	into, lent := small, []byte(nil)
	giveBack := func() {
		if lent != nil {
			s.passing.buffers.giveBack(lent)
		}
		into, lent = small, nil
	}
	defer giveBack()
	for {
		n, err := from.Read(into)
		if n > 0 {
			if err := s.write(to, into[:n]); err != nil && s.finals.Load() == 0 {
				return err
			} // else the other side is through, and only this one's end is waited for
		}
		if err != nil {
			return err
		}
		switch full := n == len(into); {
		case !full:
			giveBack()
		case lent == nil:
			if lent = s.passing.buffers.lend(); lent != nil {
				into = lent
			}
		}
	}
}

// write writes all of b. The session's node may take its time: it ends what is too slow for it, and when it is lost
// that is seen. A client that takes nothing at all for SlowAfter is closed.
func (s *stream) write(to net.Conn, b []byte) error {
	if to == s.owner {
		_, err := to.Write(b)
		return err
	}
	for len(b) > 0 {
		slow := s.passing.SlowAfter()
		if now := time.Now(); s.until.Sub(now) < slow {
			s.until = now.Add(slow + time.Second) // so it is set once a second at most
			if err := to.SetWriteDeadline(s.until); err != nil {
				return err
			}
		}
		n, err := to.Write(b)
		b = b[n:]
		if err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				s.end(countSlow)
			}
			return err
		}
	}
	return nil
}

// lend lends a large buffer; nil: all that there are for streams are lent.
func (b *buffers) lend() []byte {
	if b.lent.Add(1) > largeBuffers {
		b.lent.Add(-1)
		return nil
	}
	return b.Get()
}

func (b *buffers) giveBack(x []byte) {
	b.Put(x)
	b.lent.Add(-1)
}
