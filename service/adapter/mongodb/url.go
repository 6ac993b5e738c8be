package mongodb

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// URL is what a URL says of a MongoDB server.
type URL struct {
	Addresses []string // host:port of one server, or of several that are one replica set; none: DNS says where they are
	Database  string
	TLS       bool

	text string
}

const (
	plainScheme = "mongodb"
	dnsScheme   = "mongodb+srv"
	defaultPort = "27017"
)

// ParseURL reads mongodb://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/DATABASE[?OPTIONS], or
// mongodb+srv://HOST/DATABASE, with the options that all drivers of MongoDB know. An error has nothing of the URL in it
// that can be a password.
func ParseURL(text string) (*URL, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || scheme != plainScheme && scheme != dnsScheme {
		return nil, errors.New("it does not begin with mongodb:// or mongodb+srv://")
	}
	u := &URL{text: text, TLS: scheme == dnsScheme}
	hosts, rest, _ := strings.Cut(rest, "/")
	name, query, _ := strings.Cut(rest, "?")
	if strings.Contains(name, "@") || strings.Contains(hosts, "?") {
		return nil, errors.New("in its user and password, what means something in a URL has to be escaped, such as %2F for a slash")
	}
	if at := strings.LastIndexByte(hosts, '@'); at >= 0 {
		if _, err := url.PathUnescape(hosts[:at]); err != nil {
			return nil, errors.New("in its user and password, a % begins an escaped byte such as %25")
		}
		hosts = hosts[at+1:]
	}
	for i, host := range strings.Split(hosts, ",") {
		address, err := withPort(host)
		if err != nil {
			return nil, fmt.Errorf("server %d of the list %w", i+1, err)
		}
		if scheme == plainScheme {
			u.Addresses = append(u.Addresses, address)
		}
	}
	var err error
	if u.Database, err = url.PathUnescape(name); err != nil || strings.ContainsAny(u.Database, `/\. "$`) {
		return nil, errors.New("behind its servers there has to be the name of a database")
	}
	if u.Database == "" {
		return nil, errors.New("the database is missing, such as /foyer behind its servers")
	}
	given, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("its options are not of the form NAME=VALUE&NAME=VALUE")
	}
	for name, values := range given {
		if is := strings.ToLower(name); is == "tls" || is == "ssl" {
			u.TLS = values[0] == "true"
		}
	}
	if scheme == plainScheme { // the other one asks DNS
		if err := options.Client().ApplyURI(text).Validate(); err != nil {
			return nil, u.safe(err)
		}
	}
	return u, nil
}

// safe is an error of the driver about the URL, if nothing of the URL's secret is in it.
func (u *URL) safe(err error) error {
	text := err.Error()
	if parsed, e := url.Parse(u.text); e != nil || parsed.User == nil || !holds(text, parsed.User) {
		return fmt.Errorf("its options: %w", err)
	}
	return errors.New("its options are not those of MongoDB")
}

func holds(text string, user *url.Userinfo) bool {
	password, has := user.Password()
	return has && strings.Contains(text, password)
}

func withPort(host string) (string, error) {
	address := host
	if !strings.Contains(host, ":") || strings.HasSuffix(host, "]") {
		address += ":" + defaultPort
	}
	name, port, err := net.SplitHostPort(address)
	if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 || name == "" {
		return "", errors.New("is not of the form HOST or HOST:PORT")
	}
	return net.JoinHostPort(name, port), nil
}
