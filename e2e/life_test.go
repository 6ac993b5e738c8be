//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	foyerv1 "foyer/gen/foyer/v1"
)

// Clients come back by themselves when the node is started anew on its address, whether it was stopped or died.
func TestRestart(t *testing.T) {
	for _, how := range []string{"stopped", "killed"} {
		for _, transport := range transports {
			t.Run(how+"/"+transport.name, func(t *testing.T) {
				p := startPuppets(t)
				first := startFoyer(t, "--edge="+freePorts(t, 1)[0]) // which nobody else takes meanwhile
				c, id := p.connect(t, first.url(), "/", quick.with(transport.opts))
				if transport.name == "upgrade" {
					c.expect("upgrade")
				}
				b := attach(t, first.api, &foyerv1.Register{Namespaces: []string{"/"}}, nil)
				c.settle()
				b.knows(t, id)
				if how == "stopped" {
					first.stop(t)
					if got := b.disconnected(t, id).GetReason(); got != foyerv1.DisconnectReason_DISCONNECT_REASON_SERVER_SHUTTING_DOWN {
						t.Errorf("the backend was told %v", got)
					}
				} else {
					first.crash()
				}
				got := c.expect("disconnect")
				want := "transport close"
				if how == "killed" && transport.name == "polling" {
					want = "transport error"
				}
				if got.Reason != want || !got.Active {
					t.Errorf("the client saw %q, active %v; want %q", got.Reason, got.Active, want)
				}
				second := startFoyer(t, "--edge="+first.edge)
				if again := c.connected(); again == id {
					t.Error("it came back with its old id")
				}
				attach(t, second.api, &foyerv1.Register{Namespaces: []string{"/"}}, nil)
				if got := c.ask("echo", "back"); len(got) != 1 {
					t.Errorf("got %v", got)
				}
				c.op("disconnect")
			})
		}
	}
}

// It stops well at any moment: amid handshakes, upgrades, polls and writes, with backends and watchers attached.
func TestStopAnytime(t *testing.T) {
	p := startPuppets(t)
	for i := range 15 {
		after := time.Duration(i) * 8 * time.Millisecond // from before the first handshake to after the last upgrade
		t.Run(after.String(), func(t *testing.T) {
			f := startFoyer(t, "demo")
			b := attach(t, f.api, &foyerv1.Register{Namespaces: []string{"/busy"}}, nil)
			watch, err := b.presence.Watch(t.Context(), &foyerv1.WatchRequest{Namespace: "/busy", All: true})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := watch.Recv(); err != nil {
				t.Fatal(err)
			}
			var clients []*client
			for n := range 9 {
				c := p.open(t, f.url(), []string{"/", "/busy"}[n%2], quick.with(transports[n%3].opts))
				c.emit("early", n, strings.Repeat("x", 5000))
				clients = append(clients, c)
			}
			<-time.After(after) // the moment is what is tested
			f.stop(t)
			for _, c := range clients {
				c.op("disconnect") // or it would go on trying
			}
		})
	}
}

// A network that is lost without a word is found out by the heartbeat, by both sides.
func TestHeartbeat(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			f := startFoyer(t, "--ping-interval=300ms", "--ping-timeout=5s")
			b := attach(t, f.api, &foyerv1.Register{Namespaces: []string{"/"}}, nil)
			p := startPuppets(t)
			c, id := p.connect(t, f.url(), "/", quick.with(transport.opts))
			if r := b.info(t); r.GetSockets() != 1 || r.GetSessions() != 1 || r.GetHandlers() != 1 {
				t.Errorf("got %v", r)
			}
			// It lives on for many intervals.
			began := time.Now()
			eventually(t, func() error {
				c.settle()
				if time.Since(began) < 2*time.Second {
					return fmt.Errorf("only %v", time.Since(began))
				}
				return nil
			})
			if c.saw("disconnect") {
				t.Fatal("it was disconnected while all was well")
			}
			c.op("freeze") // the process goes on, but says nothing
			if got := b.disconnected(t, id).GetReason(); got != foyerv1.DisconnectReason_DISCONNECT_REASON_PING_TIMEOUT {
				t.Errorf("the backend was told %v", got)
			}
			p.crash() // it cannot be asked to end
		})
	}
}

