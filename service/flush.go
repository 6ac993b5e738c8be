package service

import (
	"runtime"
	"sync"
)

// flushChunk is how many links one worker takes at a time: enough that the hand-over (about 1 µs) is small beside the
// writes (about 5 µs each), few enough that all cores get a share of a fan-out to some hundreds.
const flushChunk = 128

// flushers are the workers among whom a large fan-out's writes are divided. A link appears once in a fan-out, and its
// own write token keeps its order, so it does not matter who flushes it.
type flushers struct {
	work chan flushJob
	stop chan struct{}
	wg   sync.WaitGroup
}

type flushJob struct {
	conns []Conn
	done  *sync.WaitGroup
}

func newFlushers() *flushers {
	f := &flushers{work: make(chan flushJob), stop: make(chan struct{})}
	for range runtime.GOMAXPROCS(0) - 1 { // the caller is one more
		f.wg.Go(func() {
			for {
				select {
				case j := <-f.work:
					j.run()
				case <-f.stop:
					return
				}
			}
		})
	}
	return f
}

func (j flushJob) run() {
	for _, c := range j.conns {
		c.Flush()
	}
	if j.done != nil {
		j.done.Done()
	}
}

// flush returns when every link was flushed. What no worker is free for, the caller does.
func (f *flushers) flush(conns []Conn) {
	if len(conns) <= flushChunk {
		flushJob{conns: conns}.run()
		return
	}
	var done sync.WaitGroup
	for len(conns) > 0 {
		n := min(flushChunk, len(conns))
		done.Add(1)
		j := flushJob{conns[:n], &done}
		conns = conns[n:]
		select {
		case f.work <- j:
		default:
			j.run()
		}
	}
	done.Wait()
}

// close ends the workers. A caller that flushes afterwards does it alone.
func (f *flushers) close() {
	close(f.stop)
	f.wg.Wait()
}
