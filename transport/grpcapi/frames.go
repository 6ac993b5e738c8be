package grpcapi

import (
	"encoding/binary"
	"net"
	"time"
)

// This file knows as much of HTTP/2 (RFC 9113, section 4) and of gRPC's messages in it as is needed to say how much of
// messages has come that are not complete: gRPC keeps those, and tells nobody of them until they are.

const (
	clientGreeting = 24 // bytes, before the client's first frame
	frameHead      = 9

	frameData    = 0
	frameHeaders = 1
	frameReset   = 3
	frameWindow  = 8

	flagEnd    = 0x1 // of data and headers: the stream's last frame
	flagPadded = 0x8

	messageHead = 5 // a byte that says whether it is compressed, then its length
)

// frames finds the frames in what passes over a connection one way.
type frames struct {
	skip int // bytes before the first frame
	head [frameHead]byte
	have int // of head
	left int // of the frame's payload

	kind, flags byte
	stream      uint32
}

// next takes from p to the end of a frame's head, or a part of its payload. began says that a head is complete now,
// part is what belongs to the payload, and ended that the frame is complete.
func (f *frames) next(p []byte) (rest, part []byte, began, ended bool) {
	switch {
	case f.skip > 0:
		n := min(f.skip, len(p))
		f.skip -= n
		return p[n:], nil, false, false
	case f.left > 0:
		n := min(f.left, len(p))
		f.left -= n
		return p[n:], p[:n], false, f.left == 0
	}
	n := copy(f.head[f.have:], p)
	if f.have += n; f.have < frameHead {
		return p[n:], nil, false, false
	}
	f.have = 0
	f.left = int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
	f.kind, f.flags = f.head[3], f.head[4]
	f.stream = binary.BigEndian.Uint32(f.head[5:]) &^ (1 << 31)
	return p[n:], nil, true, f.left == 0
}

// incoming is where a stream of the client stands in its messages.
type incoming struct {
	credit int64 // what the client may send still; at 0 it waits for us
	head   [messageHead]byte
	have   int   // of head; all of it: the message has begun
	left   int64 // of the message
	got    int64
	begun  int64 // when its first byte came or the client was last let go on, in Unix nanoseconds; 0: no byte has come
}

// progress is what has come of the messages of one connection. A stream is in it until one of the two ends it: what
// comes after that, gRPC throws away.
type progress struct {
	in, out frames
	data    int    // of the data frame that is read: what is left before its padding
	pad     bool   // its next byte says how much padding it has
	window  uint32 // of the window frame that is written: what of it has passed
	streams map[uint32]*incoming
	last    uint32    // the stream of the last data frame: mostly that of the next one, too
	at      *incoming // where it stands; nil: it is not known
	held    int64
}

func newProgress() progress {
	return progress{in: frames{skip: clientGreeting}, streams: map[uint32]*incoming{}}
}

// first says whether nothing has come yet.
func (g *progress) first() bool { return g.in.skip == clientGreeting }

// read takes what the client has sent; it says whether a call began.
func (g *progress) read(p []byte) (called bool) {
	for len(p) > 0 {
		rest, part, began, ended := g.in.next(p)
		p = rest
		if began {
			g.data, g.pad = g.in.left, g.in.flags&flagPadded != 0
			switch g.in.kind {
			case frameHeaders:
				called = true
				if g.streams[g.in.stream] == nil {
					g.streams[g.in.stream] = &incoming{credit: streamWindow}
					g.last, g.at = 0, nil
				}
			case frameData:
				if g.last != g.in.stream {
					g.last, g.at = g.in.stream, g.streams[g.in.stream]
				}
				if g.at != nil {
					g.at.credit -= int64(g.in.left)
				}
			}
		}
		if len(part) > 0 && g.in.kind == frameData {
			if g.pad {
				g.pad = false
				g.data -= 1 + int(part[0])
				part = part[1:]
			}
			n := min(max(0, g.data), len(part))
			g.data -= n
			if g.at != nil {
				g.message(g.at, part[:n])
			}
		}
		if ended {
			g.over(&g.in)
		}
	}
	return called
}

// wrote takes what was sent to the client.
func (g *progress) wrote(p []byte) {
	for len(p) > 0 {
		rest, part, began, ended := g.out.next(p)
		p = rest
		if began {
			g.window = 0
			g.over(&g.out)
		}
		if g.out.kind != frameWindow {
			continue
		}
		for _, b := range part {
			g.window = g.window<<8 | uint32(b)
		}
		if s := g.streams[g.out.stream]; ended && s != nil {
			s.credit += int64(g.window)
			if s.begun != 0 {
				s.begun = time.Now().UnixNano()
			}
		}
	}
}

// over forgets a stream whose last frame f has.
func (g *progress) over(f *frames) {
	if f.kind == frameReset || (f.kind == frameData || f.kind == frameHeaders) && f.flags&flagEnd != 0 {
		if s := g.streams[f.stream]; s != nil {
			g.held -= s.got
			delete(g.streams, f.stream)
		}
		if g.last == f.stream {
			g.last, g.at = 0, nil
		}
	}
}

// message takes data of a stream.
func (g *progress) message(s *incoming, p []byte) {
	for len(p) > 0 {
		if s.have == 0 && len(p) >= messageHead { // most messages come at once
			if n := int64(binary.BigEndian.Uint32(p[1:])); n <= int64(len(p)-messageHead) {
				p = p[messageHead+n:]
				continue
			}
		}
		if s.have < messageHead {
			n := copy(s.head[s.have:], p)
			s.have += n
			p = p[n:]
			if s.have == messageHead {
				s.left = int64(binary.BigEndian.Uint32(s.head[1:]))
			}
		}
		n := min(s.left, int64(len(p)))
		s.left -= n
		s.got += n
		g.held += n
		p = p[n:]
		if s.have == messageHead && s.left == 0 {
			g.held -= s.got
			*s = incoming{credit: s.credit}
		}
	}
	if s.have > 0 && s.begun == 0 {
		s.begun = time.Now().UnixNano()
	}
}

// older says whether a message that began before then is not complete, though the client may send more of it.
func (g *progress) older(then int64) bool {
	for _, s := range g.streams {
		if s.begun != 0 && s.begun < then && s.credit > 0 {
			return true
		}
	}
	return false
}

// inbound is a connection as gRPC has it, above TLS where there is TLS.
type inbound struct {
	net.Conn
	conn *conn
}

func (i *inbound) Read(p []byte) (int, error) {
	n, err := i.Conn.Read(p)
	if n > 0 {
		i.conn.read(p[:n])
	}
	return n, err
}

func (i *inbound) Write(p []byte) (int, error) {
	n, err := i.Conn.Write(p)
	if n > 0 {
		i.conn.wrote(p[:n])
	}
	return n, err
}