// A websocket that is cut: the backend hears of it at once, the client comes back.
func TestCut(t *testing.T) {
	f := startFoyer(t)
	b := attach(t, f.api, &foyerv1.Register{Namespaces: []string{"/"}}, nil)
	p := startPuppets(t)
	c, id := p.connect(t, f.url(), "/", quick.with(opts{"transports": []string{"websocket"}}))
	b.knows(t, id)
	c.op("drop")
	if got := b.disconnected(t, id).GetReason(); got != foyerv1.DisconnectReason_DISCONNECT_REASON_TRANSPORT_CLOSE &&
		got != foyerv1.DisconnectReason_DISCONNECT_REASON_TRANSPORT_ERROR {
		t.Errorf("the backend was told %v", got)
	}
	c.connected()
}

// What cannot work is said in one line, and is the end.
func TestRefusesToStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	free := []string{"--edge=127.0.0.1:0", "--api=127.0.0.1:0", "--admin=127.0.0.1:0"}
	for _, tt := range []struct {
		name  string
		args  []string
		env   string
		wants []string // in what it says
	}{
		{"unknown flag", []string{"serve", "--no-such-flag"}, "", []string{"no-such-flag"}},
		{"unknown command", []string{"dance"}, "", []string{"dance"}},
		{"address without a port", []string{"serve", "--edge=localhost"}, "", []string{"edge", "localhost"}},
		{"port too high", []string{"serve", "--edge=127.0.0.1:99999"}, "", []string{"edge", "99999"}},
		{"no such host", []string{"serve", "--edge=999.1.1.1:0"}, "", []string{"edge", "999.1.1.1"}},
		{"edge taken", []string{"serve", "--edge=" + taken.Addr().String()}, "", []string{"edge", taken.Addr().String(), "in use"}},
		{"api taken", []string{"serve", "--api=" + taken.Addr().String()}, "", []string{"api", taken.Addr().String(), "in use"}},
		{"admin taken", []string{"serve", "--admin=" + taken.Addr().String()}, "", []string{"admin", taken.Addr().String(), "in use"}},
		{"open api without tokens", []string{"serve", "--api=0.0.0.0:0"}, "", []string{"0.0.0.0", "--api-token-file"}},
		{"open api without tokens, any address", []string{"serve", "--api=:0"}, "", []string{"--api-token-file"}},
		{"open api without tokens, IPv6", []string{"serve", "--api=[::]:0"}, "", []string{"--api-token-file"}},
		{"token file that is not there", []string{"serve", "--api-token-file=/nonexistent/tokens"}, "", []string{"/nonexistent/tokens"}},
		{"token file without tokens", []string{"serve", "--api-token-file=" + empty}, "", []string{empty}},
		{"certificate without key", []string{"serve", "--edge-cert=" + empty}, "", []string{"edge-key"}},
		{"certificate that is none", []string{"serve", "--api-cert=" + empty, "--api-key=" + empty}, "", []string{"api-cert"}},
		{"negative time", []string{"serve", "--ping-interval=-1s"}, "", []string{"ping-interval"}},
		{"no time", []string{"serve", "--ping-timeout=soon"}, "", []string{"ping-timeout", "soon"}},
		{"no size", []string{"serve", "--max-payload=0"}, "", []string{"max-payload"}},
		{"connect mode", []string{"serve", "--connect=perhaps"}, "", []string{"connect", "perhaps"}},
		{"log level", []string{"serve", "--log-level=loud"}, "", []string{"log-level", "loud"}},
		{"environment", []string{"serve"}, "FOYER_PING_INTERVAL=never", []string{"never"}},
		{"argument", []string{"serve", "extra"}, "", []string{"extra"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{}, tt.args...)
			for _, flag := range free {
				name, _, _ := strings.Cut(flag, "=")
				if args[0] == "serve" && !strings.Contains(strings.Join(args, " "), name+"=") {
					args = append(args, flag)
				}
			}
			p := start(t, binary(t), []string{tt.env}, args...)
			code := p.exit(t, patience)
			if code != 1 && code != 2 {
				t.Errorf("got exit code %d, want 1 or 2", code)
			}
			said := strings.TrimSpace(p.tail(1000))
			if lines := strings.Count(said, "\n") + 1; said == "" || lines > 1 || len(p.out.all()) > 0 {
				t.Errorf("want one line on stderr and none on stdout, got %d and %d:\n%s\n%s", lines, len(p.out.all()), said, strings.Join(p.out.all(), "\n"))
			}
			for _, want := range tt.wants {
				if !strings.Contains(said, want) {
					t.Errorf("%q does not mention %q", said, want)
				}
			}
		})
	}
}

