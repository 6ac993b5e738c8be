package engineio

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// TestOversizeIsTold: a client is not told why its message is not taken; the log names the limit and its setting.
func TestOversizeIsTold(t *testing.T) {
	for _, admitted := range []bool{false, true} {
		for _, websocket := range []bool{false, true} {
			t.Run(fmt.Sprintf("admitted %v, websocket %v", admitted, websocket), func(t *testing.T) {
				core, lines := observer.New(zapcore.InfoLevel)
				h := serveTCP(t, Config{MaxPayload: 2000, MaxPayloadBeforeAdmit: 1000, Logger: zap.New(core)})
				setting, size := "--max-connect-payload", 1500
				if admitted {
					setting, size = "--max-payload", 2500
				}
				message := "4" + strings.Repeat("x", size)
				if websocket {
					p, r := h.openWebSocket()
					if admitted {
						r.session.Admit()
					}
					p.write(message)
					r.wantClosed(t, ReasonTransportError)
				} else {
					q, r := h.openPolling()
					if admitted {
						r.session.Admit()
					}
					if res := h.do("POST", q, strings.NewReader(message)); res.status != 413 {
						t.Errorf("status %d", res.status)
					}
				}
				if n := lines.FilterMessageSnippet(setting).Len(); n != 1 || lines.Len() != 1 {
					t.Errorf("%d lines, want one with %s", lines.Len(), setting)
				}
			})
		}
	}
}
