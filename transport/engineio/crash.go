package engineio

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"go.uber.org/zap"
)

// crash is deferred by what net/http calls. Net/http recovers panics of handlers, and one that comes with a lock taken
// would leave its session, or everybody, hanging: so nothing of a panic comes back to it.
func (s *Server) crash() {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) { // how a handler ends its connection
		panic(v)
	}
	s.cfg.Crash(v, debug.Stack())
	panic(http.ErrAbortHandler) // of a test's Crash
}

// crashLoudly returns the default of Config.Crash.
func crashLoudly(log *zap.Logger) func(v any, stack []byte) {
	return func(v any, stack []byte) {
		log.Error("panic", zap.String("panic", fmt.Sprint(v)), zap.ByteString("stack", stack))
		_ = log.Sync()                                      // the process ends either way
		go panic(fmt.Sprintf("engineio: %v\n%s", v, stack)) // where nothing recovers
		select {}
	}
}
