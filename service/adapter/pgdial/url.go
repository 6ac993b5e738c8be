package pgdial

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Server is what a URL says of PostgreSQL.
type Server struct {
	Hosts []string // names, addresses, or the folder of a socket on this machine
	url   string
}

var errForm = errors.New("it is not of the form postgres://USER:PASSWORD@HOST:PORT/DATABASE")

// ParseURL reads a URL as libpq knows them, with files of certificates and other options behind a question mark.
// Several addresses have commas between them; the one that takes writes is used. An error has no password in it.
func ParseURL(text string) (*Server, error) {
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		return nil, errors.New("it does not begin with postgres://")
	}
	c, err := parse(text)
	if err != nil {
		return nil, err
	}
	if c.Database == "" {
		return nil, errors.New("it names no database, such as /foyer behind the host")
	}
	s := &Server{url: text, Hosts: []string{c.Host}}
	for _, f := range c.Fallbacks {
		if f.Host != s.Hosts[len(s.Hosts)-1] { // the same one without TLS
			s.Hosts = append(s.Hosts, f.Host)
		}
	}
	return s, nil
}

// parse reads the URL and the files that it names.
func parse(text string) (*pgconn.Config, error) {
	c, err := pgconn.ParseConfig(text)
	if err == nil {
		return c, nil
	}
	// The library quotes the URL, as far as it finds no password there.
	said := err.Error()
	if i := strings.LastIndex(said, "`: "); i >= 0 {
		said = said[i+len("`: "):]
	}
	for _, part := range []string{"failed to parse as URL", "invalid port", "could not match", secretOf(text)} {
		if strings.Contains(said, part) {
			return nil, errForm
		}
	}
	if of, ok := strings.CutPrefix(said, "failed to configure TLS"); ok {
		return nil, errors.New("its options of TLS are not taken:" + flat(of))
	}
	return nil, errors.New("its options are not taken: " + flat(said))
}

// secretOf is the part of a URL that may be a password.
func secretOf(text string) string {
	_, rest, _ := strings.Cut(text, "://")
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if _, password, _ := strings.Cut(rest[:at], ":"); password != "" {
			return password
		}
	}
	return "\x00" // nothing has that in it
}

// flat makes one line of several.
func flat(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r < ' ' }), " ")
}
