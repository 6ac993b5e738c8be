// Package dial makes the connections of the libraries by which media reach their servers. A library reads the files of
// TLS once, and some of them wait for a silent server until their own timeouts end; here each connection has files as
// they are now, and all of them end at once.
package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

// Dialer makes connections by TCP. Safe for concurrent use.
type Dialer struct {
	timeout time.Duration
	config  func() (*tls.Config, error)
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc

	mu   sync.Mutex
	open map[*conn]struct{} // guarded by mu; nil: closed
}

// New makes a dialer. timeout is for a connection with its TLS. config is asked for each connection; nil: there is no
// TLS.
func New(timeout time.Duration, config func() (*tls.Config, error)) *Dialer {
	d := &Dialer{timeout: timeout, config: config, open: map[*conn]struct{}{}}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// conn is a connection that its dialer knows. It has what TCP has, since libraries look whether a connection that they
// have kept is still good.
type conn struct {
	*net.TCPConn
	of *Dialer
}

// Close ends the connection. That its dialer has ended it before is no error, since a library closes all that it has
// kept.
func (c *conn) Close() error {
	c.of.mu.Lock()
	over := c.of.open == nil
	delete(c.of.open, c)
	c.of.mu.Unlock()
	err := c.TCPConn.Close()
	if over && errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Dial makes a connection, secured where there is TLS.
func (d *Dialer) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, stop := context.WithTimeout(ctx, d.timeout)
	defer stop()
	defer context.AfterFunc(d.ctx, stop)()
	nc, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	plain, ok := nc.(*net.TCPConn)
	if !ok {
		_ = nc.Close()
		return nil, net.UnknownNetworkError(network)
	}
	c := &conn{plain, d}
	d.mu.Lock()
	over := d.open == nil
	if !over {
		d.open[c] = struct{}{}
	}
	d.mu.Unlock()
	if over {
		_ = plain.Close()
		return nil, net.ErrClosed
	}
	if d.config == nil {
		return c, nil
	}
	secured, err := d.secure(ctx, c, address)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return secured, nil
}

func (d *Dialer) secure(ctx context.Context, c *conn, address string) (net.Conn, error) {
	config, err := d.config()
	if err != nil {
		return nil, err
	}
	config = config.Clone()
	if config.ServerName, _, err = net.SplitHostPort(address); err != nil {
		return nil, err
	}
	secured := tls.Client(c, config)
	return secured, secured.HandshakeContext(ctx)
}

// Close ends all connections, and those that are being made.
func (d *Dialer) Close() {
	d.cancel()
	d.mu.Lock()
	open := d.open
	d.open = nil
	d.mu.Unlock()
	for c := range open {
		_ = c.TCPConn.Close()
	}
}
