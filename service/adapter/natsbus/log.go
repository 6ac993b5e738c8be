package natsbus

import (
	"fmt"
	"strings"

	"go.uber.org/zap"
)

// serverLog writes what the server says. Its notices are the course of things, and one line of Foyer's own says the
// same.
type serverLog struct {
	log    *zap.Logger
	failed chan string // gets the first fatal line: the server has ended, or never begun
}

func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *serverLog) Warnf(format string, v ...any) {
	if strings.HasPrefix(format, "Plaintext passwords") { // they are made for each run, or from the key
		return
	}
	l.log.Warn(fmt.Sprintf(format, v...))
}
func (l *serverLog) Errorf(format string, v ...any) { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l *serverLog) Debugf(string, ...any)          {} // the server is told not to
func (l *serverLog) Tracef(string, ...any)          {}

// Fatalf returns, although the server would have the process end here.
func (l *serverLog) Fatalf(format string, v ...any) {
	why := fmt.Sprintf(format, v...)
	select {
	case l.failed <- why:
	default:
		l.log.Error(why)
	}
}
