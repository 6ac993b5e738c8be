package main

import (
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// tellEvery is how often the log says the same of what peers cause.
	tellEvery = 10 * time.Second
	// mostKinds bounds the kinds of lines that are told apart; those beyond are one. Messages and reasons are closed sets,
	// which have about a hundred; groups are named by backends.
	mostKinds = 512
)

// seldom is a log for what peers can cause at any rate: of each kind of line it writes the first at once, and then one
// in tellEvery, which is the newest and says in left_out how many were not written before it. A kind is a logger's
// name, a message, and a reason or, of what has none, a group of handlers. A node has one such log for all its parts.
//
// Zap's own sampler forgets what it leaves out, knows no fields, and takes 450 KB.
func seldom(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return &seldomCore{c, &kinds{recent: make(map[kind]*recent)}}
	}))
}

type kind struct{ logger, message, reason, group string }

// kinds are the kinds of lines that were written lately. Safe for concurrent use.
type kinds struct {
	mu     sync.Mutex
	recent map[kind]*recent // guarded by mu
}

// recent is a kind of which a line was written less than tellEvery ago. Guarded by kinds.mu.
type recent struct {
	timer  *time.Timer
	newest *line // that was not written; nil: there is none
	unsaid int   // lines that were not written, newest included
}

type line struct {
	core   zapcore.Core
	entry  zapcore.Entry
	fields []zapcore.Field
}

type seldomCore struct {
	zapcore.Core
	kinds *kinds
}

// With returns a core that shares what was written lately.
func (c *seldomCore) With(fields []zapcore.Field) zapcore.Core {
	return &seldomCore{c.Core.With(fields), c.kinds}
}

// Check takes every line of a level that is written: which ones are left out depends on their reason, which Write sees.
func (c *seldomCore) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return to.AddCore(e, c)
	}
	return to
}

// Write writes a line, or keeps it until it is its kind's turn.
func (c *seldomCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	k := kind{logger: e.LoggerName, message: e.Message}
	for i := range fields {
		switch fields[i].Key {
		case "reason":
			k.reason, k.group = fields[i].String, ""
		case "group":
			if k.reason == "" {
				k.group = fields[i].String
			}
		}
	}
	if c.kinds.first(&k) {
		return c.Core.Write(e, fields)
	}
	c.kinds.keep(k, &line{c.Core, e, fields})
	return nil
}

// Sync writes what is kept.
func (c *seldomCore) Sync() error {
	c.kinds.mu.Lock()
	all := slices.Collect(maps.Keys(c.kinds.recent))
	c.kinds.mu.Unlock()
	for _, k := range all {
		c.kinds.tell(k)
	}
	return c.Core.Sync()
}

// first says whether a line is the first of its kind in a while.
func (ks *kinds) first(k *kind) bool {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if ks.recent[*k] == nil && len(ks.recent) >= mostKinds {
		*k = kind{}
	}
	if ks.recent[*k] != nil {
		return false
	}
	own := *k
	ks.recent[own] = &recent{timer: time.AfterFunc(tellEvery, func() { ks.tell(own) })}
	return true
}

func (ks *kinds) keep(k kind, l *line) {
	ks.mu.Lock()
	r := ks.recent[k]
	if r != nil {
		r.newest = l
		r.unsaid++
	}
	ks.mu.Unlock()
	if r == nil { // its time has ended just now
		_ = l.write(0)
	}
}

// tell writes the newest line of a kind, if one was kept, and forgets the kind otherwise.
func (ks *kinds) tell(k kind) {
	ks.mu.Lock()
	r := ks.recent[k]
	if r == nil {
		ks.mu.Unlock()
		return
	}
	l, unsaid := r.newest, r.unsaid
	r.newest, r.unsaid = nil, 0
	if l == nil {
		r.timer.Stop()
		delete(ks.recent, k)
	} else {
		r.timer.Reset(tellEvery)
	}
	ks.mu.Unlock()
	if l != nil {
		_ = l.write(unsaid - 1)
	}
}

func (l *line) write(leftOut int) error {
	fields := l.fields
	if leftOut > 0 {
		fields = append(slices.Clip(fields), zap.Int("left_out", leftOut))
	}
	return l.core.Write(l.entry, fields)
}
