package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestClusterSettings: each wrong setting is told by its flag, and all of them at once.
func TestClusterSettings(t *testing.T) {
	for args, wants := range map[string][]string{
		"":                   nil,
		"--cluster embedded": nil,
		"--cluster embedded --cluster-listen 127.0.0.1:0":         nil,
		"--cluster embedded --cluster-listen localhost:6300":      nil,
		"--cluster embedded --cluster-routes localhost:1,[::1]:2": nil,
		"--cluster embedded --cluster-listen [::1]:1 --peer=":     nil,
		"--cluster embedded --cluster-listen :1 --cluster-key-file k --cluster-routes foyer:1,foyer:1 --cluster-advertise a:1 --peer :2 --peer-advertise a:2": nil,
		"--cluster embedded --cluster-tls-cert c --cluster-tls-key k --cluster-tls-ca a":                                                                      nil,
		"--cluster nats --cluster-url nats://127.0.0.1:4222":                                                                                                  nil,
		"--cluster nats --cluster-url nats://u:p@localhost:4222 --cluster-credentials c":                                                                      nil,
		"--cluster nats --cluster-url nats://a:1,tls://b:2 --cluster-key-file k":                                                                              nil,
		"--cluster nats --cluster-url nats://a:1 --peer=":                                                                                                     nil,
		"--cluster nats --cluster-url nats://a:1 --peer 127.0.0.1:0":                                                                                          nil,

		"--cluster redis --cluster-url redis://127.0.0.1":                                                                nil,
		"--cluster redis --cluster-url redis://u:p@127.0.0.1:1,localhost/0":                                              nil,
		"--cluster redis --cluster-url rediss://a:1,b:2 --cluster-key-file k":                                            nil,
		"--cluster redis --cluster-url rediss://a:1 --cluster-tls-cert c --cluster-tls-key k --cluster-tls-ca a --peer=": nil,

		"--cluster redis-streams --cluster-url redis://127.0.0.1": nil,
		"--cluster redis-streams --cluster-url redis://127.0.0.1 --cluster-prefix a --cluster-stream s --cluster-stream-count 3 --cluster-stream-length 5 --cluster-stream-sharded": nil,

		"--cluster redis-sharded --cluster-url redis://127.0.0.1":                                                  nil,
		"--cluster redis-sharded --cluster-url redis://127.0.0.1 --cluster-prefix p --cluster-sharded-mode static": nil,

		"--cluster redis-sharded": {"--cluster-url: the Redis server is missing"},
		"--cluster redis-sharded --cluster-url redis://127.0.0.1 --cluster-sharded-mode some": {
			`--cluster-sharded-mode: "some" is none of dynamic, dynamic-private and static`,
		},
		"--cluster redis --cluster-url redis://127.0.0.1 --cluster-sharded-mode static": {
			"--cluster-sharded-mode: it has an effect with --cluster redis-sharded only, and that is redis",
		},

		"--cluster postgres --cluster-url postgres://u:p@127.0.0.1:1/d":                                  nil,
		"--cluster postgres --cluster-url postgresql://a,b:2/d?sslmode=verify-full --cluster-key-file k": nil,
		"--cluster postgres --cluster-url postgres:///d?host=/var/run/postgresql":                        nil,
		"--cluster postgres --cluster-url postgres://127.0.0.1/d --cluster-prefix p --cluster-table s.T": nil,
		"--cluster postgres --cluster-url postgres://127.0.0.1/d --cluster-table t":                      {"--cluster-table: it has no effect without --cluster-prefix"},
		"--cluster postgres --cluster-url postgres://127.0.0.1/d --cluster-prefix p --cluster-table a;b": {`--cluster-table: "a;b" is no name of a table`},

		"--cluster loud":     {"--cluster must be one of"},
		"--cluster postgres": {"--cluster-url: the PostgreSQL server is missing"},
		"--cluster postgres --cluster-url postgres://10.0.0.1/d":            {"--cluster-url: its server is not on this machine; that needs --cluster-key-file"},
		"--cluster postgres --cluster-url redis://127.0.0.1":                {"--cluster-url: it does not begin with postgres://"},
		"--cluster postgres --cluster-url postgres://127.0.0.1":             {"--cluster-url: it names no database"},
		"--cluster postgres --cluster-url postgres://127.0.0.1/d?sslmode=x": {"--cluster-url: its options of TLS are not taken: (sslmode is invalid)"},
		"--cluster postgres --cluster-url postgres://127.0.0.1/d --cluster-routes a:1 --cluster-name " + strings.Repeat("n", 56): {
			"--cluster-routes: it has an effect with --cluster embedded only, and that is postgres", "55 at most with postgres",
		},
		"--cluster redis --cluster-url redis://127.0.0.1 --cluster-table t": {"--cluster-table: it has an effect with --cluster postgres only, and that is redis"},
		"--cluster redis --cluster-url redis://127.0.0.1 --cluster-stream s --cluster-stream-count 3 --cluster-stream-length 5 --cluster-stream-sharded": {
			"--cluster-stream: it has an effect with --cluster redis-streams only, and that is redis", "--cluster-stream-count: it has",
			"--cluster-stream-length: it has", "--cluster-stream-sharded: it has",
		},
		"--cluster redis-streams --cluster-url redis://127.0.0.1 --cluster-stream-count 129 --cluster-stream-length=-1": {
			"--cluster-stream-count: 129 is not between 1 and 128", "--cluster-stream-length: -1 is not above zero",
		},
		"--cluster redis-streams": {"--cluster-url: the Redis server is missing"},
		"--cluster redis":         {"--cluster-url: the Redis server is missing"},
		"--cluster redis --cluster-url redis://10.0.0.1": {
			"--cluster-url: its server is not on this machine; that needs --cluster-key-file",
		},
		"--cluster redis --cluster-url redis://127.0.0.1 --cluster-credentials c --cluster-listen :1": {
			"--cluster-credentials: it has an effect with --cluster nats only, and that is redis", "--cluster-listen: it has",
		},
		"--cluster redis --cluster-url nats://127.0.0.1:1":   {"--cluster-url: it does not begin with redis:// or rediss://"},
		"--cluster redis --cluster-url redis://127.0.0.1:1,": {"--cluster-url: server 2 of the list"},
		"--cluster redis --cluster-url redis+sentinel://127.0.0.1/m": {
			"--cluster-url: its server is not on this machine",
		},
		"--cluster redis --cluster-url redis://127.0.0.1/a/b": {"--cluster-url: behind its servers"},
		"--cluster nats": {"--cluster-url: the NATS server is missing"},
		"--cluster embedded --cluster-listen :1": {
			"--cluster-listen: :1 is not a loopback address; that needs --cluster-key-file",
		},
		"--cluster embedded --cluster-listen :1 --cluster-tls-cert c --cluster-tls-key k --cluster-tls-ca a": {
			"--cluster-listen: :1 is not a loopback address",
		},
		"--cluster embedded --peer 10.0.0.1:7": {"--peer: 10.0.0.1:7 is not a loopback address"},
		"--cluster nats --cluster-url nats://10.0.0.1:7": {
			"--cluster-url: its server is not on this machine; that needs --cluster-key-file",
		},
		"--cluster nats --cluster-url nats://127.0.0.1:1 --peer :7": {"--peer: :7 is not a loopback address"},
		"--cluster embedded --cluster-routes foyer:1": {
			"--cluster-routes: a node at foyer:1 cannot reach this one at 127.0.0.1:6222, which is a loopback address; set --cluster-listen",
		},
		"--cluster-listen a:1 --cluster-routes b:1 --cluster-advertise c:1 --cluster-key-file k --peer-advertise d:1": {
			"--cluster-listen: it has an effect with --cluster embedded only", "--cluster-routes:", "--cluster-advertise:",
			"--cluster-key-file: it has no effect while --cluster is off", "--peer-advertise:",
		},
		"--cluster embedded --cluster-url nats://a:1 --cluster-credentials c":  {"--cluster-url: it has an effect with --cluster nats or redis", "--cluster-credentials: it has"},
		"--cluster nats --cluster-url nats://127.0.0.1:1 --cluster-routes a:1": {"--cluster-routes: it has an effect with --cluster embedded only, and that is nats"},
		"--cluster embedded --cluster-listen x --cluster-routes y,z:0,:99999 --cluster-advertise a:0 --peer b --peer-advertise c" +
			" --cluster-name x..y --cluster-lease 3ms --cluster-window 3 --cluster-tls-ca x": {
			`--cluster-listen: "x" is no address of the form HOST:PORT`, `--cluster-routes: "y" is no address`, `--cluster-routes: "0" is no port`,
			`--cluster-routes: "99999" is no port`, `--cluster-advertise: "0" is no port`, `--peer: "b" is no address`, `--peer-advertise: "c" is no address`,
			`--cluster-name: cluster name "x..y"`, "--cluster-lease: lease 3ms", "--cluster-window: window of 3 bytes", "--cluster-tls-cert, --cluster-tls-key and",
		},
		"--cluster embedded --peer= --peer-advertise a:1":  {"--peer-advertise: there is no --peer address"},
		"--cluster embedded --cluster-lease 0s":            {"--cluster-lease: 0s is too short"},
		"--presence-bytes 0":                               {"--presence-bytes:"},
		"--cluster nats --cluster-url nats://127.0.0.1":    {"--cluster-url: server 1 of the list"},
		"--cluster nats --cluster-url nats://127.0.0.1:1,": {"--cluster-url: server 2 of the list"},
		"--cluster nats --cluster-url http://127.0.0.1:1":  {"--cluster-url: server 1 of the list"},
	} {
		_, err := parse(t, strings.Fields(args)...)
		switch {
		case len(wants) == 0 && err != nil:
			t.Errorf("%q: %v", args, err)
		case len(wants) == 0:
		case err == nil:
			t.Errorf("%q is taken", args)
		default:
			lines := strings.Split(strings.TrimPrefix(err.Error(), "serve: "), "\n")
			for _, want := range wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q: %q lacks %q", args, err, want)
				}
			}
			if len(lines) != len(wants) {
				t.Errorf("%q: %d faults are told, want %d:\n%v", args, len(lines), len(wants), err)
			}
		}
	}
}

