package engineio

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// pollVerdict ends the wait of a GET: either it is given the write token, or it ends with a body of one packet.
type pollVerdict string

const (
	pollWrite pollVerdict = ""
	pollNoop  pollVerdict = "6"
	pollGone  pollVerdict = "gone" // the session is: the GET is refused
)

// poll is a waiting GET. The code that takes it out of Session.poll owes it exactly one verdict.
type poll struct {
	ready chan pollVerdict // holds one, so that a verdict never blocks
}

// serveGet answers a poll: at once when something is queued, otherwise when something is, or when the session ends.
// While it writes it holds the write token. Engine.IO v4, "HTTP long-polling".
func (s *Session) serveGet(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.state == stateOpen && !s.websocket && s.poll == nil && !s.gettingLocked() {
		if !s.chargeGetLocked(r.Context()) {
			return
		}
		if s.websocket { // meanwhile
			s.mu.Unlock()
			_ = s.writePoll(w, r, nil, string(pollNoop))
			return
		}
	}
	switch {
	case s.state == stateClosed:
		owes := s.owesNoopLocked()
		s.mu.Unlock()
		if !owes {
			s.srv.refuse(w, r, errSessionUnknown, false, sessionUnknown)
			return
		}
		_ = s.writePoll(w, r, nil, string(pollNoop))
		return
	case s.websocket:
		s.mu.Unlock()
		s.srv.refuse(w, r, errBadRequest, false, "the session is on websocket, and the request is of polling")
		return
	case s.poll != nil, s.gettingLocked():
		s.mu.Unlock()
		s.overlapGet(w, r)
		return
	case s.state == stateClosing && len(s.queue) == 0 && !s.token:
		e := s.ending
		s.mu.Unlock()
		s.end(e, "1")
		_ = s.writePoll(w, r, nil, "6\x1e1")
		return
	case len(s.queue) > 0 && !s.token:
		s.token = true
		s.mu.Unlock()
		s.writeQueue(w, r)
		return
	}
	// Nothing to say, or the GET before this one is still writing, whose client may have seen the whole response already.
	p := &poll{ready: make(chan pollVerdict, 1)}
	s.poll = p
	s.armNoopLocked()
	s.mu.Unlock()

	select {
	case <-wayEnds(w):
		s.servePollVerdict(w, r, s.withdraw(p))
	case v := <-p.ready:
		gone := r.Context().Err() != nil // which of the two was first does not count
		s.servePollVerdict(w, r, v)
		if gone && v == pollWrite {
			s.end(endLost, "1")
		}
	case <-r.Context().Done():
		s.mu.Lock()
		mine := s.poll == p
		if mine {
			s.poll = nil
		}
		s.mu.Unlock()
		if !mine { // a verdict is on its way, maybe with the token
			s.servePollVerdict(w, r, <-p.ready)
			if s.Transport() != "polling" {
				return // the upgrade ended this GET before its client did
			}
		}
		s.end(endLost, "1") // the poll connection closed prematurely
	}
}

// passedOn is a ResponseWriter of a request that another server passes on.
type passedOn interface {
	// WayEnds is closed when that server is about to end: a poll that waits is answered then, and its client makes the
	// next one, which comes by another way.
	WayEnds() <-chan struct{}
}

// wayEnds is nil for a request that has come directly.
func wayEnds(w http.ResponseWriter) <-chan struct{} {
	if p, ok := w.(passedOn); ok {
		return p.WayEnds()
	}
	return nil
}

// withdraw ends the wait of a GET before there is something to say, unless there is by now.
func (s *Session) withdraw(p *poll) pollVerdict {
	s.mu.Lock()
	mine := s.poll == p
	if mine {
		s.poll = nil
	}
	s.mu.Unlock()
	if mine {
		return pollNoop
	}
	return <-p.ready
}

func (s *Session) servePollVerdict(w http.ResponseWriter, r *http.Request, v pollVerdict) {
	switch v {
	case pollWrite:
		s.writeQueue(w, r)
		return
	case pollGone:
		s.srv.refuse(w, r, errSessionUnknown, false, sessionUnknown)
		return
	case pollNoop:
	}
	_ = s.writePoll(w, r, nil, string(v)) // nothing of the session is in it; a client that is gone is found elsewhere
}

