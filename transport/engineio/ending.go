package engineio

import (
	"fmt"
	"net/http"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Whatever turns a client away has one counter and one line in the log, of which the reason is the counter's name. A
// line says who was turned away (address, session), what was wrong (detail), and where a limit of ours is the rule, the
// setting that changes it. What a client ends by itself has neither.

// ending is how a session ends. Immutable once it is handed over.
type ending struct {
	reason  Reason
	why     counter // noCounter: the client, the application or the server's own end is why
	detail  string  // what was wrong, for the log and for the session's Receiver; "": the reason says it
	setting string  // the limit of ours that was met, as --flag=value; "": none
	level   zapcore.Level
}

// Endings that say all with their reason.
var (
	endOpen     = &ending{why: noCounter} // none yet
	endClient   = &ending{reason: ReasonTransportClose, why: noCounter}
	endLost     = &ending{reason: ReasonTransportError, why: noCounter} // a connection that failed
	endForced   = &ending{reason: ReasonForcedClose, why: noCounter}
	endShutdown = &ending{reason: ReasonShutdown, why: noCounter}
)

// endOf is the ending that the application wants.
func endOf(r Reason) *ending {
	switch r {
	case ReasonForcedClose:
		return endForced
	case ReasonShutdown:
		return endShutdown
	case ReasonSlow:
		return &ending{reason: r, why: countSlow}
	}
	return &ending{reason: r, why: noCounter}
}

// broken is the end of a session whose client broke a rule.
func broken(r Reason, why counter, format string, args ...any) *ending {
	return &ending{reason: r, why: why, detail: fmt.Sprintf(format, args...)}
}

// under names the limit that was met.
func (e *ending) under(flag string, value any) *ending {
	e.setting = settingOf(flag, value)
	return e
}

// settingOf is how the log names a setting and its value.
func settingOf(flag string, value any) string { return fmt.Sprint("--", flag, "=", value) }

// tell logs a refusal or an end, with whatever else is to be said.
func (s *Server) tell(level zapcore.Level, message string, why counter, address, detail, setting string, more ...zap.Field) {
	ce := s.told.Check(level, message)
	if ce == nil {
		return
	}
	fields := append(make([]zap.Field, 0, 5+len(more)), zap.String("reason", why.reason()), zap.String("address", address))
	if detail != "" {
		fields = append(fields, zap.String("detail", detail))
	}
	if setting != "" {
		fields = append(fields, zap.String("setting", setting))
	}
	ce.Write(append(fields, more...)...)
}

// tellEnd counts and logs an end that the client did not choose.
func (s *Session) tellEnd(e *ending) {
	if e.why == noCounter {
		return
	}
	s.srv.counts.add(e.why)
	s.srv.tell(e.level, "session closed", e.why, s.handshake.address, e.detail, e.setting, zap.String("session", s.Handle()))
}

// tellRefused logs a request that was refused. One that names no session is a handshake. While the server refuses all
// of them nobody needs to hear of each.
func (s *Server) tellRefused(r *http.Request, why counter, detail, setting string) {
	if s.refusing.Load() {
		return
	}
	message := "handshake refused"
	if sid, _ := lookup(r.URL.RawQuery, "sid"); sid != "" {
		message = "request refused"
	}
	address, _ := s.client(r)
	s.tell(zap.InfoLevel, message, why, address, detail, setting)
}

// tooLarge is the end of a session whose client sent a message over the limit: of so many bytes, or 0 if that is not
// known.
func (s *Session) tooLarge(bytes int64) *ending {
	limit, flag := s.srv.cfg.MaxPayload, "max-payload"
	if !s.admitted.Load() {
		limit, flag = s.srv.cfg.MaxPayloadBeforeAdmit, "max-connect-payload"
	}
	size := fmt.Sprint(bytes)
	if bytes <= int64(limit) {
		size = fmt.Sprint("more than ", limit)
	}
	rule := ""
	if flag == "max-connect-payload" {
		rule = ", which holds until a client has joined a namespace"
	}
	return broken(ReasonTransportError, countOversize, "message of %s bytes is over --%s (%d)%s", size, flag, limit, rule).under(flag, limit)
}

// refuseTooLarge counts and logs a body over the limit. The session lives on, but its client will end it: whoever hears
// of that hears why.
func (s *Session) refuseTooLarge(bytes int64) {
	e := s.tooLarge(bytes)
	s.mu.Lock()
	s.shunned = e
	s.mu.Unlock()
	s.srv.counts.add(countOversize)
	s.srv.tell(e.level, "message refused", e.why, s.handshake.address, e.detail, e.setting, zap.String("session", s.Handle()))
}

// cut bounds what of a stranger's words goes into the log.
func cut(words string) string {
	const most = 200
	return words[:min(len(words), most)]
}
