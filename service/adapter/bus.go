package adapter

import (
	"errors"

	"foyer/service"
)

// Bus moves frames between the nodes of one cluster. It promises little: a frame may be lost, come twice, come late, or
// come in another order than it was sent in, and nobody is told. Each bus says itself what it promises beyond that.
// Trunks add the rest. The frame says which node sent it: a bus knows it no better.
//
// All methods but Close and Receive are safe for concurrent use, do not wait for a peer or for the network, and may be
// called from within the function given to Receive.
type Bus interface {
	// Send hands over a frame for one node: for each that has this name, were there two, but never for this bus itself.
	// The frame is the caller's again when Send returns. nil says that the bus has taken it, and not that anybody will get
	// it. A name of a node that is not there is no error, and a frame without bytes goes nowhere. Errors: ErrClosed,
	// ErrDown, ErrFull, ErrTooLarge, ErrName.
	Send(to service.NodeID, frame []byte) error
	// SendAll hands over a frame for all other nodes. Otherwise it is as Send.
	SendAll(frame []byte) error

	// Receive gives what comes to a function, frame by frame and never two at once. What others send after Receive has
	// returned comes, as far as this bus promises that anything does; where news of a node has a way to travel, the first
	// frames after it can be among those lost. A frame is the function's to keep and to change. It must neither block nor
	// call Close: while it does not return, frames wait within a bound of the bus, and are lost beyond it. Receive is
	// called once. It may wait for the network, for some seconds at most. Errors: ErrClosed, or why this cannot be.
	Receive(each func(frame []byte)) error

	// MaxFrame is the largest frame that Send takes, in bytes. It is at least MinFrame, and the same for the bus's life.
	MaxFrame() int

	// Up says whether frames can go out and come in, as far as this end knows. While it is down, Send and SendAll keep
	// nothing. It comes up again by itself.
	Up() bool
	// Changed gets a value after Up has changed; it may be one for several changes, or one too many. It has one reader.
	Changed() <-chan struct{}

	// Lost counts the frames that the bus knows it has lost, on their way out or in, after it had taken them, and those
	// that came and were too large to be frames.
	Lost() uint64

	// Close ends all that the bus has begun. When it returns, the function given to Receive is not called any more and Up
	// is false; goroutines and descriptors of a driver are gone soon after. What Send has taken and not given away is
	// lost. It waits some seconds at most. A second call does nothing but wait for the first.
	Close() error
}

// MinFrame is what every bus has to take: 64 KiB of items and a header.
const MinFrame = 64<<10 + 512

// Errors of Send and SendAll. None of them says anything about a peer.
var (
	ErrClosed   = errors.New("the bus is closed")
	ErrDown     = errors.New("the bus is down")
	ErrFull     = errors.New("the bus has no room for more at this moment")
	ErrTooLarge = errors.New("the frame is larger than the bus takes")
	ErrName     = errors.New("this is no name of a node")
)