// pollPackets is how many packets one answer carries: with more the stock Python client stops decoding and leaves.
const pollPackets = 16

// takePollLocked takes the front of the queue, as much as one answer carries. A message with more packets of its own
// goes alone, since nothing may slip between its parts. Shared: the rest of the queue lies in the same memory.
func (s *Session) takePollLocked() (items []item, shared bool) {
	n := 0
	for packets := 0; n < len(s.queue); n++ {
		m := s.queue[n].msg
		if packets += m.packets(); packets > pollPackets && n > 0 {
			break
		}
	}
	if n == len(s.queue) {
		return s.takeQueueLocked(), false
	}
	items, s.queue = s.queue[:n:n], s.queue[n:]
	if len(s.queue) <= pollPackets { // a small rest, which might be kept as spare, must not keep what was once a long queue
		s.queue = slices.Clone(s.queue)
	}
	return items, true
}

// writeQueue writes what is queued as one response. It holds the token and gives it back.
func (s *Session) writeQueue(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.state == stateClosed || s.websocket {
		// Closed or upgraded before the first byte: the queue belongs to the websocket now.
		body := "1"
		if s.websocket || s.owesNoopLocked() {
			body = string(pollNoop)
		}
		s.pump(false)
		_ = s.writePoll(w, r, nil, body)
		return
	}
	b := batch{}
	var shared bool
	b.items, shared = s.takePollLocked()
	s.mu.Unlock()
	err := s.writePoll(w, r, b.items, "")
	s.mu.Lock()
	if err != nil {
		s.thrownAway(b.items)
	} else {
		s.tookLocked()
		s.countOutLocked(b.items)
	}
	s.creditLocked(b.settle(len(b.items)))
	if cap(b.items) <= spareItems && !shared && s.state != stateClosed {
		s.spare = b.items[:0]
	}
	s.pump(false)
	if err != nil {
		s.end(endLost, "1")
	}
}

// releasePollLocked ends a pending GET of a session that is being probed, so that its client can go on with the
// upgrade. With messages queued it gets those instead.
func (s *Session) releasePollLocked(now time.Duration) {
	s.noopAt = 0
	p := s.poll
	if p == nil || s.token {
		return // the holder of the token serves the GET, or the next GET asks again
	}
	s.poll, s.lastNoop = nil, now
	if len(s.queue) > 0 {
		s.token = true
		p.ready <- pollWrite
		return
	}
	p.ready <- pollNoop
}

// armNoopLocked sees to it that a GET pending during a probe is released: at once, but not more often than every
// noopInterval. It is called whenever a GET begins to wait or a token comes back to find one waiting.
func (s *Session) armNoopLocked() {
	if s.probed && s.poll != nil && !s.token {
		s.noopAt = 1 // long due
		if s.lastNoop != 0 {
			s.noopAt = s.lastNoop + noopInterval
		}
		s.armLocked(s.srv.now())
	}
}

// overlapGet answers a GET that came while another one was pending, and ends the session. If this one was cancelled,
// whoever comes later to see it, then the one that is pending is a GET after a cancelled one and is refused, as when
// the cancelling had been seen first.
func (s *Session) overlapGet(w http.ResponseWriter, r *http.Request) {
	pending := "1"
	select {
	case <-r.Context().Done():
		pending = string(pollGone)
	case <-time.After(cancelGrace):
	}
	if s.isClosed() { // the other one was cancelled
		s.srv.refuse(w, r, errSessionUnknown, false, sessionUnknown)
		return
	}
	s.overlap(w, pending, "a GET came while another one was pending")
}

// cancelGrace is how long it may take to see that a request's client has gone before it was served.
const cancelGrace = 50 * time.Millisecond

// overlap answers a GET or POST that came while another one was under way, and ends the session.
func (s *Session) overlap(w http.ResponseWriter, pending, detail string) {
	s.end(broken(ReasonTransportError, countOverlap, "%s", detail), pending)
	w.WriteHeader(http.StatusBadRequest)
}

