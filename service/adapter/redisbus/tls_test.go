package redisbus

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"foyer/service/adapter/freeport"
)

// authority signs certificates for 127.0.0.1.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = a.sign(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.file = writePEM(t, "CERTIFICATE", a.cert.Raw)
	return a
}

func (a *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	template.Subject.CommonName = fmt.Sprint(time.Now().UnixNano())
	template.SerialNumber, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(time.Hour)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// issue returns the files of a certificate and its key.
func (a *authority) issue(t *testing.T) (cert, key string) {
	t.Helper()
	c, k := a.sign(t, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, "CERTIFICATE", c.Raw), writePEM(t, "EC PRIVATE KEY", der)
}

func writePEM(t *testing.T, kind string, der []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestTLS: both ends are known by their certificates, and what is wrong with them is told at start.
func TestTLS(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	cert, key := a.issue(t)
	otherCert, otherKey := other.issue(t)
	port, plain := freeport.New(t), startServer(t, freeport.New(t))
	startServer(t, "0", "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", a.file)
	secure := "127.0.0.1:" + port
	for _, test := range []struct {
		name   string
		config Config
		want   string // "": it does
	}{
		{"known", Config{URL: "rediss://" + secure, CA: a.file, Cert: cert, Key: key}, ""},
		{"a server that nobody knows", Config{URL: "rediss://" + secure, Cert: cert, Key: key}, "certificate"},
		{"a server of another authority", Config{URL: "rediss://" + secure, CA: other.file, Cert: cert, Key: key}, "certificate"},
		{"a node without a certificate", Config{URL: "rediss://" + secure, CA: a.file}, "certificate"},
		{"a node of another authority", Config{URL: "rediss://" + secure, CA: a.file, Cert: otherCert, Key: otherKey}, "certificate"},
		{"no TLS where it is wanted", Config{URL: "redis://" + secure}, "rediss://"},
		{"TLS where there is none", Config{URL: "rediss://" + plain.Addr, CA: a.file, callTimeout: answerTimeout}, "TLS"},
		{"no file", Config{URL: "rediss://" + secure, CA: a.file + "x"}, "no such file"},
		{"a key in place of a CA", Config{URL: "rediss://" + secure, CA: key}, "there is no certificate in"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.config.Node, test.config.callTimeout = "AAAA", cmp.Or(test.config.callTimeout, callTimeout)
			log, logs := testLog()
			test.config.Logger = log
			b, err := Connect(test.config)
			if err == nil {
				if b.Up() != (test.want == "") {
					t.Errorf("the bus is up: %v; it has told %v", b.Up(), logs.All())
				}
				b.Close()
			}
			// A server that closes a connection may have had no time to say why. Then the bus waits, and its line has a guess.
			told := fmt.Sprint(err)
			for _, line := range logs.FilterMessage("bus not reached yet").All() {
				told = fmt.Sprint(line.ContextMap()["error"])
			}
			if test.want == "" && told != "<nil>" || !strings.Contains(told, test.want) {
				t.Errorf("it tells %q, want one line about %q", told, test.want)
			}
		})
	}
}
