package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// membership is the certificate by which other nodes know this one, and those that theirs have to come from. Others may
// follow while the node runs. Safe for concurrent use.
type membership struct {
	now atomic.Pointer[member]
}

type member struct {
	pair  *tls.Certificate
	roots *x509.CertPool
}

// Faults of the files of a membership, beside those of a pair.
var (
	errNoCA     = errors.New("there is no certificate in it")
	errOtherCA  = errors.New("it does not come from a certificate of --cluster-tls-ca, so the other nodes would refuse it")
	errNoMember = errors.New("the other end shows no certificate")
)

// config is for both ends of connections between nodes. A peer that shows a certificate of the CA is a member, whatever
// name or address the certificate is for: addresses of nodes come and go. A handshake that begins after the files are
// taken goes by the new files.
func (m *membership) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return m.now.Load().pair, nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return m.now.Load().pair, nil
		},
		// Both ends are verified below, by the roots that are in use then and without names.
		ClientAuth: tls.RequireAnyClientCert, InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it
		VerifyConnection: func(s tls.ConnectionState) error {
			return m.now.Load().verify(s.PeerCertificates)
		},
	}
}

// verify says whether a chain comes from the roots.
func (m *member) verify(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errNoMember
	}
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: m.roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}

// take reads a certificate, its key and the CA. It says until when the certificate is good. An error changes nothing.
func (m *membership) take(contents [][]byte) (string, error) {
	pair, err := parsePair(contents[0], contents[1])
	if err != nil {
		return "", err
	}
	next := &member{pair: pair, roots: x509.NewCertPool()}
	if block, _ := pem.Decode(contents[2]); block == nil {
		return "", &contentError{2, errNoPEM}
	}
	if !next.roots.AppendCertsFromPEM(contents[2]) {
		return "", &contentError{2, errNoCA}
	}
	chain := make([]*x509.Certificate, 0, len(pair.Certificate))
	for _, der := range pair.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return "", &contentError{0, err}
		}
		chain = append(chain, cert)
	}
	err = next.verify(chain)
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "", &contentError{0, fmt.Errorf("it is good from %s until %s only", at(pair.Leaf.NotBefore), at(pair.Leaf.NotAfter))}
	}
	if err != nil {
		return "", &contentError{0, errOtherCA}
	}
	m.now.Store(next)
	return "until " + at(pair.Leaf.NotAfter), nil
}

func at(t time.Time) string { return t.UTC().Format(time.RFC3339) }
