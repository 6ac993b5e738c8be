package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// tlsPair are the flags of a certificate and its key.
type tlsPair struct {
	Cert string `reload:"content" type:"path" placeholder:"FILE" help:"TLS certificate with its chain, PEM. It is read again when the file changes, and at SIGHUP."`
	Key  string `reload:"content" type:"path" placeholder:"FILE" help:"Its key, PEM. Both are taken together or not at all."`
}

// check says what is wrong with the flags; what is the listener in their names: edge or api.
func (p tlsPair) check(what string) error {
	if (p.Cert == "") != (p.Key == "") {
		return fmt.Errorf("--%s-cert and --%s-key go together: give both or none", what, what)
	}
	return nil
}

// certificate is the one that a listener shows, which another may follow while it listens. Safe for concurrent use.
type certificate struct {
	now atomic.Pointer[tls.Certificate]
}

// config is for a listener. Handshakes that begin after a take show the new certificate; connections go on with theirs.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.now.Load(), nil },
	}
}

// take reads a certificate and its key and shows them from now on. It says for whom the certificate is and until when.
// An error changes nothing.
func (c *certificate) take(contents [][]byte) (string, error) {
	pair, err := parsePair(contents[0], contents[1])
	if err != nil {
		return "", err
	}
	c.now.Store(pair)
	names := pair.Leaf.DNSNames
	for _, ip := range pair.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		names = []string{pair.Leaf.Subject.String()}
	}
	return fmt.Sprintf("for %s until %s", strings.Join(names, ", "), pair.Leaf.NotAfter.UTC().Format(time.RFC3339)), nil
}

// Faults of the files of a pair. What package tls says of them names neither file.
var (
	errNoPEM     = errors.New("it is empty, or not in PEM form")
	errMismatch  = errors.New("it is not the key of the certificate")
	errNoCert    = errors.New("there is no certificate in it")
	errNoKey     = errors.New("there is no key in it")
	errEncrypted = errors.New("the key in it is encrypted; Foyer takes a plain one")
)

func parsePair(cert, key []byte) (*tls.Certificate, error) {
	leaf, err := blockOf(cert, errNoCert, func(kind string) bool { return kind == "CERTIFICATE" })
	if err == nil {
		_, err = x509.ParseCertificate(leaf.Bytes)
	}
	if err != nil {
		return nil, &contentError{0, err}
	}
	private, err := blockOf(key, errNoKey, func(kind string) bool { return strings.HasSuffix(kind, "PRIVATE KEY") })
	if err == nil && (private.Type == "ENCRYPTED PRIVATE KEY" || private.Headers["DEK-Info"] != "") {
		err = errEncrypted
	}
	if err == nil {
		err = checkKey(private.Bytes)
	}
	if err != nil {
		return nil, &contentError{1, err}
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil { // each is good by itself
		return nil, &contentError{1, errMismatch}
	}
	return &pair, nil
}

// blockOf is the first block of a kind, or why there is none.
func blockOf(text []byte, none error, is func(kind string) bool) (*pem.Block, error) {
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errNoPEM
	}
	for ; block != nil; block, rest = pem.Decode(rest) {
		if is(block.Type) {
			return block, nil
		}
	}
	return nil, none
}

func checkKey(der []byte) error {
	_, err := x509.ParsePKCS8PrivateKey(der)
	if err == nil {
		return nil
	}
	if _, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return nil
	}
	if _, err := x509.ParseECPrivateKey(der); err == nil {
		return nil
	}
	return err
}
