package grpcapi

import (
	"sync"
	"time"
)

// linger is how long a stream that the node has ended may take to send what is still queued for it.
const linger = time.Second

// maxSend is how long a stream that nobody else ends may be stuck in one send.
const maxSend = 10 * time.Second

// outlet runs send, which takes what the service has for a stream and sends it, and returns what send returns. A client
// that reads nothing leaves send stuck in flow control, where nothing can reach it while its RPC lasts: so once ended
// is closed and linger is over, outlet returns stuck, and gRPC, ending the stream, frees send. send must touch nothing
// but its stream then. The Server waits for its goroutine.
func (s *Server) outlet(send func() error, ended <-chan struct{}, stuck error) error {
	result := make(chan error, 1)
	s.streams.Go(func() {
		result <- send()
	})
	select {
	case err := <-result:
		return err
	case <-ended:
	}
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case err := <-result:
		return err
	case <-timer.C:
		return stuck
	}
}

// pace notices when a send is stuck: it closes stuck.
type pace struct {
	stuck chan struct{}
	timer *time.Timer
}

func newPace() *pace {
	p := &pace{stuck: make(chan struct{})}
	p.timer = time.AfterFunc(maxSend, sync.OnceFunc(func() { close(p.stuck) }))
	p.timer.Stop()
	return p
}

func (p *pace) send(send func() error) error {
	p.timer.Reset(maxSend)
	defer p.timer.Stop()
	return send()
}

// stop is for when the stream is over.
func (p *pace) stop() { p.timer.Stop() }
