package bench

import (
	"bytes"
	"context"
	"encoding/json"
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

// connect opens a session and connects it to "/". ctx is for the time that this takes.
func connect(ctx context.Context, n int, to *server, transport string) (*client, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, to.patience, to.errLate())
	defer cancel()
	c := &client{n: n}
	if transport == transportPolling {
		c.link = newPollingLink(to)
	} else {
		ws, err := dialWebSocket(ctx, to, "EIO=4&transport=websocket")
		if err != nil {
			return nil, because(ctx, err)
		}
		c.link = ws
	}
	stop := context.AfterFunc(ctx, c.link.close) // closing is what ends a read that waits
	err := c.greet()
	if !stop() || err != nil {
		c.link.close()
		return nil, fmt.Errorf("connect: %w", because(ctx, err))
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
			session.SID = ""
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

// read hands every Socket.IO packet that comes to handle and answers heartbeats. It returns why the connection ended.
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
func (c *client) upgrade(ctx context.Context, to *server) error {
	ctx, cancel := context.WithTimeoutCause(ctx, to.patience, to.errLate())
	defer cancel()
	ws, err := dialWebSocket(ctx, to, "EIO=4&transport=websocket&sid="+url.QueryEscape(c.engineID))
	if err != nil {
		return because(ctx, err)
	}
	stop := context.AfterFunc(ctx, ws.close)
	err = probe(ws)
	if !stop() || err != nil {
		ws.close()
		return because(ctx, err)
	}
	c.link.close()
	c.link = ws
	return nil
}

func probe(ws link) error {
	if err := ws.send("2probe"); err != nil {
		return err
	}
	switch p, _, err := ws.next(); {
	case err != nil:
		return err
	case string(p) != "3probe":
		return fmt.Errorf("the probe is answered %.40q", p)
	}
	return ws.send("5")
}

// Events begin like this, with the number next.
var (
	eventPrefix = []byte(`2["bench",`)
	echoPrefix  = `["bench:echo",`
)

// firstNumber makes all numbers of a run equally long, and so its messages.
const firstNumber = 1_000_000

// number reads the digits that text begins with; -1 without any.
func number(text []byte) int64 {
	n := int64(-1)
	for _, c := range text {
		if c-'0' > 9 || n > 1<<53 {
			break
		}
		n = max(n, 0)*10 + int64(c-'0')
	}
	return n
}

// pad is the text that makes an event a message of the wanted size: Engine.IO's and Socket.IO's digits, name and number
// too.
func pad(bytes int) string {
	const around = len(`42["bench",1000000,""]`)
	return strings.Repeat("x", max(bytes-around, 0))
}
