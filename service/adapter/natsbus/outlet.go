package natsbus

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// briefly is how long a write may wait for a server that does not read. It is called with locks of the library held,
	// so all senders wait.
	briefly = time.Millisecond
	// writeTimeout ends a connection whose server takes nothing. The library's pings find out earlier, unless they are
	// off.
	writeTimeout = 10 * time.Second
)

// outlet is a connection to a server whose Write does not wait: what the other end does not take at once is kept, and
// written by a goroutine, which ends when all is written. The library writes while it holds its lock, and one server
// that is frozen would hold up every sender. How much is kept, Bus bounds by waiting.
type outlet struct {
	net.Conn
	ended sync.WaitGroup

	mu      sync.Mutex
	kept    []byte // guarded by mu
	writing bool   // guarded by mu; a goroutine writes, so that others have to keep what they have
	err     error  // guarded by mu; of that goroutine
	pending int    // guarded by mu; bytes that the goroutine has taken and not written, and kept
}

func newOutlet(conn net.Conn) *outlet { return &outlet{Conn: conn} }

// Write takes all of p, or the connection is broken.
func (o *outlet) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	rest := p
	if !o.writing {
		if err := o.Conn.SetWriteDeadline(time.Now().Add(briefly)); err != nil {
			return 0, err
		}
		n, err := o.Conn.Write(p)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if rest = p[n:]; len(rest) == 0 {
			return len(p), nil
		}
		o.writing = true
		o.ended.Go(o.write)
	}
	o.kept = append(o.kept, rest...)
	o.pending += len(rest)
	return len(p), nil
}

// write writes what is kept until nothing is.
func (o *outlet) write() {
	var batch []byte
	for {
		o.mu.Lock()
		if len(o.kept) == 0 || o.err != nil {
			o.writing, o.kept = false, nil // a burst's buffer is not kept
			o.mu.Unlock()
			return
		}
		batch, o.kept = o.kept, batch[:0]
		o.mu.Unlock()

		for rest := batch; len(rest) > 0; {
			n := min(len(rest), 64<<10)
			err := o.Conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			if err == nil {
				n, err = o.Conn.Write(rest[:n])
			}
			rest = rest[n:]
			o.mu.Lock()
			o.pending -= n
			if err != nil {
				o.err = err
				o.mu.Unlock()
				o.Conn.Close() // the library's reader hears of it
				return
			}
			o.mu.Unlock()
		}
	}
}

// waiting is how many bytes are kept.
func (o *outlet) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pending
}

// SetWriteDeadline does nothing: Write does not wait.
func (o *outlet) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline sets that of reads.
func (o *outlet) SetDeadline(t time.Time) error { return o.SetReadDeadline(t) }

// Close ends the connection; what is kept is lost.
func (o *outlet) Close() error {
	err := o.Conn.Close()
	o.mu.Lock()
	if o.err == nil {
		o.err = net.ErrClosed
	}
	o.mu.Unlock()
	return err
}
