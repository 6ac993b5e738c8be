package natsbus

import (
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"
)

// serverLog writes what the server says. Its notices are the course of things, and one line of Foyer's own says the
// same. What it warns of comes again with each try, so the messages are few and the rest is in their fields: a log that
// says the same only once in a while can tell them.
type serverLog struct {
	log    *zap.Logger
	tries  *tries
	failed chan string // gets the first fatal line: the server has ended, or never begun
}

// Noticef takes the course of things.
func (l *serverLog) Noticef(format string, v ...any) {
	line := fmt.Sprintf(format, v...)
	_, _ = l.tries.note(line) // of faults there are warnings
	l.log.Debug(line)
}

// Warnf takes what somebody should look at.
func (l *serverLog) Warnf(format string, v ...any) {
	switch {
	case strings.HasPrefix(format, "Plaintext passwords"): // they are made for each run, or from the key
	case strings.HasPrefix(format, "TLS certificate chain and hostname"): // Embedded.TLS verifies them
	default:
		l.warn(fmt.Sprintf(format, v...))
	}
}

// Errorf takes what has failed, and will be tried again.
func (l *serverLog) Errorf(format string, v ...any) { l.warn(fmt.Sprintf(format, v...)) }

func (l *serverLog) warn(line string) {
	address, fault := l.tries.note(line)
	switch {
	case fault != nil:
		l.log.Warn("nodes refuse each other", zap.String("reason", reasonOf(fault)), zap.String("address", address), zap.NamedError("err", fault))
	case strings.HasPrefix(line, "Error trying to connect to route"): // nobody is there yet, which is no fault
		l.log.Info("node not reached yet", zap.String("detail", line))
	default:
		l.log.Warn("server", zap.String("detail", line))
	}
}

// reasonOf is the word for a fault.
func reasonOf(fault error) string {
	switch {
	case errors.Is(fault, ErrKey):
		return "key"
	case errors.Is(fault, ErrName):
		return "name"
	default:
		return "certificate"
	}
}
func (l *serverLog) Debugf(string, ...any) {} // the server is told not to
func (l *serverLog) Tracef(string, ...any) {}

// Fatalf returns, although the server would have the process end here.
func (l *serverLog) Fatalf(format string, v ...any) {
	why := fmt.Sprintf(format, v...)
	select {
	case l.failed <- why:
	default:
		l.log.Error(why)
	}
}
