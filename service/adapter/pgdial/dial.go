// Package pgdial makes connections to PostgreSQL for the bus and for the way to servers on Node, and says what is wrong
// with one in words for people. It uses jackc/pgx, of which only the connection (pgconn) is needed.
package pgdial

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	dialTimeout    = 2 * time.Second
	connectTimeout = 5 * time.Second
	closeTimeout   = 100 * time.Millisecond
	maxMessage     = 1 << 20 // of the server, where nothing else is said
)

// settings are what every session has: one that only listens, or waits for work, is not ended for that, and a
// notification does not wait for a disk.
const settings = `SELECT set_config(name, CASE name WHEN 'synchronous_commit' THEN 'off' ELSE '0' END, false) FROM pg_settings
WHERE name IN ('synchronous_commit', 'idle_session_timeout', 'idle_in_transaction_session_timeout', 'statement_timeout', 'transaction_timeout')`

// Options of one connection.
type Options struct {
	Name       string // for people, as the server lists its sessions
	MaxMessage int    // largest message of the server; default 1 MiB
	// Notified is called for each notification, while the connection waits for one or executes something.
	Notified func(n *pgconn.Notification)
}

// Conn is a connection. It is used by one goroutine at a time; Wake and Break are safe for any.
type Conn struct {
	*pgconn.PgConn
	raw  net.Conn
	made atomic.Bool
}

// Dial makes a connection to the server that takes writes. It waits for some seconds at most. An error that will not
// pass by itself is a Refusal.
func (s *Server) Dial(ctx context.Context, o Options) (*Conn, error) {
	config, err := parse(s.url) // its files may have changed
	if err != nil {
		return nil, &Refusal{err}
	}
	c := &Conn{}
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if c.made.Load() { // the library would ask the server, by another connection, to end what it does
			return nil, net.ErrClosed
		}
		raw, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
		c.raw = raw
		return raw, err
	}
	if config.ConnectTimeout <= 0 || config.ConnectTimeout > connectTimeout {
		config.ConnectTimeout = connectTimeout
	}
	if config.ValidateConnect == nil {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = o.Name
	}
	if config.MaxProtocolMessageBodyLen = maxMessage; o.MaxMessage > 0 {
		config.MaxProtocolMessageBodyLen = o.MaxMessage
	}
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) {
		if o.Notified != nil {
			o.Notified(n)
		}
	}
	if c.PgConn, err = pgconn.ConnectConfig(ctx, config); err != nil {
		return nil, Judge(err)
	}
	c.made.Store(true)
	if err := c.Do(ctx, settings); err != nil {
		c.Break()
		return nil, Judge(err)
	}
	return c, nil
}

// Do executes statements, whose rows are passed over.
func (c *Conn) Do(ctx context.Context, sql string) error {
	return c.Exec(ctx, sql).Close()
}

// Wake has a wait for notifications, or the next one, end with a timeout.
func (c *Conn) Wake() { _ = c.raw.SetReadDeadline(time.Unix(1, 0)) }

// Sleep takes a Wake back.
func (c *Conn) Sleep() { _ = c.raw.SetReadDeadline(time.Time{}) }

// Break ends a connection at once, also while it is used.
func (c *Conn) Break() {
	_ = c.raw.Close()
}

// End ends a connection that nobody uses, and tells the server.
func (c *Conn) End() {
	c.Sleep()
	ctx, stop := context.WithTimeout(context.Background(), closeTimeout)
	defer stop()
	_ = c.Close(ctx)
}

// Quote makes an identifier of any name.
func Quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
