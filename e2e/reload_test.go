//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service/adapter/freeport"
)

// TestReload: at SIGHUP the node shows a new certificate to new clients and knows new tokens, while what runs goes on;
// of a token that was removed a stream ends. A broken file keeps what there was. A change is seen without a signal,
// too.
func TestReload(t *testing.T) {
	cert, key, oldPool := selfSigned(t)
	newCert, newKey, newPool := selfSigned(t)
	file := filepath.Join(t.TempDir(), "tokens")
	put := func(to, text string) {
		t.Helper()
		if err := os.WriteFile(to+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(to+".new", to); err != nil {
			t.Fatal(err)
		}
	}
	read := func(from string) string {
		t.Helper()
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	put(file, "goes\nstays\n")
	f := startFoyer(t, "--edge-cert="+cert, "--edge-key="+key, "--api-cert="+cert, "--api-key="+key, "--api-token-file="+file)
	said := 0
	awaitLine := func(parts ...string) {
		t.Helper()
		line, at, err := f.log.await(said, patience, func(line string) bool {
			for _, p := range parts {
				if !strings.Contains(line, p) {
					return false
				}
			}
			return true
		})
		if err != nil {
			t.Fatalf("the log does not say %q: %v\n%s", parts, err, f.tail(20))
		}
		t.Log(line)
		said = at + 1
	}
	shows := func(addr string, pool *x509.CertPool) error {
		d := tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: "localhost"}}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			c.Close()
		}
		return err
	}
	over := func(pool *x509.CertPool) *backend {
		t.Helper()
		conn, err := dial(f.api, credentials.NewClientTLSFromCert(pool, "localhost"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return newBackend(conn)
	}
	as := func(token string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	}
	info := func(b *backend, token string) codes.Code {
		_, err := b.node.GetInfo(as(token), &foyerv1.GetInfoRequest{})
		return status.Code(err)
	}
	watch := func(b *backend, token string) func() error {
		t.Helper()
		w, err := b.presence.Watch(as(token), &foyerv1.WatchRequest{All: true})
		if err == nil {
			_, err = w.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		return func() error {
			for {
				if _, err := w.Recv(); err != nil {
					return err
				}
			}
		}
	}
	b := over(oldPool)
	gone := watch(b, "goes")
	stays := watch(b, "stays")
	stayed := make(chan error, 1)
	go func() { stayed <- stays() }()
	p := startPuppets(t, "NODE_EXTRA_CA_CERTS="+cert)
	c, id := p.connect(t, "https://"+strings.Replace(f.edge, "127.0.0.1", "localhost", 1), "/", quick.with(transports[0].opts)) // on one connection: it does not know the new certificate

	// The pair in two steps, as most tools write it: between them the files do not fit, and nothing changes.
	put(cert, read(newCert))
	f.cmd.Process.Signal(syscall.SIGHUP)
	awaitLine("not reloaded", "--edge-key", "not the key")
	if err := shows(f.edge, oldPool); err != nil {
		t.Errorf("with half a pair: %v", err)
	}
	put(key, read(newKey))
	put(file, "stays\nnew\n")
	f.cmd.Process.Signal(syscall.SIGHUP)
	// The watch may have seen one of the files before the signal.
	eventually(t, func() error {
		if got := info(b, "new"); got != codes.OK {
			return fmt.Errorf("the new token: %v", got)
		}
		return shows(f.edge, newPool)
	})
	if err := shows(f.api, newPool); err != nil {
		t.Errorf("API: %v", err)
	}
	if shows(f.edge, oldPool) == nil || shows(f.api, oldPool) == nil {
		t.Error("the old certificate is shown still")
	}
	if err := gone(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a stream of the removed token: %v", err)
	}
	if got := info(b, "goes"); got != codes.Unauthenticated {
		t.Errorf("a call of the removed token: %v", got)
	}
	if got := info(over(newPool), "stays"); got != codes.OK {
		t.Errorf("over a new connection: %v", got)
	}

	// Broken files: nothing changes. By the watch alone.
	put(cert, "")
	awaitLine("not reloaded", "--edge-cert", "empty")
	put(file, "two words\n")
	awaitLine("not reloaded", "--api-token-file", "line 1")
	if err := shows(f.edge, newPool); err != nil {
		t.Errorf("with a broken certificate: %v", err)
	}
	if got := info(b, "stays"); got != codes.OK {
		t.Errorf("with a broken token file: %v", got)
	}
	put(file, "stays\nlast\n")
	put(cert, read(newCert))
	awaitLine(`"reloaded"`, "API tokens")
	eventually(t, func() error {
		if got := info(b, "last"); got != codes.OK {
			return fmt.Errorf("the last token: %v", got)
		}
		return nil
	})

	// What ran before all this runs on.
	select {
	case err := <-stayed:
		t.Errorf("a stream of a token that stays has ended: %v", err)
	default:
	}
	if _, err := b.emits.Emit(as("stays"), &foyerv1.EmitRequest{
		Target: &foyerv1.Target{Rooms: []string{id}}, Payload: &foyerv1.Payload{Event: "still here"},
	}); err != nil {
		t.Fatal(err)
	}
	c.event("still here")
}

// TestBenchWaitsForTheNode: a bench that is started at the same time as the node waits for it.
func TestBenchWaitsForTheNode(t *testing.T) {
	edge, api := "127.0.0.1:"+freeport.New(t), "127.0.0.1:"+freeport.New(t)
	p := start(t, binary(t), nil, "bench", "broadcast", "--url=http://"+edge, "--api="+api, "--clients=10", "--seconds=0.3", "--warmup=0.1s")
	if _, _, err := p.log.await(0, patience, func(line string) bool { return strings.HasPrefix(line, "waiting up to ") }); err != nil {
		t.Fatalf("bench does not wait: %v: %s", err, p.tail(5))
	}
	startFoyer(t, "--edge="+edge, "--api="+api)
	if code := p.exit(t, 4*patience); code != 0 {
		t.Errorf("bench ended with code %d:\n%s", code, p.tail(20))
	}
}
