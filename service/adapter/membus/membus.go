// Package membus is a bus in memory, for tests, and the faults that tests wrap around any bus (faults.go). It loses
// nothing but what a receiver that is behind has no room for, repeats nothing and keeps the order of each sender.
//
// Each Bus has one goroutine, from Receive to Close. Time passes for faults only, so that both work within a bubble of
// testing/synctest.
package membus

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"foyer/service"
	"foyer/service/adapter"
)

const (
	maxFrame   = 256 << 10
	inboxBytes = 32 << 20 // that wait for a receiver
)

// Network is what the buses of one cluster have in common.
type Network struct {
	mu    sync.Mutex
	buses []*Bus // guarded by mu; in the order in which they came
}

// New returns a network without buses.
func New() *Network { return &Network{} }

// Open brings a bus to the network, whether the name is taken or not.
func (n *Network) Open(name service.NodeID) *Bus {
	b := &Bus{network: n, name: name, changed: make(chan struct{}, 1), filled: make(chan struct{}, 1), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.buses = append(n.buses, b)
	return b
}

// Bus is one node's end of a Network.
type Bus struct {
	network *Network
	name    service.NodeID
	changed chan struct{}
	filled  chan struct{} // has a value while the inbox may have frames
	done    chan struct{} // closed by Close
	ended   sync.WaitGroup
	lost    atomic.Uint64

	mu        sync.Mutex
	receiving bool     // guarded by mu
	closed    bool     // guarded by mu
	inbox     [][]byte // guarded by mu
	inBytes   int      // guarded by mu
}

// Send implements adapter.Bus.
func (b *Bus) Send(to service.NodeID, frame []byte) error {
	if !to.Valid() {
		return adapter.ErrName
	}
	return b.send(frame, func(other *Bus) bool { return other.name == to })
}

// SendAll implements adapter.Bus.
func (b *Bus) SendAll(frame []byte) error {
	return b.send(frame, func(*Bus) bool { return true })
}

// send copies the frame for each, since each may change what it gets. The network is locked for all of it: what two
// send at once comes everywhere in the same order.
func (b *Bus) send(frame []byte, wanted func(*Bus) bool) error {
	if len(frame) > maxFrame {
		return adapter.ErrTooLarge
	}
	b.network.mu.Lock()
	defer b.network.mu.Unlock()
	if !slices.Contains(b.network.buses, b) {
		return adapter.ErrClosed
	}
	for _, other := range b.network.buses {
		if other != b && len(frame) > 0 && wanted(other) {
			other.put(slices.Clone(frame))
		}
	}
	return nil
}

func (b *Bus) put(frame []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.receiving {
		return // nobody has subscribed
	}
	if b.inBytes+len(frame) > inboxBytes {
		b.lost.Add(1)
		return
	}
	b.inbox = append(b.inbox, frame)
	b.inBytes += len(frame)
	poke(b.filled)
}

// Receive implements adapter.Bus.
func (b *Bus) Receive(each func(frame []byte)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return adapter.ErrClosed
	case b.receiving:
		return errors.New("a bus has one receiver")
	}
	b.receiving = true
	b.ended.Go(func() { b.deliver(each) })
	return nil
}

func (b *Bus) deliver(each func(frame []byte)) {
	for {
		select {
		case <-b.done:
			return
		case <-b.filled:
		}
		for {
			frame, ok := b.take()
			if !ok {
				break
			}
			each(frame)
		}
	}
}

func (b *Bus) take() ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.inbox) == 0 {
		return nil, false
	}
	frame := b.inbox[0]
	b.inbox[0] = nil
	b.inbox = b.inbox[1:]
	b.inBytes -= len(frame)
	return frame, true
}

// MaxFrame implements adapter.Bus.
func (b *Bus) MaxFrame() int { return maxFrame }

// Up implements adapter.Bus: it is up until it is closed.
func (b *Bus) Up() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.closed
}

// Changed implements adapter.Bus.
func (b *Bus) Changed() <-chan struct{} { return b.changed }

// Lost implements adapter.Bus.
func (b *Bus) Lost() uint64 { return b.lost.Load() }

// Close implements adapter.Bus.
func (b *Bus) Close() error {
	b.network.mu.Lock()
	b.network.buses = slices.DeleteFunc(b.network.buses, func(other *Bus) bool { return other == b })
	b.network.mu.Unlock()

	b.mu.Lock()
	again := b.closed
	b.closed, b.inbox, b.inBytes = true, nil, 0
	b.mu.Unlock()
	if !again {
		close(b.done)
		poke(b.changed)
	}
	b.ended.Wait()
	return nil
}

// poke leaves a value in a channel that holds one.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