// TestClusterURLStaysSecret: what is wrong with a URL is told without the password in it.
func TestClusterURLStaysSecret(t *testing.T) {
	for _, u := range []string{"redis://u:secret@a:nope", "redis://u:secret@", "redis://u:secret@a/secret", "redis://u:secret%zz@a", "u:secret@a"} {
		if _, err := parse(t, "--cluster", "redis", "--cluster-url", u); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", u, err)
		}
	}
	for _, u := range []string{
		"postgres://u:secret@a:nope/d", "postgres://u:secret@:a:b/d", "postgres://u:secret%zz@a/d", "u:secret@a/d", "postgres://u:se:cret@a/d?sslmode=secret",
		"postgres://u:secret@a/d?port=secret", "postgres://u:secret", "postgres://u:secret@[/d",
	} {
		if _, err := parse(t, "--cluster", "postgres", "--cluster-url", u); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", u, err)
		}
	}
	for _, u := range []string{"nats://u:secret@127.0.0.1", "nats://u:secret@127.0.0.1:nope", "http://u:secret@127.0.0.1:1", "u:secret@127.0.0.1:1", "nats://u:secret@%:1"} {
		if _, err := parse(t, "--cluster", "nats", "--cluster-url", u); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", u, err)
		}
	}
}

// TestPeerAddress: where nothing is said of the address for passed requests, it can be reached from where other nodes
// can be, and from nowhere else.
func TestPeerAddress(t *testing.T) {
	for args, want := range map[string]string{
		"--cluster embedded": "127.0.0.1:0",
		"--cluster embedded --cluster-listen :1 --cluster-key-file k":                     ":0",
		"--cluster embedded --cluster-listen [::1]:1":                                     "[::1]:0",
		"--cluster embedded --peer=":                                                      "",
		"--cluster embedded --peer 127.0.0.1:7":                                           "127.0.0.1:7",
		"--cluster nats --cluster-url nats://127.0.0.1:1,nats://localhost:2":              "127.0.0.1:0",
		"--cluster nats --cluster-url nats://127.0.0.1:1,nats://a:2 --cluster-key-file k": ":0",
		"--cluster redis --cluster-url redis://u:p@127.0.0.1,localhost:2":                 "127.0.0.1:0",
		"--cluster postgres --cluster-url postgres://u:p@127.0.0.1:1,localhost:2/d":       "127.0.0.1:0",
		"--cluster postgres --cluster-url postgres:///d?host=/tmp":                        "127.0.0.1:0",
		"--cluster postgres --cluster-url postgres://127.0.0.1,a/d --cluster-key-file k":  ":0",
		"--cluster redis --cluster-url redis://127.0.0.1,a --cluster-key-file k":          ":0",
		"--cluster redis --cluster-url redis+sentinel://127.0.0.1/m --cluster-key-file k": ":0",
	} {
		s, err := parse(t, strings.Fields(args)...)
		if err != nil || s.peerListen() != want {
			t.Errorf("%q: %q, %v, want %q", args, s.peerListen(), err, want)
		}
	}
}

