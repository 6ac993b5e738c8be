package pgdial

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Refusal is why a server does not do, and will not by itself.
type Refusal struct{ Err error }

func (r *Refusal) Error() string { return r.Err.Error() }
func (r *Refusal) Unwrap() error { return r.Err }

// Refused says whether an error will not pass by itself.
func Refused(err error) bool {
	_, ok := errors.AsType[*Refusal](err)
	return ok
}

// Classes of SQLSTATE that pass: connections, resources, an operator, the system, the server itself.
var passing = []string{"08", "53", "57", "58", "XX", "40", "25"}

// SQLSTATEs that have words of their own.
const (
	noDatabase = "3D000"
	noRights   = "42501"
	authClass  = "28"
)

// Judge makes one line of an error, and a Refusal of one that will not pass by itself.
func Judge(err error) error {
	if err == nil || Refused(err) {
		return err
	}
	var (
		answer  *pgconn.PgError
		verify  *tls.CertificateVerificationError
		network *net.OpError
		name    *net.DNSError
		strange *pgproto3.ExceededMaxBodyLenErr
	)
	line := plain(err)
	switch {
	case errors.As(err, &answer):
		for _, class := range passing {
			if strings.HasPrefix(answer.Code, class) {
				return line
			}
		}
		switch {
		case answer.Code == noDatabase:
			return &Refusal{fmt.Errorf("the database of the URL is not there: %w", answer)}
		case strings.HasPrefix(answer.Code, authClass):
			return &Refusal{fmt.Errorf("the user and password of the URL are not taken: %w", answer)}
		case answer.Code == noRights:
			return &Refusal{fmt.Errorf("this user may not do what Foyer needs: %w", answer)}
		}
		return &Refusal{answer}
	case errors.Is(err, pgconn.ErrReadOnlyConnection):
		return fmt.Errorf("the server takes no writes, as a standby does: %w", line)
	case errors.As(err, &strange):
	case errors.As(err, &verify), errors.As(err, &network) && network.Op == "remote error": // one of both ends says by TLS why not
		return &Refusal{line}
	case strings.Contains(err.Error(), "server refused TLS"):
		return &Refusal{errors.New("the server does not speak TLS there; sslmode=disable is without")}
	case errors.As(err, &network), errors.As(err, &name), pgconn.Timeout(err), errors.Is(err, context.Canceled), errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET), errors.Is(err, pgconn.ErrConnClosed):
		return line
	}
	return &Refusal{fmt.Errorf("what answers there does not speak as PostgreSQL does: %w", line)}
}

// oneLine is an error in one line.
type oneLine struct{ error }

func (o oneLine) Error() string { return flat(o.error.Error()) }
func (o oneLine) Unwrap() error { return o.error }

// plain leaves out who this node is at the server, which the library begins with.
func plain(err error) error {
	if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		err = connect.Unwrap()
	}
	return oneLine{err}
}
