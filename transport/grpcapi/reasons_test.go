package grpcapi

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/metadata"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// causedElsewhere are the refusals that other tests bring about and count; of their lines only the words are looked at
// here.
var causedElsewhere = map[refusal]string{
	refusedUnknown: "TestUnknownConnectionEnds",
	refusedStalled: "TestStalledRequest",
	refusedBytes:   "conns_test.go",
	refusedLeft:    "reset_test.go",
	refusedShare:   "reset_test.go",
}

// attachOnce registers and waits for the first answer.
func attachOnce(t *testing.T, c *api, r *foyerv1.Register) (foyerv1.HandlerService_AttachClient, error) {
	t.Helper()
	stream, err := c.handler.Attach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: r}}); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	return stream, err
}

// awaitLines waits until the log has so many lines, which the test then looks at.
func awaitLines(logs *observer.ObservedLogs, n int) []observer.LoggedEntry {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); logs.Len() < n && time.Now().Before(deadline); {
		<-tick.C
	}
	return logs.All()
}

// TestEveryRefusalHasALine: of whatever turns a backend away there is one line, of which the reason is the counter's
// name.
func TestEveryRefusalHasALine(t *testing.T) {
	cases := []struct {
		why     refusal
		message string
		detail  string // a part of it
		setting string
		cfg     Config
		cause   func(t *testing.T, s *Server)
	}{
		{refusedCalls, "call refused", "is required", "--api-token-file", Config{Tokens: []string{"secret"}}, func(t *testing.T, s *Server) {
			_, _ = serve(t, s).node.GetInfo(t.Context(), &foyerv1.GetInfoRequest{})
		}},
		{refusedCalls, "call refused", "a token that is not", "--api-token-file", Config{Tokens: []string{"secret"}}, func(t *testing.T, s *Server) {
			ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer wrong")
			_, _ = serve(t, s).node.GetInfo(ctx, &foyerv1.GetInfoRequest{})
		}},
		{refusedConnections, "connection refused", "are taken", "--api-connections=2", Config{MaxConnections: 2}, func(t *testing.T, s *Server) {
			lis := listening(t, s)
			dialRaw(t, lis).greet()
			<-dialRaw(t, lis).closed
		}},
		{refusedTLS, "TLS handshake failed", "the client speaks TLS", "--api-cert", Config{}, func(t *testing.T, s *Server) {
			c := dialRaw(t, listening(t, s))
			c.write(append([]byte{0x16, 3, 1, 0, 100}, make([]byte, 100)...))
			<-c.closed
		}},
		{refusedGreeting, "connection refused", "does not speak HTTP/2", "", Config{}, func(t *testing.T, s *Server) {
			c := dialRaw(t, listening(t, s))
			c.write([]byte("GET / HTTP/1.1\r\nHost: foyer\r\n\r\n"))
			<-c.closed
		}},
		{refusedStream, "stream refused", "handler: register.namespaces", "", Config{}, func(t *testing.T, s *Server) {
			if _, err := attachOnce(t, serve(t, s), &foyerv1.Register{}); err == nil {
				t.Error("it is attached")
			}
		}},
		{refusedStream, "stream refused", "ALREADY_CLAIMED", "", Config{}, func(t *testing.T, s *Server) {
			c := serve(t, s)
			if _, err := attachOnce(t, c, &foyerv1.Register{Namespaces: []string{"/"}, Group: "a"}); err != nil {
				t.Fatal(err)
			}
			if _, err := attachOnce(t, c, &foyerv1.Register{Namespaces: []string{"/"}, Group: "b"}); err == nil {
				t.Error("it is attached")
			}
		}},
		{refusedStream, "stream refused", "watch: ", "", Config{}, func(t *testing.T, s *Server) {
			w, err := serve(t, s).watch.Watch(t.Context(), &foyerv1.WatchRequest{})
			if err == nil {
				_, err = w.Recv()
			}
			if err == nil {
				t.Error("it watches")
			}
		}},
		{refusedReplaced, "handler detached", "took over", "", Config{}, func(t *testing.T, s *Server) {
			s.tellDetached(t.Context(), service.ErrReplaced)
		}},
		{refusedSlow, "stream closed", "handler: ", "", Config{}, func(t *testing.T, s *Server) {
			s.tellDetached(t.Context(), service.ErrTooSlow)
		}},
	}
	seen := map[refusal]bool{}
	for _, tc := range cases {
		seen[tc.why] = true
		t.Run(refusals[tc.why].reason+", "+tc.detail, func(t *testing.T) {
			core, logs := observer.New(zapcore.WarnLevel)
			tc.cfg.Logger = zap.New(core)
			n := realNode(t)
			t.Cleanup(n.Close)
			s, err := New(tc.cfg, n)
			if err != nil {
				t.Fatal(err)
			}
			tc.cause(t, s)
			lines := awaitLines(logs, 1)
			if len(lines) != 1 || lines[0].Message != tc.message {
				t.Fatalf("lines %v, want one %q", lines, tc.message)
			}
			fields := lines[0].ContextMap()
			detail, _ := fields["detail"].(string)
			setting, _ := fields["setting"].(string)
			if _, address := fields["address"]; fields["reason"] != refusals[tc.why].reason || !address || !strings.Contains(detail, tc.detail) || setting != tc.setting {
				t.Errorf("fields %v, want reason %q, detail with %q, setting %q", fields, refusals[tc.why].reason, tc.detail, tc.setting)
			}
			if n := s.dropped(nil)[refusals[tc.why].reason]; n != 1 {
				t.Errorf("%d are counted", n)
			}
		})
	}
	for why := range refusalCount {
		r := refusals[why]
		if seen[why] == (causedElsewhere[why] != "") || !strings.HasPrefix(r.reason, "api_") || r.message == "" || !seen[why] && r.detail == "" && why != refusedShare {
			t.Errorf("refusal %d has the words %q, caused here %v", why, r, seen[why])
		}
	}
}

// TestHandlersThatGoByThemselvesWarnNobody: who drains, closes its side or loses its connection is one line at info.
func TestHandlersThatGoByThemselvesWarnNobody(t *testing.T) {
	for name, leave := range map[string]func(c *api, s foyerv1.HandlerService_AttachClient){
		"drains": func(_ *api, s foyerv1.HandlerService_AttachClient) {
			_ = s.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Drain{Drain: &foyerv1.Drain{}}})
			for {
				if _, err := s.Recv(); err != nil {
					return
				}
			}
		},
		"closes its side": func(_ *api, s foyerv1.HandlerService_AttachClient) { _ = s.CloseSend() },
		"is lost":         func(c *api, _ foyerv1.HandlerService_AttachClient) { _ = c.conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zapcore.InfoLevel)
			n := realNode(t)
			t.Cleanup(n.Close)
			s, err := New(Config{Logger: zap.New(core)}, n)
			if err != nil {
				t.Fatal(err)
			}
			c := serve(t, s)
			stream, err := attachOnce(t, c, &foyerv1.Register{Namespaces: []string{"/"}})
			if err != nil {
				t.Fatal(err)
			}
			leave(c, stream)
			awaitLines(logs, 2)
			for i, want := range []string{"handler attached", "handler detached"} {
				if lines := logs.All(); len(lines) != 2 || lines[i].Message != want || lines[i].Level != zapcore.InfoLevel {
					t.Fatalf("lines %v, want %q at info", lines, want)
				}
			}
		})
	}
}
