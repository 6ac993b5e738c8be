package grpcapi

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc/test/bufconn"
)

// rawClient speaks HTTP/2 by hand, since no client library leaves a message half sent or keeps to no window.
type rawClient struct {
	testing.TB
	conn net.Conn
	next uint32 // stream

	mu     sync.Mutex
	ended  map[uint32]bool // streams that the server has ended
	credit map[uint32]int  // what may be sent on a stream
	closed chan struct{}   // closed when the server has closed the connection
	told   sync.Cond       // of mu: one of them has changed
	hasty  bool            // keeps to no window
}

// listening runs s in memory and ends it with the test.
func listening(t testing.TB, s *Server) *bufconn.Listener {
	t.Helper()
	lis := bufconn.Listen(1 << 16)
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: got %v, want nil", err)
		}
	})
	return lis
}

func dialRaw(t testing.TB, lis *bufconn.Listener) *rawClient {
	t.Helper()
	conn, err := lis.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := &rawClient{TB: t, conn: conn, next: 1, ended: map[uint32]bool{}, credit: map[uint32]int{}, closed: make(chan struct{})}
	c.told.L = &c.mu
	t.Cleanup(func() { _ = conn.Close(); <-c.closed })
	go c.read()
	return c
}

// greet begins HTTP/2.
func (c *rawClient) greet() *rawClient {
	c.write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	c.frame(4, 0, 0, nil)
	return c
}

func (c *rawClient) read() {
	defer close(c.closed)
	var f frames
	var window uint32
	buf := make([]byte, 1<<16)
	for {
		n, err := c.conn.Read(buf)
		for p := buf[:n]; len(p) > 0; {
			rest, part, began, ended := f.next(p)
			p = rest
			if f.kind == frameWindow && f.stream > 0 && len(part) > 0 {
				for _, b := range part {
					window = window<<8 | uint32(b)
				}
				if ended {
					c.mu.Lock()
					c.credit[f.stream] += int(window)
					c.mu.Unlock()
					c.told.Broadcast()
					window = 0
				}
			}
			if began && f.stream > 0 && (f.kind == frameReset || f.flags&flagEnd != 0) {
				c.mu.Lock()
				c.ended[f.stream] = true
				c.mu.Unlock()
				c.told.Broadcast()
			}
			if began && f.kind == 6 && f.flags&1 == 0 { // a ping: an answer
				go func() { c.frame(6, 1, 0, make([]byte, 8)) }()
			}
		}
		if err != nil {
			c.told.Broadcast()
			return
		}
	}
}

// wantEnded waits until the server has ended a stream.
func (c *rawClient) wantEnded(stream uint32) {
	c.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.ended[stream] {
		select {
		case <-c.closed:
			c.Fatalf("the connection is closed, stream %d has not ended", stream)
		default:
		}
		c.told.Wait()
	}
}

func (c *rawClient) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

func (c *rawClient) write(p []byte) bool {
	_, err := c.conn.Write(p)
	return err == nil
}

func frameBytes(kind, flags byte, stream uint32, payload []byte) []byte {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	return append(binary.BigEndian.AppendUint32(append(head, flags), stream), payload...)
}

func (c *rawClient) frame(kind, flags byte, stream uint32, payload []byte) bool {
	return c.write(frameBytes(kind, flags, stream, payload))
}

// call opens a stream; headers are further names and values.
func (c *rawClient) call(method string, headers ...string) uint32 {
	stream := c.next
	c.next += 2
	var block []byte
	for list := append([]string{
		":method", "POST", ":scheme", "http", ":path", method, ":authority", "foyer", "content-type", "application/grpc", "te", "trailers",
	}, headers...); len(list) > 0; list = list[2:] {
		// HPACK, a literal that is not indexed (RFC 7541, section 6.2.2); none is longer than 126 bytes.
		block = append(append(append(block, 0, byte(len(list[0]))), list[0]...), byte(len(list[1])))
		block = append(block, list[1]...)
	}
	c.mu.Lock()
	c.credit[stream] = 65_535
	c.mu.Unlock()
	c.frame(frameHeaders, 4, stream, block)
	return stream
}

// room waits until n bytes may be sent on a stream, or it has ended.
func (c *rawClient) room(stream uint32, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.credit[stream] < n && !c.ended[stream] && !c.hasty && !c.isClosed() {
		c.told.Wait()
	}
	c.credit[stream] -= n
}

// message begins a message of size bytes, of which sent are sent, and when these are all ends the stream; false: the
// connection is closed.
func (c *rawClient) message(stream uint32, size, sent int) bool {
	data := make([]byte, messageHead, messageHead+sent)
	binary.BigEndian.PutUint32(data[1:], uint32(size))
	for data = append(data, make([]byte, sent)...); len(data) > 0; {
		n := min(len(data), 16<<10)
		c.room(stream, n)
		flags := byte(0)
		if n == len(data) && sent == size {
			flags = flagEnd
		}
		if !c.frame(frameData, flags, stream, data[:n]) {
			return false
		}
		data = data[n:]
	}
	return true
}

var _ io.Closer = (*rawClient)(nil)

// Close ends the connection.
func (c *rawClient) Close() error { return c.conn.Close() }
