package redisbus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"
)

// errMoved ends a life whose server is the master no more, in case the server has not closed its connections itself.
var errMoved = errors.New("sentinels name another master")

// find returns the addresses at which the server may be, or that of the master that most sentinels name.
func (b *Bus) find(ctx context.Context) ([]string, error) {
	if b.servers.Master == "" {
		return b.servers.Addresses, nil
	}
	var named []string
	var fault error
	for _, sentinel := range b.servers.Addresses {
		address, err := b.ask(ctx, sentinel)
		switch {
		case err == nil:
			named = append(named, address)
		case fault == nil:
			fault = fmt.Errorf("sentinel %s: %w", sentinel, err)
		}
	}
	if len(named) == 0 {
		return nil, fault
	}
	votes := func(address string) (n int) {
		for _, other := range named {
			if other == address {
				n++
			}
		}
		return n
	}
	return []string{slices.MaxFunc(named, func(x, y string) int { return votes(x) - votes(y) })}, nil
}

// ask asks one sentinel for the address of the master.
func (b *Bus) ask(ctx context.Context, sentinel string) (address string, err error) {
	host, _, err := net.SplitHostPort(sentinel)
	if err != nil {
		return "", err
	}
	c, err := b.dial(ctx, sentinel, host, func(c *conn) error {
		address, err = b.named(c)
		if answer, ok := errors.AsType[serverError](err); ok && answer.word() == "NOAUTH" {
			if _, err := c.Write(b.login()); err != nil {
				return err
			}
			if err := c.ok(); err != nil {
				return fmt.Errorf("the user and password of the URL are not taken: %w", err)
			}
			address, err = b.named(c)
		}
		return err
	})
	if err == nil {
		c.Close()
	}
	return address, err
}

func (b *Bus) named(c *conn) (string, error) {
	if _, err := c.Write(appendCommand(nil, "SENTINEL", "get-master-addr-by-name", b.servers.Master)); err != nil {
		return "", err
	}
	parts, err := c.header('*')
	switch {
	case err != nil:
		return "", err
	case parts == -1:
		return "", &refusal{fmt.Errorf("it knows no master of the name %q", b.servers.Master)}
	case parts != 2:
		return "", errProtocol
	}
	var words [2]string
	for i := range words {
		word, err := c.word()
		if err != nil {
			return "", err
		}
		words[i] = string(word)
	}
	if _, err := strconv.ParseUint(words[1], 10, 16); err != nil || words[0] == "" {
		return "", errProtocol
	}
	return net.JoinHostPort(words[0], words[1]), nil
}

// follow asks sentinels again and again where the master is. A server that is cut off from the others goes on as if it
// were still.
func (l *life) follow() error {
	b := l.bus
	if b.servers.Master == "" {
		<-l.Over()
		return nil
	}
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.Over():
			return nil
		case <-tick.C:
		}
		if now, err := b.find(l.Context); err == nil && !slices.Contains(now, l.address) {
			return fmt.Errorf("%w, %s", errMoved, now[0])
		}
	}
}

// clustered says whether the server is of a Redis Cluster: nodes at servers that know nothing of each other would be
// apart, and each would take itself for alone.
func (l *life) clustered() error {
	if _, err := l.pub.Write(appendCommand(nil, "CLUSTER", "MYID")); err != nil {
		return err
	}
	err := l.pub.ok()
	answer, ok := errors.AsType[serverError](err)
	switch {
	case ok && answer.word() == "NOPERM":
		return nil // the operator has to know
	case ok:
		return &refusal{fmt.Errorf("the URL has several servers, and this one is of no Redis Cluster: %w", err)}
	}
	return err
}
