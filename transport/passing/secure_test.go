package passing

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"
)

var quietLog = log.New(io.Discard, "", 0)

// authority makes the certificates of a cluster.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = sign(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	return a
}

// sign makes a certificate, of itself when there is no authority.
func sign(t testing.TB, form *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form.SerialNumber, form.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: "foyer"}
	form.NotBefore, form.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := form, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, form, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// issue makes what a node shows and demands: a certificate of the authority, whatever name or address it is for.
func (a *authority) issue(t testing.TB, _ string) *tls.Config {
	t.Helper()
	cert, key := sign(t, &x509.Certificate{}, a)
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: roots, RootCAs: roots,
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("no certificate")
			}
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			return err
		},
	}
}

func tlsListener(l net.Listener, config *tls.Config) net.Listener { return tls.NewListener(l, config) }

// TestMutualTLS: members pass to each other by TLS. A program without a certificate of their authority is no member,
// and a node without one is not asked.
func TestMutualTLS(t *testing.T) {
	ours := newAuthority(t)
	c := startCluster(t, options{secure: ours}, "aaaa", "bbbb")
	a, b := c.nodes[0], c.nodes[1]
	query := b.open()
	if res := a.ask("POST", query, "4by TLS"); res.body != "ok" {
		t.Errorf("POST: %v", res)
	}
	if res := a.ask("GET", query, ""); res.body != "4by TLS" {
		t.Errorf("GET: %v", res)
	}
	ws := a.upgrade(query)
	ws.write("4upgraded")
	ws.want("4upgraded")

	theirs := newAuthority(t)
	for what, config := range map[string]*tls.Config{
		"without a certificate":  {InsecureSkipVerify: true},
		"of another authority":   theirs.issue(t, "x"),
		"with a forged one, too": {InsecureSkipVerify: true, Certificates: theirs.issue(t, "x").Certificates},
	} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		if res, err := client.Get("https://" + b.peers.Listener.Addr().String() + "/socket.io/?" + query); err == nil {
			t.Errorf("%s: %v", what, res.Status)
			res.Body.Close()
		}
		client.CloseIdleConnections()
	}

	stranger := c.start("cccc", options{secure: theirs})
	defer stranger.stop()
	foreign := stranger.open()
	if res := a.ask("GET", foreign, ""); res.body != unknownSession {
		t.Errorf("of a stranger: %v", res)
	}
	if n := stranger.asked.Load(); n != 0 {
		t.Errorf("the stranger was asked %d times", n)
	}
}