// servePost takes a body of packets and answers after they were processed.
func (s *Session) servePost(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	s.mu.Lock()
	switch {
	case s.state == stateClosed:
		s.mu.Unlock()
		s.srv.refuse(w, r, errSessionUnknown, false, sessionUnknown)
		return
	case s.websocket:
		s.mu.Unlock()
		s.srv.refuse(w, r, errBadRequest, false, "the session is on websocket, and the request is of polling")
		return
	case s.posting:
		s.mu.Unlock()
		s.overlap(w, "1", "a POST came while another one was under way")
		return
	}
	s.posting, s.body = true, control
	s.spendLocked(1)
	s.mu.Unlock()

	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // without support the server's own limits hold
	body, status, detail := s.readBody(w, r)

	s.mu.Lock()
	s.body = nil
	closed := s.state == stateClosed
	s.mu.Unlock()
	// net/http reads what is left of a body after the handler: not for long, and not at all from who broke the rules.
	switch {
	case closed, status == http.StatusBadRequest:
		_ = control.SetReadDeadline(time.Unix(1, 0))
	case status != http.StatusOK:
		_ = control.EnableFullDuplex() // the answer does not wait for the rest
		_ = control.SetReadDeadline(time.Now().Add(lingerTimeout))
	default:
		_ = control.SetReadDeadline(time.Time{})
	}

	var v verdict
	switch {
	case closed, status == http.StatusBadRequest:
		status = http.StatusBadRequest
		v = verdict{endLost, "1"}
		if detail != "" {
			v.end = broken(ReasonTransportError, countBadBody, "%s", detail)
		}
		w.Header().Set("Connection", "close")
	case status == http.StatusRequestEntityTooLarge:
		s.refuseTooLarge(r.ContentLength)
		w.Header().Set("Connection", "close")
	case status == http.StatusServiceUnavailable:
		v = verdict{unkept(stillArriving), "1"}
		w.Header().Set("Connection", "close")
	default:
		v = s.receivePayload(r.Context(), s.packets(r, body), len(body))
	}
	s.mu.Lock()
	s.endPostLocked() // before the response is out: the client's next POST may be faster than our return
	s.mu.Unlock()
	if v.end != nil {
		s.end(v.end, v.pollBody)
	}
	if status != http.StatusOK {
		w.WriteHeader(status)
		return
	}
	setPollHeaders(w.Header(), r)
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Content-Length", "2")
	_ = control.SetWriteDeadline(time.Now().Add(flushTimeout)) // the server's own may have passed, as a POST may wait for long
	_, _ = io.WriteString(w, "ok")                             // a client that is gone is found elsewhere
}

// packets returns the reader of a POST's body, which it owns.
func (s *Session) packets(r *http.Request, body []byte) packetReader {
	if s.dialect != eio4 {
		return s.eio3Packets(r, body)
	}
	return newPayloadReader(body)
}

func isOctets(r *http.Request) bool {
	return strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), "application/octet-stream")
}

