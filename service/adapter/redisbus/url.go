package redisbus

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Servers are what a URL says of Redis.
type Servers struct {
	Addresses []string // host:port, one or more
	TLS       bool

	// Master is what sentinels, whose Addresses are, call the server, which may be anywhere. "": Addresses are of servers.
	Master string

	User, Password string // "": none
}

const (
	plainScheme = "redis"
	tlsScheme   = "rediss"
	defaultPort = "6379"

	sentinelSuffix = "+sentinel"
	sentinelPort   = "26379"
)

// ParseURL reads redis://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]...][/DB]; rediss is the same over TLS. Several
// addresses are of one Redis Cluster. Pub/Sub knows no databases, so the number of one has no effect. With
// redis+sentinel and rediss+sentinel the addresses are of sentinels, and their name for the master stands before the
// database. The user and password are the server's, and those of sentinels that want one. An error has nothing of the
// URL in it that can be a password.
func ParseURL(text string) (*Servers, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	scheme, sentinels := strings.CutSuffix(scheme, sentinelSuffix)
	s := &Servers{TLS: scheme == tlsScheme}
	if !ok || scheme != plainScheme && scheme != tlsScheme {
		return nil, errors.New("it does not begin with redis:// or rediss://")
	}
	// A password may have a slash or a question mark in it that is not escaped, and hosts and databases have no @.
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, password, _ := strings.Cut(rest[:at], ":")
		var faults [2]error
		s.User, faults[0] = url.PathUnescape(user)
		s.Password, faults[1] = url.PathUnescape(password)
		if errors.Join(faults[:]...) != nil {
			return nil, errors.New("in its user and password, a % begins an escaped byte such as %25")
		}
		rest = rest[at+1:]
	}
	hosts, db, _ := strings.Cut(rest, "/")
	port := defaultPort
	if sentinels {
		port = sentinelPort
		if s.Master, db, _ = strings.Cut(db, "/"); s.Master == "" || strings.ContainsAny(s.Master, "?#") {
			return nil, errors.New("behind its sentinels there has to be their name for the master, such as /mymaster")
		}
	}
	if _, err := strconv.ParseUint(db, 10, 16); db != "" && err != nil || strings.ContainsAny(hosts, "?#") {
		return nil, errors.New("behind its servers there may be the number of a database and nothing else")
	}
	for i, host := range strings.Split(hosts, ",") {
		address, err := withPort(host, port)
		if err != nil {
			return nil, fmt.Errorf("server %d of the list %w", i+1, err)
		}
		s.Addresses = append(s.Addresses, address)
	}
	return s, nil
}

func withPort(host, usual string) (string, error) {
	address := host
	if !strings.Contains(host, ":") || strings.HasSuffix(host, "]") {
		address += ":" + usual
	}
	name, port, err := net.SplitHostPort(address)
	if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 || name == "" {
		return "", errors.New("is not of the form HOST or HOST:PORT")
	}
	return net.JoinHostPort(name, port), nil
}
