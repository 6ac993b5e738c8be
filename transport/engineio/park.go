package engineio

import (
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
)

// A websocket session that has nothing to read is parked: it has no goroutine, no buffer and no gorilla, until the
// kernel says that its connection is readable. Then one of a few workers reads what is there and parks it again. A
// goroutine per session was 4.5 KiB of stack each.
//
// While a message is under way the worker waits for its rest like any reader of a net.Conn. It says so first (blocked),
// and another worker takes its place. So a slow sender holds up a goroutine of its own and nobody else. A client that
// sends a WebSocket ping also holds one, until its next message: after a control frame gorilla goes on to the next
// frame.

// parkState is who looks after a connection's reading.
type parkState = uint32

const (
	unparked parkState = iota // a goroutine of its own
	idle                      // nobody: the kernel calls
	running                   // a worker
	runAgain                  // a worker, which has to look once more
	held                      // nobody, with reading off: the kernel's news do not count
)

// backlog is how many connections may wait for a worker before one more is made: a crowd that comes or goes at once
// should not become a crowd of goroutines, each growing its stack anew.
const backlog = 4096

// parked is the part of a wsConn that parking needs.
type parked struct {
	park   *parking // nil: not to be parked; set before state
	raw    syscall.RawConn
	fd     int
	state  atomic.Uint32
	hungUp atomic.Bool // the peer sends nothing more: only an error is left after what is there
}

// parking is a server's parked sessions and the workers that read them.
type parking struct {
	poller poller
	srv    *Server
	work   chan *wsConn
	free   atomic.Int32 // workers that are not blocked; want of them, more for a moment
	want   int32
	wg     sync.WaitGroup // the workers and the poller's loop

	closing sync.Once

	mu    sync.Mutex
	conns []*wsConn // by descriptor; guarded by mu
}

// parking returns the server's, started at the first call; nil where there is none.
func (s *Server) parking() *parking {
	s.parkingOnce.Do(func() {
		poller, err := s.newPoller()
		if err != nil {
			return // goroutines do as well
		}
		p := &parking{poller: poller, srv: s, work: make(chan *wsConn, backlog), want: int32(2 * runtime.GOMAXPROCS(0))}
		for range p.want {
			p.free.Add(1)
			p.wg.Go(func() { p.worker(nil) })
		}
		p.wg.Go(func() { poller.loop(p) })
		s.parkingLot = p
	})
	return s.parkingLot
}

// add parks a connection that nobody reads. False: it cannot be parked.
func (p *parking) add(c *wsConn, conn syscall.Conn) bool {
	if p == nil {
		return false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	c.park, c.raw = p, raw
	c.state.Store(running) // by this call, so that news waits for its end
	added := false
	err = raw.Control(func(fd uintptr) {
		c.fd = int(fd)
		p.mu.Lock()
		for len(p.conns) <= c.fd {
			p.conns = append(p.conns, nil)
		}
		p.conns[c.fd] = c
		p.mu.Unlock()
		added = p.poller.add(c.fd)
	})
	if err != nil || !added {
		p.forget(c)
		c.state.Store(unparked)
		c.park = nil
		return false
	}
	kept := c.own != nil // what is in it may be read already, before anybody could wake
	if !c.state.CompareAndSwap(running, idle) {
		c.state.Store(running) // it was runAgain
		p.dispatch(c)
	} else if kept || c.last.Load() != nil { // or its end came before this
		c.wake()
	}
	return true
}

// forget takes a connection out of the table, before it is closed. The kernel forgets a closed descriptor by itself. If
// it was closed earlier, its number may have gone to another connection, and that one stays.
func (p *parking) forget(c *wsConn) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.fd < len(p.conns) && p.conns[c.fd] == c {
		p.conns[c.fd] = nil
	}
}

// ready wakes the connection that has a descriptor. A call that comes too late may wake the wrong one, which finds
// nothing to read and is parked again.
func (p *parking) ready(fd int, hungUp bool) {
	p.mu.Lock()
	c := p.conns[fd]
	p.mu.Unlock()
	if c == nil {
		return
	}
	if hungUp {
		c.hungUp.Store(true)
	}
	if c.state.Load() != held { // the resume reads all there is
		c.wake()
	}
}

// wake has a parked connection read, whatever there is. It does not block.
func (c *wsConn) wake() {
	for {
		switch state := c.state.Load(); state {
		case unparked, runAgain:
			return
		case idle, held:
			if c.state.CompareAndSwap(state, running) {
				c.park.dispatch(c)
				return
			}
		case running:
			if c.state.CompareAndSwap(running, runAgain) {
				return
			}
		}
	}
}

func (p *parking) dispatch(c *wsConn) {
	select {
	case p.work <- c:
	default: // more than the workers have caught up with
		p.free.Add(1)
		p.wg.Go(func() { p.worker(c) })
	}
}

// worker reads one connection after the other, c first, and ends when there are enough of it.
func (p *parking) worker(c *wsConn) {
	for {
		if c != nil {
			p.read(c)
		}
		if p.free.Add(-1) >= p.want {
			return
		}
		p.free.Add(1)
		var open bool
		if c, open = <-p.work; !open {
			return
		}
	}
}

// read reads a connection until it is parked again or has ended.
func (p *parking) read(c *wsConn) {
	for {
		c.drained = false
		rest := idle
		switch c.session.readReady(p.srv.borrow(c, nil)) {
		case readEnded:
			return
		case readPaused:
			rest = held
		case readDone:
		}
		if c.state.CompareAndSwap(running, rest) {
			return
		}
		c.state.Store(running) // it was runAgain
	}
}

// blocked says that a worker is about to wait. Another one takes its place.
func (p *parking) blocked() {
	if p == nil || p.free.Add(-1) >= p.want {
		return
	}
	p.free.Add(1)
	p.wg.Go(func() { p.worker(nil) })
}

// unblocked takes blocked back.
func (p *parking) unblocked() {
	if p != nil {
		p.free.Add(1)
	}
}

// close ends the loop and the workers, when no connection is left. The second call only waits.
func (p *parking) close() {
	p.closing.Do(func() {
		p.poller.close()
		close(p.work)
	})
	p.wg.Wait()
}

// poller asks the kernel which connections are readable.
type poller interface {
	// add begins to watch a descriptor until it is closed. What can be read already counts as news.
	add(fd int) bool
	// loop calls p.ready at news until close.
	loop(p *parking)
	close()
}