func TestVersionAndHelp(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--help"}, {"serve", "--help"}} {
		p := start(t, binary(t), nil, args...)
		if code := p.exit(t, patience); code != 0 || len(p.out.all()) == 0 || len(p.log.all()) > 0 {
			t.Errorf("foyer %v: code %d, said %q and %q", args, code, p.out.all(), p.log.all())
		}
	}
}

// Flags win over the environment; both are read.
func TestEnvironment(t *testing.T) {
	t.Setenv("FOYER_NODE_ID", "env1")
	t.Setenv("FOYER_MAX_PAYLOAD", "54321")
	f := startFoyer(t, "--node-id=flag")
	r, err := api(t, f.api).node.GetInfo(t.Context(), &foyerv1.GetInfoRequest{})
	if err != nil || r.GetNodeId() != "flag" || r.GetLimits().GetMaxPayloadBytes() != 54321 {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestHealth(t *testing.T) {
	f := startFoyer(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		r, err := http.Get("http://" + f.admin + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != http.StatusOK {
			t.Errorf("%s: got %s", path, r.Status)
		}
	}
}

func TestTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("# for tests\nfirst-token\n\nsecond-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := startFoyer(t, "--api=0.0.0.0:0", "--api-token-file="+file)
	_, port, err := net.SplitHostPort(f.api)
	if err != nil {
		t.Fatal(err)
	}
	b := api(t, "127.0.0.1:"+port)
	for _, tt := range []struct {
		name, header string
		want         codes.Code
	}{
		{"right", "Bearer first-token", codes.OK},
		{"the other", "Bearer second-token", codes.OK},
		{"wrong", "Bearer third-token", codes.Unauthenticated},
		{"part of one", "Bearer first", codes.Unauthenticated},
		{"no bearer", "first-token", codes.Unauthenticated},
		{"a comment", "Bearer # for tests", codes.Unauthenticated},
		{"empty", "Bearer ", codes.Unauthenticated},
		{"none", "", codes.Unauthenticated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := t.Context()
			if tt.header != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", tt.header)
			}
			_, err := b.node.GetInfo(ctx, &foyerv1.GetInfoRequest{})
			if status.Code(err) != tt.want {
				t.Errorf("unary: got %v, want %v", err, tt.want)
			}
			if tt.want != codes.OK {
				wantError(t, err, tt.want, "UNAUTHENTICATED")
			}
			stream, err := b.presence.Watch(ctx, &foyerv1.WatchRequest{All: true})
			if err == nil {
				_, err = stream.Recv()
			}
			if status.Code(err) != tt.want {
				t.Errorf("stream: got %v, want %v", err, tt.want)
			}
		})
	}
}

// TLS on both edges, with certificates that nobody but the test trusts.
func TestTLS(t *testing.T) {
	cert, key, pool := selfSigned(t)
	f := startFoyer(t, "--edge-cert="+cert, "--edge-key="+key, "--api-cert="+cert, "--api-key="+key)

	conn, err := dial(f.api, credentials.NewClientTLSFromCert(pool, "localhost"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b := newBackend(conn)
	if _, err := b.node.GetInfo(t.Context(), &foyerv1.GetInfoRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	if _, err := api(t, f.api).node.GetInfo(t.Context(), &foyerv1.GetInfoRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("without TLS: got %v, want UNAVAILABLE", err)
	}
	p := startPuppets(t, "NODE_EXTRA_CA_CERTS="+cert)
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			c, id := p.connect(t, "https://"+strings.Replace(f.edge, "127.0.0.1", "localhost", 1), "/", quick.with(transport.opts))
			if transport.name == "upgrade" {
				c.expect("upgrade")
			}
			for i := range 200 { // some of it waits for the writer
				b.mustEmit(t, &foyerv1.Target{Rooms: []string{id}}, 1, "over TLS", i, strings.Repeat("x", 2000))
			}
			for i := range 200 {
				if got := c.event("over TLS"); got[0] != float64(i) {
					t.Fatalf("got %v, want %d", got[0], i)
				}
			}
			c.op("disconnect")
		})
	}
}

// selfSigned makes a certificate for localhost, and the pool that trusts it.
func selfSigned(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "foyer's test"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", privateDER), pool
}
