package natsbus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLS are the files by which nodes know each other: each has a certificate that comes from CA, for both sides of a
// connection. Who has one is a member, whatever name or address it is for: addresses of nodes come and go.
type TLS struct {
	Cert, Key string
	CA        string
}

func (t *TLS) validate() error {
	if t.Cert == "" || t.Key == "" || t.CA == "" {
		return errors.New("certificates between nodes need three files: certificate, key and CA")
	}
	return nil
}

// config reads the files.
func (t *TLS) config() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate of this node: %w", err)
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, fmt.Errorf("CA of the cluster: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA of the cluster: %s has no certificate", t.CA)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    roots,
		RootCAs:      roots,
		// Names are not looked at, since routes go to addresses. Everything else is verified below.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("the other node has no certificate")
			}
			others := x509.NewCertPool()
			for _, cert := range s.PeerCertificates[1:] {
				others.AddCert(cert)
			}
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{
				Roots: roots, Intermediates: others, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
			})
			return err
		},
	}, nil
}