// readBody reads a whole body within the session's limit. Content-Length is not believed further than to refuse: the
// buffer grows with what comes. Status is 200, 400, 413, or 503 when the node's budget has no room for more of it. Of a
// body that is refused with 400 detail says what is wrong with it; "" when it has not come to its end.
func (s *Session) readBody(w http.ResponseWriter, r *http.Request) (body []byte, status int, detail string) {
	limit, octets := s.payloadLimit(), s.dialect != eio4 && !s.jsonp()
	encoding := r.Header.Get("Content-Encoding")
	switch {
	case isOctets(r) && !octets:
		return nil, http.StatusBadRequest, "a POST of Content-Type application/octet-stream is not of this version of the protocol"
	case encoding != "" && encoding != "identity":
		return nil, http.StatusBadRequest, fmt.Sprintf("a POST has Content-Encoding %q, which is not served", cut(encoding))
	}
	if r.ContentLength > int64(limit) {
		return nil, http.StatusRequestEntityTooLarge, ""
	}
	in := arriving{budget: s.srv.cfg.Inbound}
	defer in.giveBack()
	rest := http.MaxBytesReader(w, r.Body, int64(limit))
	announced := max(int(r.ContentLength), 0) + 1 // a byte more shows that there are no more
	body = make([]byte, 0, min(announced, 4<<10)+bytes.MinRead)
	for {
		n, err := rest.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		var tooLarge *http.MaxBytesError
		switch {
		case err == io.EOF:
			return body, http.StatusOK, ""
		case errors.As(err, &tooLarge):
			return nil, http.StatusRequestEntityTooLarge, ""
		case err != nil:
			return nil, http.StatusBadRequest, ""
		case len(body) < cap(body):
			continue
		}
		size := min(2*cap(body), limit+1)
		if cap(body) < announced {
			size = min(size, announced)
		}
		if !in.cover(size) {
			return nil, http.StatusServiceUnavailable, ""
		}
		body = append(make([]byte, 0, size), body...)
	}
}

// writePoll answers a GET with items, or with a ready body when there are none. It returns when the bytes are with the
// kernel; each piece has a deadline.
func (s *Session) writePoll(w http.ResponseWriter, r *http.Request, items []item, body string) error {
	h := w.Header()
	setPollHeaders(h, r)
	compress := false
	if s.dialect != eio4 {
		body, compress = s.eio3Body(h, items, body)
		items = nil
	}
	n := len(body)
	for i, it := range items {
		n += len(it.msg.payload())
		if i > 0 {
			n++
		}
		compress = compress || it.flags&NoCompress == 0
	}
	control := http.NewResponseController(w)
	// net/http may keep the connection for other handlers: no deadline of ours stays on it.
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	out := &deadlineWriter{w: w, control: control, session: s}
	if compress && n >= compressFrom && s.srv.cfg.Compression && acceptsGzip(r.Header) {
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
		z := gzipPool.Get().(*gzip.Writer)
		defer gzipPool.Put(z)
		z.Reset(out)
		if err := writeItems(z, items, body); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
	} else {
		h["Content-Length"] = []string{strconv.Itoa(n)}
		if err := writeItems(out, items, body); err != nil {
			return err
		}
	}
	return out.flush()
}

func writeItems(w io.Writer, items []item, body string) error {
	if body != "" {
		_, err := io.WriteString(w, body)
		return err
	}
	for i, it := range items {
		if i > 0 {
			if _, err := w.Write([]byte{separator}); err != nil {
				return err
			}
		}
		if _, err := w.Write(it.msg.payload()); err != nil {
			return err
		}
	}
	return nil
}

// deadlineWriter gives each piece of a response its own deadline, and takes each for progress.
type deadlineWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	session *Session
	left    int // bytes that the deadline set last still covers
}

func (d *deadlineWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if d.left == 0 {
			d.session.took()
			// A little later than the session's timer, which says whether it is slow. Unsupported: the server's WriteTimeout
			// holds.
			_ = d.control.SetWriteDeadline(time.Now().Add(d.session.srv.slowAfter() + time.Second))
			d.left = pollPieceBytes
		}
		piece := p[:min(len(p), d.left)]
		d.left -= len(piece)
		m, err := d.w.Write(piece)
		if n += m; err != nil {
			return n, err
		}
		p = p[len(piece):]
	}
	return n, nil
}

// flush sends what is still buffered, which the last deadline covers.
func (d *deadlineWriter) flush() error {
	if err := d.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// Values that answers share: a header that is only set by them allocates nothing.
var (
	plainText = []string{"text/plain; charset=UTF-8"}
	noStore   = []string{"no-store"}
)

// setPollHeaders sets what all answers of the transport have in common.
func setPollHeaders(h http.Header, r *http.Request) {
	h["Content-Type"], h["Cache-Control"] = plainText, noStore
	if ua := r.UserAgent(); strings.Contains(ua, ";MSIE") || strings.Contains(ua, "Trident/") {
		h.Set("X-XSS-Protection", "0")
	}
}
