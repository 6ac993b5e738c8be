package natsbus

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"foyer/service"
)

// ear is a bus and what has come over it.
type ear struct {
	*Bus
	arrived chan struct{} // has a value after something has come
	mu      sync.Mutex
	got     map[string]bool // guarded by mu
}

func newEar(b *Bus) *ear {
	return &ear{Bus: b, arrived: make(chan struct{}, 1), got: make(map[string]bool)}
}

func listen(t *testing.T, b *Bus) *ear {
	t.Helper()
	e := newEar(b)
	if err := b.Receive(e.hear); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *ear) hear(frame []byte) {
	defer poke(e.arrived)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.got[string(frame)] = true
}

// refused is an ear that goes on although no other node takes it.
func refused(t *testing.T, b *Bus) *ear {
	t.Helper()
	e := newEar(b)
	if err := b.Receive(e.hear); err == nil {
		t.Error("it is not refused")
	}
	return e
}

func (e *ear) has(frame string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.got[frame]
}

// whole waits until each hears each other one anew, and says how long that took.
func whole(t *testing.T, ears ...*ear) time.Duration {
	t.Helper()
	round, began := random(), time.Now()
	await(t, "a whole mesh", func() bool {
		all := true
		for i, from := range ears {
			frame := fmt.Sprintf("%s %d", round, i)
			for _, to := range ears {
				if from != to && !to.has(frame) {
					all = false
					_ = from.Send(to.self, []byte(frame))
				}
			}
		}
		return all
	})
	return time.Since(began)
}

// gate forwards connections to an address while it is open; then nobody listens there, so that a try to connect fails.
type gate struct {
	addr  string
	ended sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener // guarded by mu
	to       string       // guarded by mu
	shut     bool         // guarded by mu
	conns    []net.Conn   // guarded by mu
}

func newGate(t *testing.T) *gate {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{listener: listener, addr: listener.Addr().String()}
	g.ended.Go(func() { g.accept(listener) })
	t.Cleanup(func() {
		g.set(t, true)
		g.ended.Wait()
	})
	return g
}

func (g *gate) accept(listener net.Listener) {
	for {
		in, err := listener.Accept()
		if err != nil {
			return
		}
		g.mu.Lock()
		to, shut := g.to, g.shut
		g.mu.Unlock()
		out, err := net.Dial("tcp", to)
		if shut || err != nil {
			in.Close()
			if err == nil {
				out.Close()
			}
			continue
		}
		g.mu.Lock()
		g.conns = append(g.conns, in, out)
		g.mu.Unlock()
		for from, to := range map[net.Conn]net.Conn{in: out, out: in} {
			g.ended.Go(func() {
				_, _ = io.Copy(to, from)
				to.Close()
			})
		}
	}
}

func (g *gate) set(t *testing.T, shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut = shut; !shut {
		listener, err := net.Listen("tcp", g.addr)
		if err != nil {
			t.Error(err)
			return
		}
		g.listener = listener
		g.ended.Go(func() { g.accept(listener) })
	} else {
		g.listener.Close()
		for _, conn := range g.conns {
			conn.Close()
		}
		g.conns = nil
	}
}

// Two nodes that know only the third are cut off from each other; when the way is there again they find each other.
func TestMeshHeals(t *testing.T) {
	first := listen(t, embed(t, meshConfig("AAAA")))
	ears := []*ear{first}
	gates := []*gate{newGate(t), newGate(t)}
	for i, name := range []service.NodeID{"BBBB", "CCCC"} {
		c := meshConfig(name, first.RouteAddr().String())
		c.Advertise = gates[i].addr // where others that hear of it come
		b := embed(t, c)
		gates[i].mu.Lock()
		gates[i].to = b.RouteAddr().String()
		gates[i].mu.Unlock()
		ears = append(ears, listen(t, b))
	}
	whole(t, ears...)
	for round := range 2 {
		for _, g := range gates {
			g.set(t, true)
		}
		frame := fmt.Sprintf("through a cut %d", round)
		await(t, "the cut", func() bool { return ears[1].server.server.NumRoutes() == 1 && ears[2].server.server.NumRoutes() == 1 })
		if err := ears[1].Send("CCCC", []byte(frame)); err != nil {
			t.Error(err)
		}
		whole(t, first, ears[1])
		whole(t, first, ears[2])
		<-time.After(3 * time.Second) // some tries fail
		if ears[2].has(frame) {
			t.Error("a frame came through a cut: the gates are not on the way")
		}
		for _, g := range gates {
			g.set(t, false)
		}
		t.Logf("whole again after %v", whole(t, ears...).Round(time.Millisecond))
	}
}

