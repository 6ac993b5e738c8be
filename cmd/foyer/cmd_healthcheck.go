package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// healthcheckCommand asks a node at its admin address how it is: for containers and service managers that have no curl.
type healthcheckCommand struct {
	Admin    string        `default:"127.0.0.1:9090" placeholder:"ADDR" help:"The node's --admin address; one without a host, such as :9090, is asked at this machine. Default ${default}."`
	Ready    bool          `env:"-" help:"Ask whether the node may have traffic (/readyz), and not only whether it answers (/healthz)."`
	Patience time.Duration `default:"3s" placeholder:"TIME" help:"How long the node is asked again and again until it says yes. Default ${default}."`
}

// Validate is called by kong.
func (c *healthcheckCommand) Validate() error {
	if _, _, err := net.SplitHostPort(c.Admin); err != nil {
		return fmt.Errorf("--admin: %q is no address of the form HOST:PORT", c.Admin)
	}
	if c.Patience <= 0 {
		return fmt.Errorf("--patience: %v is too short", c.Patience)
	}
	return nil
}

// betweenChecks is how long a node that has not said yes is left in peace.
const betweenChecks = 200 * time.Millisecond

// Run says nothing when all is well.
func (c *healthcheckCommand) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Patience)
	defer cancel()
	// The node is beside this process: no proxy is between them, and nothing is kept for a next time.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	again := time.NewTicker(betweenChecks)
	defer again.Stop()
	var last error
	for {
		err := c.ask(ctx, client)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil { // an answer that time has cut off says less than the one before it
			last = err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("--admin: %w", last)
		}
	}
}

// ask asks once.
func (c *healthcheckCommand) ask(ctx context.Context, client *http.Client) error {
	host, port, err := net.SplitHostPort(c.Admin)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	address, path := net.JoinHostPort(host, port), "/healthz"
	if c.Ready {
		path = "/readyz"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, http.NoBody)
	if err != nil {
		return errors.Unwrap(err)
	}
	resp, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("nobody answers at %s", address)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // what came of it is told
	return fmt.Errorf("the node at %s says: %s", address, strings.TrimSpace(string(text)))
}
