package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// client is one Socket.IO client, connected to "/" (Socket.IO protocol v5).
type client struct {
	n        int // its place in the crowd
	link     link
	engineID string // the Engine.IO sid
	id       string // the socket's id

	// Owned by who reads.
	last             int64 // the newest number heard
	lost, duplicated int64
}

const (
	transportWebSocket = "websocket"
	transportPolling   = "polling"
)

// connect opens a session and connects it to "/".
func connect(ctx context.Context, n int, u *url.URL, transport string) (*client, error) {
	c := &client{n: n}
	var err error
	if transport == transportPolling {
		c.link, err = dialPolling(ctx, u)
	} else {
		c.link, err = dialWebSocket(ctx, u, "EIO=4&transport=websocket")
	}
	if err != nil {
		return nil, err
	}
	// Whoever is not connected in time never will be: closing is what ends a read that waits.
	late := time.AfterFunc(patience, c.link.close)
	stop := context.AfterFunc(ctx, c.link.close)
	defer late.Stop()
	defer stop()
	if err := c.greet(); err != nil {
		c.link.close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c, nil
}

func (c *client) greet() error {
	open, _, err := c.link.next()
	if err != nil {
		return err
	}
	var session struct {
		SID string `json:"sid"`
	}
	if len(open) == 0 || open[0] != '0' || json.Unmarshal(open[1:], &session) != nil {
		return fmt.Errorf("%.40q is no open packet", open)
	}
	c.engineID = session.SID
	if l, ok := c.link.(*pollingLink); ok {
		l.sid = session.SID
	}
	if err := c.link.send("40"); err != nil {
		return err
	}
	for {
		answer, _, err := c.link.next()
		switch {
		case err != nil:
			return err
		case len(answer) == 1 && answer[0] == '2':
			if err := c.link.send("3"); err != nil {
				return err
			}
		case bytes.HasPrefix(answer, []byte("40")):
			if json.Unmarshal(answer[2:], &session) != nil || session.SID == "" {
				return fmt.Errorf("%.40q tells no id", answer)
			}
			c.id = session.SID
			return nil
		default:
			return fmt.Errorf("CONNECT is answered %.80q", answer)
		}
	}
}

// read hands every Socket.IO packet that comes to handle, from its type digit on, and answers heartbeats. It returns why the
// connection ended.
func (c *client) read(handle func(packet []byte, at time.Time)) error {
	for {
		p, at, err := c.link.next()
		switch {
		case err != nil:
			return err
		case len(p) == 0:
		case p[0] == '4':
			handle(p[1:], at)
		case p[0] == '2':
			if err := c.link.send("3"); err != nil {
				return err
			}
		case p[0] == '1':
			return errClosed
		}
	}
}

// upgrade moves a polling session to a WebSocket (Engine.IO v4, "Upgrade").
func (c *client) upgrade(ctx context.Context, u *url.URL) error {
	ws, err := dialWebSocket(ctx, u, "EIO=4&transport=websocket&sid="+url.QueryEscape(c.engineID))
	if err != nil {
		return err
	}
	late := time.AfterFunc(patience, ws.close)
	defer late.Stop()
	defer context.AfterFunc(ctx, ws.close)()
	fail := func(err error) error {
		ws.close()
		return fmt.Errorf("upgrade: %w", err)
	}
	if err := ws.send("2probe"); err != nil {
		return fail(err)
	}
	if p, _, err := ws.next(); err != nil || string(p) != "3probe" {
		return fail(errors.Join(err, fmt.Errorf("the probe is answered %.40q", p)))
	}
	if err := ws.send("5"); err != nil {
		return fail(err)
	}
	c.link.close()
	c.link = ws
	return nil
}

// heard notes the number of a delivery.
func (c *client) heard(seq int64) {
	switch {
	case seq <= c.last:
		c.duplicated++
		return
	case seq > c.last+1:
		c.lost += seq - c.last - 1
	}
	c.last = seq
}

// Events begin like this, with the number next.
var (
	eventPrefix = []byte(`2["bench",`)
	echoPrefix  = `["bench:echo",`
)

// number reads the digits that text begins with; -1 without any.
func number(text []byte) int64 {
	n := int64(-1)
	for _, c := range text {
		if c-'0' > 9 {
			break
		}
		n = max(n, 0)*10 + int64(c-'0')
	}
	return n
}

// pad is the text that makes an event a message of the wanted size: Engine.IO's and Socket.IO's digits, name and number too.
func pad(bytes int) string {
	const around = len(`42["bench",1000000,""]`)
	return strings.Repeat("x", max(bytes-around, 0))
}
