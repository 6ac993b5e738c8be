package socketio

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Config sets up a Server. Zero means default, negative off where that makes sense.
type Config struct {
	// ConnectTimeout is how long a client may take from the opening of its session until it has joined its first
	// namespace. Default 45 s; negative: for ever.
	ConnectTimeout time.Duration
	// MaxNamespaces is how many namespaces a link may be connected to, or waiting for, at once. A CONNECT over it is
	// answered by a CONNECT_ERROR. Default 64.
	MaxNamespaces int
	// MaxPayload is the largest payload with all its attachments, in bytes, and the longest JSON that a msgpack payload may
	// become. Over it the link is closed. Default 1,000,000.
	MaxPayload int
	// Logger gets debug lines per link. Default: none.
	Logger *zap.Logger
}

const (
	maxNamespaceBytes = 255 // as service.MaxNameBytes
	// What a link may have the service hold for it, as auth data, while its connects are undecided: with 16 KiB of message
	// and 16 KiB of headers a client that has joined nothing stays under 64 KiB.
	maxPendingAuth = 24 << 10
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
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return c
}
