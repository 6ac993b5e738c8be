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
				setting, size, detail := "--max-connect-payload=1000", 1500, "message of 1501 bytes is over --max-connect-payload (1000), which holds until a client has joined a namespace"
				if admitted {
					setting, size, detail = "--max-payload=2000", 2500, "message of 2501 bytes is over --max-payload (2000)"
				}
				message := "4" + strings.Repeat("x", size)
				if websocket {
					p, r := h.openWebSocket()
					if admitted {
						r.session.Admit()
					}
					p.write(message)
					r.wantClosed(t, ReasonTransportError)
					if r.detail != detail {
						t.Errorf("the receiver hears %q, want %q", r.detail, detail)
					}
				} else {
					q, r := h.openPolling()
					if admitted {
						r.session.Admit()
					}
					if res := h.do("POST", q, strings.NewReader(message)); res.status != 413 {
						t.Errorf("status %d", res.status)
					}
					h.do("POST", q, strings.NewReader("1")) // what clients do then
					r.wantClosed(t, ReasonTransportClose)
					if r.detail != detail {
						t.Errorf("the receiver hears %q, want %q", r.detail, detail)
					}
				}
				all := lines.All()
				if len(all) != 1 || all[0].ContextMap()["setting"] != setting || all[0].ContextMap()["detail"] != detail {
					t.Errorf("lines: %v, want one with %s", all, setting)
				}
			})
		}
	}
}