// TestClusterKey: the secret is the file's text without the end of its line.
func TestClusterKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	for text, want := range map[string]string{
		"0123456789abcdef\n":       "0123456789abcdef",
		" two words, and more\r\n": "two words, and more",
		"too short\n":              "",
		"":                         "",
	} {
		put(t, file, text)
		s := settings{ClusterFlags: clusterFlags{KeyFile: file}}
		key, err := s.clusterKey()
		if string(key) != want || (err == nil) != (want != "") {
			t.Errorf("%q: key %q, %v", text, key, err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "--cluster-key-file: "+file) {
			t.Errorf("error: %v", err)
		}
	}
	s := settings{}
	if key, err := s.clusterKey(); key != nil || err != nil {
		t.Errorf("without a file: %q, %v", key, err)
	}
}

// authority signs certificates of nodes.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var a authority
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = filepath.Join(t.TempDir(), "ca")
	put(t, a.file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return &a
}

// issue makes a certificate that is good until a time, and returns what its files have.
func (a *authority) issue(t *testing.T, until time.Time) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

func (a *authority) member(t *testing.T) [][]byte {
	t.Helper()
	cert, key := a.issue(t, time.Now().Add(time.Hour))
	return [][]byte{cert, key, []byte(contentOf(t, a.file))}
}

