package service

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
)

// ConnectMode says who may connect to a namespace.
type ConnectMode uint8

// The modes of a namespace.
const (
	ConnectOpen    ConnectMode = iota // anyone
	ConnectHandler                    // a handler decides; while none is there, nobody comes in
)

// NamespaceConfig is a namespace that exists without a handler's asking.
type NamespaceConfig struct {
	Pattern string // a name, or a prefix with "*" at its end
	Connect ConnectMode
}

// Config is what a Node needs. Zero values mean the default that the field names.
type Config struct {
	NodeID     string            // 4 characters of A-Z a-z 0-9 - _; default: random
	Run        uint64            // number of this run of the node; default: by clock and chance
	Version    string            // told by Info
	Namespaces []NamespaceConfig // "/" is always there, open unless it is named here
	// HandlerWait is how long a connect or an event waits for a handler that is not there. Default 10 s.
	HandlerWait time.Duration
	// HandlerPatience is how long a handler may take nothing from a client whose reading is paused for it, before that
	// client is closed, or the handler given up where another one of its group makes progress. Default 30 s.
	HandlerPatience time.Duration
	// DecideWithin is how long a handler has to decide a connect. Default 5 s.
	DecideWithin time.Duration
	// BookmarkEvery is how often an idle watch is sent a bookmark. Default 10 s.
	BookmarkEvery time.Duration
	// PresenceKeep is how long a namespace remembers changes after its last watcher has left. Default 2 min.
	PresenceKeep time.Duration

	// HoldStream is how long an emit on a stream, behind which others wait, may wait for room at one link, from when
	// that became full; the link's own time is another. Default 10 s.
	HoldStream time.Duration

	MaxPayloadBytes      int // largest payload with its attachments; default 1,000,000
	MaxRoomsPerSocket    int // default 1,000
	MaxNamespaces        int // that exist at once; default 10,000
	MaxPendingConnects   int // that wait for a decision; default 10,000
	MaxQueuedEvents      int // of one socket, waiting for its handler, until its link is paused; default 64
	MaxQueuedEventBytes  int // the same in bytes; default 1 MiB
	MaxHandlerQueue      int // events waiting for one handler, and for handlers that are not there; default 65,536
	MaxHandlerQueueBytes int // the same in bytes; default 64 MiB
	MaxNoticeBytes       int // what else one handler has not taken; default 16 MiB
	MaxHandlers          int // attached to this node; default 1,000
	MaxWatchers          int // on this node; default 10,000
	PresenceLog          int // changes that a namespace remembers for its watchers; default 16,384
	PresenceLogBytes     int // the same in bytes; default 16 MiB

	// DepartureBytes bounds what Explain remembers of sockets that are gone. Default 4 MiB; below zero: nothing.
	DepartureBytes int

	PresenceBytes int // what is kept of sockets elsewhere, as long as they are watched here; default 64 MiB

	// Budget is what the node and its edges may keep for their peers, all together. Default: a new one without a limit.
	Budget *Budget

	// Remote is the way to the other nodes. Default: this node is alone.
	Remote Remote

	// Traces what emits and events set off. Default: nothing.
	Tracer *Tracer

	Logger *zap.Logger // default: none
	Told   *zap.Logger // gets what peers can cause at any rate, and writes few of a kind; default: Logger, which writes all
}

// Validate says all that is wrong with a Config at once.
func (c *Config) Validate() error {
	var errs []error
	if c.NodeID != "" && !NodeID(c.NodeID).Valid() {
		errs = append(errs, fmt.Errorf("node id %q: want %d characters of A-Z a-z 0-9 - _", c.NodeID, nodeIDLen))
	}
	for _, ns := range c.Namespaces {
		if err := CheckPattern(ns.Pattern); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// MaxNameBytes is the longest name of a namespace, room, event or handler.
const MaxNameBytes = 255

// CheckPattern says what is wrong with a namespace pattern: an exact name, or a prefix and "*".
func CheckPattern(pattern string) error {
	name := strings.TrimSuffix(pattern, "*")
	switch {
	case len(pattern) > MaxNameBytes:
		return fmt.Errorf("namespace %.20q...: longer than %d bytes", pattern, MaxNameBytes)
	case strings.ContainsAny(name, "*,"):
		return fmt.Errorf("namespace %q: only one * at the end, and no comma", pattern)
	}
	return nil
}

func (c Config) withDefaults() Config {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	dur := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	dur(&c.HandlerWait, 10*time.Second)
	dur(&c.HandlerPatience, 30*time.Second)
	dur(&c.DecideWithin, 5*time.Second)
	dur(&c.BookmarkEvery, 10*time.Second)
	dur(&c.HoldStream, 10*time.Second)
	dur(&c.PresenceKeep, 2*time.Minute)
	def(&c.MaxPayloadBytes, 1_000_000)
	def(&c.MaxRoomsPerSocket, 1000)
	def(&c.MaxNamespaces, 10_000)
	def(&c.MaxPendingConnects, 10_000)
	def(&c.MaxQueuedEvents, 64)
	def(&c.MaxQueuedEventBytes, 1<<20)
	def(&c.MaxHandlerQueue, 65_536)
	def(&c.MaxHandlerQueueBytes, 64<<20)
	def(&c.MaxNoticeBytes, 16<<20)
	def(&c.MaxHandlers, 1000)
	def(&c.MaxWatchers, 10_000)
	def(&c.PresenceLog, 16_384)
	def(&c.PresenceLogBytes, 16<<20)
	def(&c.PresenceBytes, 64<<20)
	def(&c.DepartureBytes, 4<<20)
	if c.NodeID == "" {
		c.NodeID = newNodeID()
	}
	if c.Budget == nil {
		c.Budget = NewBudget(0)
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Told == nil {
		c.Told = c.Logger
	}
	return c
}
