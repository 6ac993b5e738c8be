package socketio

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"foyer/service"
)

// Config sets up a Server. Zero means default, negative off where that makes sense.
type Config struct {
	// ConnectTimeout is how long a client may take from the opening of its session until it has joined its first
	// namespace. Default 45 s; negative: for ever.
	ConnectTimeout time.Duration
	// MaxNamespaces is how many namespaces a link may be connected to, or waiting for, at once. A CONNECT over it is
	// answered by a CONNECT_ERROR. Default 64.
	MaxNamespaces int
	// MaxPayload is the largest payload without its attachments, in bytes, and the longest JSON that a msgpack payload may
	// become. Over it the link is closed. Default 1,000,000. Each attachment is a message of its own, bounded by engineio.
	MaxPayload int
	// MaxConnectPayload is the largest message of a client that has joined nothing, as engineio has it, and the
	// longest JSON that the auth in it may become. Default 16 KiB.
	MaxConnectPayload int
	// MaxPacketBytes is the largest packet: a payload with all its attachments. Over it the link is closed, and the log
	// says so. Default: ten times MaxPayload, at most 3 MiB or MaxPayload, because what gRPC's clients take at once is 4
	// MB unless they are told otherwise, and an event goes to its handler in one piece. Never below MaxPayload.
	MaxPacketBytes int
	// AttachmentTimeout is how long a client may take for the next attachment of a packet that it has begun. Over it the
	// link is closed. A link that is paused has all the time. Default 30 s; negative: for ever.
	AttachmentTimeout time.Duration
	// Budget is the node's memory: what a packet holds above 64 KiB while it waits for the rest of its attachments is
	// taken from it, and where it is spent the link is closed. Default: the node's.
	Budget *service.Budget
	// Logger gets debug lines per link, and lines about limits that clients run into, few of a kind. Default: none.
	Logger *zap.Logger
	// Told gets the lines about limits, and says the same only once in a while. Default: Logger with a sampler of its own,
	// which takes 450 KB.
	Told *zap.Logger
}

const (
	maxPacketDefault  = 3 << 20
	maxNamespaceBytes = 255              // as service.MaxNameBytes
	freeJoiningBytes  = 64 << 10         // what a packet without all of its attachments may hold beside the Budget
	tellEvery         = 10 * time.Second // how often a kind of line about clients is logged
	// Bounds of what the undecided connects of a link hold, before its reading stops until some are decided. With
	// the largest message on top, one in hand, the headers and a few answers, a client that has joined nothing stays under
	// 64 KiB.
	maxPendingBytes       = 64 << 10
	maxPendingBytesBefore = 6 << 10 // until it has joined something
	// attemptBytes is what a connect holds beside its name and auth, in this package and in the service, measured.
	attemptBytes = 1536
)

// Validate reports everything that is wrong with the Config, joined.
func (c Config) Validate() error {
	var errs []error
	if c.MaxNamespaces < 0 {
		errs = append(errs, fmt.Errorf("socketio: max namespaces %d is negative; it cannot be off", c.MaxNamespaces))
	}
	if c.MaxPayload < 0 {
		errs = append(errs, fmt.Errorf("socketio: max payload %d is negative; it cannot be off", c.MaxPayload))
	}
	if c.MaxConnectPayload < 0 {
		errs = append(errs, fmt.Errorf("socketio: max connect payload %d is negative; it cannot be off", c.MaxConnectPayload))
	}
	if c.MaxPacketBytes < 0 {
		errs = append(errs, fmt.Errorf("socketio: max packet bytes %d is negative; it cannot be off", c.MaxPacketBytes))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 45 * time.Second
	}
	if c.MaxNamespaces == 0 {
		c.MaxNamespaces = 64
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = 1_000_000
	}
	if c.MaxConnectPayload == 0 {
		c.MaxConnectPayload = 16 << 10
	}
	if c.MaxPacketBytes == 0 {
		c.MaxPacketBytes = min(10*c.MaxPayload, maxPacketDefault)
	}
	c.MaxPacketBytes = max(c.MaxPacketBytes, c.MaxPayload)
	if c.AttachmentTimeout == 0 {
		c.AttachmentTimeout = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Told == nil {
		c.Told = c.Logger.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
			return zapcore.NewSamplerWithOptions(core, tellEvery, 1, 0)
		}))
	}
	return c
}