// One name stands for all nodes, as a headless service does, and for one more later, which knows nobody.
func TestOneName(t *testing.T) {
	first := embed(t, Embedded{Node: "ZZZZ", Listen: "127.0.0.9:0"}) // to have a port; it is no part of it
	_, port, err := splitAddress(first.RouteAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	ips := []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"}
	lookup := func(_ context.Context, host string) ([]string, error) {
		if host != "foyer.test" {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(ips), nil
	}
	var ears []*ear
	for i, ip := range ips {
		ears = append(ears, listen(t, embed(t, Embedded{
			Node: service.NodeID(fmt.Sprintf("AAA%d", i)), Listen: fmt.Sprintf("%s:%d", ip, port),
			Routes: []string{fmt.Sprintf("foyer.test:%d", port), "nowhere.test:1"}, lookup: lookup,
		})))
	}
	whole(t, ears...)
	for _, e := range ears {
		await(t, "a full mesh", func() bool { return e.server.server.NumRoutes() == 2 })
	}
	ears = append(ears, listen(t, embed(t, Embedded{Node: "BBBB", Listen: fmt.Sprintf("127.0.0.5:%d", port)})))
	mu.Lock()
	ips = append(ips, "127.0.0.5")
	mu.Unlock()
	t.Logf("a fourth node is found after %v", whole(t, ears...).Round(time.Millisecond))

	mu.Lock()
	ips = ips[:1] // the name loses some that are there: they stay
	mu.Unlock()
	<-time.After(2*findEvery + time.Second)
	for _, e := range ears {
		if got := e.server.server.NumRoutes(); got != 3 {
			t.Errorf("%s has %d routes, want 3", e.self, got)
		}
	}
	whole(t, ears...)
}

// A node without the key, or with another one, hears nothing and is not heard; the others stay whole.
func TestKeys(t *testing.T) {
	with := func(name service.NodeID, key string, routes ...string) Embedded {
		c := meshConfig(name, routes...)
		c.SecretKey = []byte(key)
		return c
	}
	a := listen(t, embed(t, with("AAAA", "secret")))
	at := a.RouteAddr().String()
	b := listen(t, embed(t, with("BBBB", "secret", at)))
	whole(t, a, b)
	for _, key := range []string{"", "another"} {
		log, logs := testLog()
		c := with("CCCC", key, at)
		c.Logger = log
		stranger := refused(t, embed(t, patient(c)))
		await(t, "a refusal", func() bool { return logs.FilterLevelExact(1).Len() > 0 })
		_ = a.SendAll([]byte("secret"))
		_ = stranger.SendAll([]byte("strange"))
		whole(t, a, b)
		if stranger.has("secret") || a.has("strange") || b.has("strange") {
			t.Errorf("key %q: it takes part", key)
		}
		for _, entry := range logs.All() {
			t.Logf("key %q: %v: %s", key, entry.Level, entry.Message)
		}
		stranger.Close()
	}
}

// Nodes know each other by certificates, whatever name they are for.
func TestTLS(t *testing.T) {
	ours, theirs := newCA(t), newCA(t)
	with := func(name service.NodeID, files *tls.Config, routes ...string) Embedded {
		c := meshConfig(name, routes...)
		c.TLS = files
		return c
	}
	a := listen(t, embed(t, with("AAAA", ours.member(t, ours))))
	at := a.RouteAddr().String()
	b := listen(t, embed(t, with("BBBB", ours.member(t, ours), at)))
	whole(t, a, b)

	for name, files := range map[string]*tls.Config{"of another CA": theirs.member(t, theirs), "that trusts ours": theirs.member(t, ours), "none": nil} {
		stranger := refused(t, embed(t, patient(with("CCCC", files, at))))
		for range 20 {
			_ = stranger.SendAll([]byte("strange"))
			_ = a.SendAll([]byte("secret"))
			whole(t, a, b)
		}
		if stranger.has("secret") || a.has("strange") || b.has("strange") || stranger.server.server.NumRoutes() > 0 {
			t.Errorf("a certificate %s takes part", name)
		}
		stranger.Close()
	}
}

// A node that all others refuse hears why when it begins to receive; where one takes it, or nobody is there, it begins.
func TestRefused(t *testing.T) {
	t.Parallel()
	ours, theirs := newCA(t), newCA(t)
	key := func(text string) func(c *Embedded) { return func(c *Embedded) { c.SecretKey = []byte(text) } }
	certificate := func(of, trusts *authority) func(c *Embedded) {
		return func(c *Embedded) { c.TLS = of.member(t, trusts) }
	}
	cluster := func(name string) func(c *Embedded) { return func(c *Embedded) { c.Cluster = name } }
	none := func(*Embedded) {}
	for name, c := range map[string]struct {
		there, here func(c *Embedded)
		want        error
	}{
		"taken":                    {none, none, nil},
		"taken with a key":         {key("a"), key("a"), nil},
		"taken with a certificate": {certificate(ours, ours), certificate(ours, ours), nil},
		"another key":              {key("a"), key("b"), ErrKey},
		"no key":                   {key("a"), none, ErrKey},
		"another name":             {none, cluster("other"), ErrName},
		"a certificate of another": {certificate(ours, ours), certificate(theirs, theirs), ErrCertificate},
		"a certificate it refuses": {certificate(ours, ours), certificate(theirs, ours), ErrCertificate},
		"no certificate":           {certificate(ours, ours), none, ErrCertificate},
		"a certificate alone":      {none, certificate(ours, ours), ErrCertificate},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			there := meshConfig("AAAA")
			c.there(&there)
			a := listen(t, embed(t, there))
			at := a.RouteAddr().String()
			for others, routes := range map[string][]string{"": {at}, " and nobody": {at, "127.0.0.1:9"}, " and itself": {at, ""}} {
				here := meshConfig("BBBB", routes...)
				c.here(&here)
				if others == " and itself" {
					here.Listen = freeAddress(t)
					here.Routes[1] = here.Listen
				}
				b := embed(t, patient(here))
				err := b.Receive(func([]byte) {})
				if !errors.Is(err, c.want) {
					t.Errorf("%s: got %v, want %v", others, err, c.want)
				}
				if err != nil && (strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), at) && !strings.Contains(err.Error(), here.Listen)) {
					t.Errorf("%s: %q does not name a node in one line", others, err)
				}
				b.Close()
			}
			if name == "a certificate it refuses" { // nobody else takes that either
				return
			}
			// One that takes it is enough.
			friend := meshConfig("CCCC")
			c.here(&friend)
			f := listen(t, embed(t, friend))
			here := meshConfig("BBBB", at, f.RouteAddr().String())
			c.here(&here)
			if err := embed(t, patient(here)).Receive(func([]byte) {}); err != nil {
				t.Errorf("with a friend: %v", err)
			}
		})
	}
	for name, c := range map[string]Embedded{"nobody": meshConfig("AAAA", "127.0.0.1:9"), "no name": meshConfig("AAAA", "nowhere.invalid:9"), "alone": meshConfig("AAAA")} {
		if err := embed(t, c).Receive(func([]byte) {}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// What a node that has just begun to receive sends to the others at once is heard.
func TestFirstWords(t *testing.T) {
	a := listen(t, embed(t, meshConfig("AAAA")))
	for i := range 20 {
		b := listen(t, embed(t, patient(meshConfig("BBBB", a.RouteAddr().String()))))
		word := fmt.Sprint("first ", i)
		if err := b.SendAll([]byte(word)); err != nil {
			t.Fatal(err)
		}
		await(t, word, func() bool { return a.has(word) })
		b.Close()
	}
}

// What a node sends just before it closes its bus is heard, as long as the others are there.
func TestLastWords(t *testing.T) {
	a := listen(t, embed(t, meshConfig("AAAA")))
	for i, tries := 0, 0; i < 20; tries++ {
		if tries == 100 {
			t.Fatal("no last word goes out in time")
		}
		b := listen(t, embed(t, patient(meshConfig("BBBB", a.RouteAddr().String()))))
		word := fmt.Sprint("last ", i)
		if err := b.SendAll([]byte(word)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		b.Close()
		if time.Since(began) >= lastTimeout { // Close waits no longer, and a busy server may not have it
			continue
		}
		await(t, word, func() bool { return a.has(word) })
		i++
	}
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t *testing.T) *authority {
	t.Helper()
	var ca authority
	ca.cert, ca.key = ca.sign(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return &ca
}

// member is for a node with a certificate of this authority that trusts another one.
func (ca *authority) member(t *testing.T, trusts *authority) *tls.Config {
	t.Helper()
	cert, key := ca.sign(t, &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature})
	roots := x509.NewCertPool()
	roots.AddCert(trusts.cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			return err
		},
	}
}

// sign makes a certificate, by itself when the authority has none yet.
func (ca *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: rand.Text()}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := ca.cert, ca.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// What is wrong with the settings is told in one line, before anything runs.
func TestSettings(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for want, change := range map[string]func(c *Embedded){
		"in use":              func(c *Embedded) { c.Listen = taken.Addr().String() },
		"no name of a node":   func(c *Embedded) { c.Node = "A.B*" },
		"cluster name":        func(c *Embedded) { c.Cluster = "foyer.>" },
		"cluster name \"a b":  func(c *Embedded) { c.Cluster = "a b" },
		"cluster name \"a..b": func(c *Embedded) { c.Cluster = "a..b" },
		"address to listen":   func(c *Embedded) { c.Listen = "nowhere" },
		"secret key":          func(c *Embedded) { c.Listen = "0.0.0.0:0" },
		"want host:port":      func(c *Embedded) { c.Routes = []string{"host"} },
		"tell other nodes":    func(c *Embedded) { c.Advertise = "host:0" },
	} {
		c := meshConfig("AAAA")
		change(&c)
		b, err := Embed(c)
		if err == nil {
			b.Close()
			t.Errorf("it is taken, want an error about %q", want)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %q, want one line about %q", err, want)
		}
	}
}

// TestProxyWithoutNode: a proxy that takes connections and closes them, since its node is not there, refuses nobody.
func TestProxyWithoutNode(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var taking sync.WaitGroup
	taking.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	})
	defer taking.Wait()
	defer l.Close()
	if err := embed(t, meshConfig("AAAA", l.Addr().String())).Receive(func([]byte) {}); err != nil {
		t.Error(err)
	}
}

// TestMuteNodes: a node that closes connections without a word refuses this one only when it waits for a certificate.
// One that speaks first is about to end, and keeps nobody from starting.
func TestMuteNodes(t *testing.T) {
	for first, want := range map[string]error{"": ErrCertificate, "INFO {}\r\n": nil} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var taken sync.WaitGroup
		taken.Go(func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = conn.Write([]byte(first))
			_, _ = conn.Read(make([]byte, 1)) // until the other end closes it
		})
		address := l.Addr().String()
		tries := newTries([]string{address})
		for range mute {
			for _, line := range []string{"Route connection created", "Router connection closed: Client Closed"} {
				tries.note(address + " - rid:7 - " + line)
			}
		}
		tries.ask()
		if all, _, refused := tries.end(nil); !all || !errors.Is(refused, want) {
			t.Errorf("who says %q first: %v, all are known: %t; want %v", first, refused, all, want)
		}
		l.Close()
		taken.Wait()
	}
}
