package redisbus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"
)

// conn is a connection to a server that has let this node in.
type conn struct {
	net.Conn
	reader
}

// awake is a connection that is broken when nothing comes for a while. Something comes: it is asked again and again.
type awake struct {
	net.Conn
	most time.Duration // without anything
}

func (a awake) Read(p []byte) (int, error) {
	if err := a.SetReadDeadline(time.Now().Add(a.most)); err != nil {
		return 0, err
	}
	return a.Conn.Read(p)
}

// refusal is why a server does not do, and will not by itself.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// passing are the words of servers that do not do now. Any other error of a server is a refusal.
var passing = []string{"LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "OOM"}

// judge makes a refusal of what will not pass by itself.
func judge(err error) error {
	var answer serverError
	var record tls.RecordHeaderError
	var network *net.OpError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.As(err, &answer):
		if slices.Contains(passing, answer.word()) || answer == "ERR max number of clients reached" {
			return err
		}
	case errors.As(err, &record):
		err = errors.New("the server does not speak TLS there; redis:// is without")
	case errors.As(err, &network) && network.Op == "remote error": // the server has said by TLS why not
	case errors.As(err, &verify), errors.Is(err, errProtocol):
	default:
		return err
	}
	return &refusal{err}
}

// dial makes a connection to an address and enters there. It waits for dialTimeout and some callTimeouts at most.
func (b *Bus) dial(ctx context.Context, address, host string, enter func(c *conn) error) (*conn, error) {
	if b.refuse.Load() {
		return nil, net.ErrClosed
	}
	nc, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	if err = nc.SetDeadline(time.Now().Add(b.callTimeout)); err == nil {
		err = b.secure(ctx, c, host)
	}
	if err == nil {
		err = b.hint(enter(c))
	}
	if err == nil {
		err = nc.SetDeadline(time.Time{})
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// secure makes a new connection one that can be read, by TLS where the URL says so.
func (b *Bus) secure(ctx context.Context, c *conn, host string) error {
	if b.servers.TLS {
		config, err := b.tlsConfig(host)
		if err != nil {
			return err
		}
		secure := tls.Client(c.Conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = fmt.Errorf("no answer, as from a server without TLS (redis://): %w", err)
			}
			return fmt.Errorf("TLS: %w", err)
		}
		c.Conn = secure
	}
	c.reader = newReader(awake{c.Conn, b.callTimeout})
	return nil
}

// login is the command by which this node is let in.
func (b *Bus) login() []byte {
	if b.servers.User == "" {
		return appendCommand(nil, "AUTH", b.servers.Password)
	}
	return appendCommand(nil, "AUTH", b.servers.User, b.servers.Password)
}

// enter makes a connection to a server one that takes commands.
func (b *Bus) enter(c *conn) error {
	var ask []byte
	login := b.servers.Password != "" || b.servers.User != ""
	if login {
		ask = b.login()
	}
	ask = appendCommand(ask, "CLIENT", "SETNAME", "foyer-"+string(b.self))
	if _, err := c.Write(ask); err != nil {
		return err
	}
	if login {
		if err := c.ok(); err != nil {
			return fmt.Errorf("the user and password of the URL are not taken: %w", err)
		}
	}
	err := c.ok() // a name is for people; a user that may not give one does
	if answer, ok := errors.AsType[serverError](err); ok {
		switch answer.word() {
		case "NOAUTH":
			return fmt.Errorf("the URL has no password, and the server wants one: %w", err)
		case "NOPERM", "ERR":
			return nil
		}
	}
	return err
}

// hint says what a server may want that closes a new connection. It may be another reason, which passes.
func (b *Bus) hint(err error) error {
	closed := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	switch {
	case !closed:
		return err
	case !b.servers.TLS:
		return fmt.Errorf("the server closes the connection, as one does that wants TLS (rediss://): %w", err)
	case b.files.Cert == "":
		return fmt.Errorf("the server closes the connection, as one does that wants a certificate of this node: %w", err)
	}
	return fmt.Errorf("the server closes the connection, as one does that does not know this node's certificate: %w", err)
}

// tlsConfig reads the files anew for each connection: they may have changed.
func (b *Bus) tlsConfig(host string) (*tls.Config, error) {
	config, err := b.files.Config()
	if err == nil {
		config.ServerName = host
	}
	return config, err
}

// Files are those of TLS, each of which may be missing: see Config.
type Files struct{ CA, Cert, Key string }

// Config reads the files. An error will not pass by itself.
func (f Files) Config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		text, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, &refusal{err}
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, &refusal{fmt.Errorf("there is no certificate in %s", f.CA)}
		}
	}
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, &refusal{err}
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