// tcpPair are both ends of a connection.
func tcpPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// handshake lets one end call another and tells what each of them thinks of it.
func handshake(t *testing.T, caller, called *tls.Config) (callers, calleds error) {
	t.Helper()
	near, far := tcpPair(t) // a pipe has no room for what both ends say at once
	done := make(chan error, 1)
	go func() {
		defer far.Close()
		c := tls.Server(far, called)
		err := c.HandshakeContext(t.Context())
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 1))
		}
		done <- err
	}()
	c := tls.Client(near, caller)
	err := c.HandshakeContext(t.Context())
	if err == nil {
		_, err = c.Write([]byte{1})
	}
	near.Close()
	return err, <-done
}

// TestMembership: two nodes with certificates of one CA talk to each other, whichever calls; nobody else does. What a
// file is changed to holds for the next connection, whichever end it is at.
func TestMembership(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	take := func(contents [][]byte) *membership {
		m := new(membership)
		if _, err := m.take(contents); err != nil {
			t.Fatal(err)
		}
		return m
	}
	a, b := take(ours.member(t)), take(ours.member(t))
	stranger := take(theirs.member(t))
	forged := theirs.member(t)
	pair, err := tls.X509KeyPair(forged[0], forged[1])
	if err != nil {
		t.Fatal(err)
	}
	trusting := a.config()
	trusting.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	trusting.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }
	nameless := a.config()
	nameless.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil }

	if x, y := handshake(t, a.config(), b.config()); x != nil || y != nil {
		t.Errorf("two members: %v, %v", x, y)
	}
	for name, other := range map[string]*tls.Config{"of another CA": stranger.config(), "that trusts ours": trusting, "without a certificate": nameless} {
		if _, err := handshake(t, other, a.config()); err == nil {
			t.Errorf("a stranger %s may call", name)
		}
	}
	for name, other := range map[string]*tls.Config{"of another CA": stranger.config(), "that trusts ours": trusting} {
		if err, _ := handshake(t, a.config(), other); err == nil {
			t.Errorf("a stranger %s is called", name)
		}
	}

	called, caller := a.config(), b.config()
	for _, m := range []*membership{a, b} {
		if _, err := m.take(theirs.member(t)); err != nil {
			t.Fatal(err)
		}
	}
	if x, y := handshake(t, caller, called); x != nil || y != nil {
		t.Errorf("two members with new files: %v, %v", x, y)
	}
	if _, err := handshake(t, stranger.config(), called); err != nil {
		t.Errorf("who has a certificate of the new CA: %v", err)
	}
}

