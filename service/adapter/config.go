package adapter

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"foyer/service"
)

// MaxItem is the largest item that a node takes, in bytes.
const MaxItem = 8 << 20

// Config is what Peers need. Zero values mean the default that the field names.
type Config struct {
	Self    service.Incarnation
	Cluster string        // its name; default: foyer
	Key     []byte        // of the cluster; default: none, and everybody can make frames
	Version string        // of Foyer
	Address string        // of the peer listener
	Lease   time.Duration // default: 5 s
	// Window is how many bytes without an ack are kept for a peer. An item that is larger goes alone. Default: 16 MiB.
	Window int
	// MaxFrame is the largest frame that the bus takes, in bytes. Default: 64 KiB of items and a header.
	MaxFrame int

	wireFrom, wireTo uint64 // for tests; default: those of this build
}

// Validate says all that is wrong with a Config at once.
func (c *Config) Validate() error {
	var errs []error
	if !validName(c.Self.Node) || c.Self.Run == 0 {
		errs = append(errs, fmt.Errorf("node %q, run %d: want 4 characters of A-Z a-z 0-9 - _, and a run", c.Self.Node, c.Self.Run))
	}
	for _, text := range []string{c.Cluster, c.Version, c.Address} {
		if !utf8.ValidString(text) || len(text) > service.MaxNameBytes {
			errs = append(errs, fmt.Errorf("%.20q: want UTF-8 of at most %d bytes", text, service.MaxNameBytes))
		}
	}
	if c.Lease != 0 && c.Lease < 5*repairAfter {
		errs = append(errs, fmt.Errorf("lease %v: want at least %v", c.Lease, 5*repairAfter))
	}
	if c.MaxFrame != 0 && c.MaxFrame < 2*frameOverhead {
		errs = append(errs, fmt.Errorf("frames of %d bytes: want at least %d", c.MaxFrame, 2*frameOverhead))
	}
	if d := c.defaults(); d.Window < 4*min(d.MaxFrame, frameItems) {
		errs = append(errs, fmt.Errorf("window of %d bytes: want at least 4 frames of %d", d.Window, d.MaxFrame))
	}
	return errors.Join(errs...)
}

func (c *Config) defaults() Config {
	d := *c
	if d.Cluster == "" {
		d.Cluster = "foyer"
	}
	if d.Lease == 0 {
		d.Lease = 5 * time.Second
	}
	if d.Window == 0 {
		d.Window = 16 << 20
	}
	if d.MaxFrame == 0 {
		d.MaxFrame = frameItems + frameOverhead + itemHead
	}
	if d.wireTo == 0 {
		d.wireFrom, d.wireTo = wireFrom, wireTo
	}
	return d
}
