package natsbus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Why nodes do not connect to each other. A node at its start that nobody takes, and one of these was the reason, gets
// it from Receive.
var (
	ErrKey         = errors.New("they have different keys")
	ErrName        = errors.New("they are of clusters with different names")
	ErrCertificate = errors.New("they do not take each other's certificates")
)

const (
	// settleTimeout is how long a node at its start waits for others to take or refuse it. Where nobody answers, that is
	// known after a second.
	settleTimeout = 2 * time.Second
	// mute is how often a node closes connections without a word before that counts as a refusal. One that ends does so
	// once.
	mute = 2
	// closeTimeout is the time for a second try, which comes after a second and some, when a connection was made.
	closeTimeout = 4 * time.Second
	settleStep   = 5 * time.Millisecond
	// askTimeout is how long somebody may wait for a certificate until that is believed.
	askTimeout = time.Second
)

// tries are what has become of the server's tries to connect to the addresses that it was given at its start. The
// server tells nobody but its log. Safe for concurrent use.
type tries struct {
	mu sync.Mutex
	of map[string]*try // guarded by mu; nil: nobody wants to know any more
}

type try struct {
	over   bool  // somebody is there and known by another connection, or nobody is
	there  bool  // a connection was made
	fault  error // the last one
	closed int   // how often the other end has closed a connection without a word
	asked  bool  // whether there is anybody behind it
}

func newTries(addresses []string) *tries {
	t := &tries{of: map[string]*try{}}
	for _, address := range addresses {
		t.of[address] = &try{}
	}
	return t
}

// Lines of the server's log about connections to others. The tests of refusals hold these.
var (
	ofRoute   = regexp.MustCompile(`^(\S+) - rid:\d+ - (.*)$`)
	notDialed = regexp.MustCompile(`^Error trying to connect to route \(attempt \d+\): dial tcp (\S+): `)
)

// faultIn is what a line of the server's log says about who is not taken, and why; nil: nothing.
func faultIn(line string) error {
	switch {
	case strings.HasPrefix(line, "TLS route handshake error: "):
		return fmt.Errorf("%w: %s", ErrCertificate, strings.TrimPrefix(line, "TLS route handshake error: "))
	case strings.Contains(line, "Rejecting connection, cluster name"), strings.HasSuffix(line, ": Cluster Name Conflict"),
		strings.HasPrefix(line, "cluster name from remote"):
		return ErrName
	case strings.Contains(line, "Authorization Violation"), strings.HasPrefix(line, "authentication error"):
		return ErrKey
	}
	return nil
}

// note takes a line of the server's log. It returns the address of another node that the line says is not taken, and
// why.
func (t *tries) note(line string) (address string, fault error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := notDialed.FindStringSubmatch(line); m != nil {
		if one := t.of[m[1]]; one != nil {
			one.over = true
		}
		return "", nil
	}
	m := ofRoute.FindStringSubmatch(line)
	if m == nil {
		return "", nil
	}
	address, line = m[1], m[2]
	fault = faultIn(line)
	one := t.of[address]
	switch {
	case one == nil:
	case fault != nil:
		one.fault = fault
	case line == "Route connection created":
		one.there = true
	case line == "Router connection closed: Duplicate Route": // it is this node, or has called first
		one.over = true
	case one.fault == nil && strings.HasPrefix(line, "Router connection closed: "):
		one.closed++
	}
	return address, fault
}

// ask looks at the addresses that have closed connections without a word. A node that wants a certificate waits for
// one. One that wants none speaks first, so it is about to end; what closes at once is a proxy, and nobody is behind
// it.
func (t *tries) ask() {
	var asking sync.WaitGroup
	for _, address := range t.mutes() {
		asking.Go(func() {
			if !silent(address) {
				t.mu.Lock()
				t.of[address].over = true
				t.mu.Unlock()
			}
		})
	}
	asking.Wait()
}

// silent says whether somebody at an address takes a connection and waits for this node to speak first.
func silent(address string) bool {
	conn, err := (&net.Dialer{Timeout: askTimeout}).DialContext(context.Background(), "tcp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(askTimeout))
	_, err = conn.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// mutes are the addresses that are to be asked, each once.
func (t *tries) mutes() (list []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for address, one := range t.of {
		if one.closed >= mute && one.fault == nil && !one.over && !one.asked {
			one.asked = true
			list = append(list, address)
		}
	}
	return list
}

// end says whether nobody is left of whom it is not known whether it takes this node, but for those in taken; whether
// there was a connection to one of those that are left; and who has refused it.
func (t *tries) end(taken map[string]bool) (all, there bool, refused error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all = true
	for address, one := range t.of {
		fault := one.fault
		if fault == nil && one.closed >= mute {
			fault = fmt.Errorf("%w: it closes the connection without a word", ErrCertificate)
		}
		switch {
		case one.over || taken[address]:
		case fault != nil:
			refused = fmt.Errorf("the node at %s and this one refuse each other: %w", address, fault)
		default:
			all, there = false, there || one.there
		}
	}
	return all, there, refused
}

// forget ends the interest in what becomes of tries.
func (t *tries) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of = nil
}

// settle waits until all others that this node was told of have taken it, or have not, for settleTimeout as a rule:
// then those that have hear what it says from now on. It is an error when some have refused it and nobody has taken it.
func (e *embedded) settle(subject string) error {
	defer e.log.tries.forget()
	tick := time.NewTicker(settleStep)
	defer tick.Stop()
	for began := time.Now(); ; {
		taken, waits := e.taken(subject)
		e.log.tries.ask()
		all, there, refused := e.log.tries.end(taken)
		if len(taken) > 0 {
			refused, there = nil, false
		}
		most := settleTimeout
		if there {
			most = closeTimeout
		}
		if all && !waits || time.Since(began) >= max(most, e.settles) {
			return refused
		}
		select {
		case <-e.done:
			return nil
		case <-tick.C:
		}
	}
}

// taken are the addresses of those that have taken this node, of those that it has called. waits: one of them has not
// said yet that it wants to hear what is for all.
func (e *embedded) taken(subject string) (taken map[string]bool, waits bool) {
	routes, err := e.server.Routez(&server.RoutezOptions{Subscriptions: true})
	if err != nil {
		return nil, false
	}
	taken = map[string]bool{}
	for _, r := range routes.Routes {
		taken[net.JoinHostPort(r.IP, strconv.Itoa(r.Port))] = true
		waits = waits || !slices.Contains(r.Subs, subject)
	}
	return taken, waits
}