// TestMembershipFaults: what is wrong with the files is told by the file, and changes nothing.
func TestMembershipFaults(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	good := ours.member(t)
	old, oldKey := ours.issue(t, time.Now().Add(-time.Minute))
	for name, c := range map[string]struct {
		contents [][]byte
		file     int
		want     string
	}{
		"no certificate": {[][]byte{good[1], good[1], good[2]}, 0, errNoCert.Error()},
		"other key":      {[][]byte{good[0], oldKey, good[2]}, 1, errMismatch.Error()},
		"no CA":          {[][]byte{good[0], good[1], []byte("nothing")}, 2, errNoPEM.Error()},
		"a key as CA":    {[][]byte{good[0], good[1], good[1]}, 2, errNoCA.Error()},
		"other CA":       {[][]byte{good[0], good[1], []byte(contentOf(t, theirs.file))}, 0, errOtherCA.Error()},
		"old":            {[][]byte{old, oldKey, good[2]}, 0, "it is good from"},
	} {
		m := new(membership)
		if _, err := m.take(good); err != nil {
			t.Fatal(err)
		}
		before := m.now.Load()
		_, err := m.take(c.contents)
		fault, ok := errors.AsType[*contentError](err)
		if !ok || fault.file != c.file || !strings.HasPrefix(fault.Error(), c.want) || m.now.Load() != before {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMembershipIsReloaded: the files of a certificate between nodes are among those that a running node looks at.
func TestMembershipIsReloaded(t *testing.T) {
	ours := newAuthority(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	write := func() []byte {
		files := ours.member(t)
		put(t, cert, string(files[0]))
		put(t, key, string(files[1]))
		return files[0]
	}
	write()
	f := &foyer{s: &settings{ClusterFlags: clusterFlags{TLS: clusterTLS{cert, key, ours.file}}}}
	parts := f.reloads()
	for range 2 {
		next := write()
		for _, p := range parts {
			if _, err := p.load(); err != nil {
				t.Fatal(err)
			}
		}
		block, _ := pem.Decode(next)
		if !bytes.Equal(f.membership.now.Load().pair.Certificate[0], block.Bytes) {
			t.Error("it shows another certificate than that of its file")
		}
	}
	names := make([]string, 0, len(parts))
	for _, p := range parts {
		names = append(names, p.name)
	}
	if d := cmp.Diff([]string{"cluster certificate"}, names); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
