package mongodb

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"
)

// AnswerTimeout is how long an answer is waited for.
const AnswerTimeout = 5 * time.Second

const (
	dialTimeout  = 2 * time.Second
	closeTimeout = 200 * time.Millisecond
)

// Config is how a server is reached.
type Config struct {
	URL  *URL
	Name string // what the server is told of this client, for people
	// TLS makes the settings of each new client, where the URL wants TLS. nil: what the URL says.
	TLS func() (*tls.Config, error)
	// Timeout is how long the server may take to be reached, and as long again to answer. Default: dialTimeout and
	// AnswerTimeout. It is for tests.
	Timeout time.Duration
}

// Refusal is why a server does not do, and will not by itself.
type Refusal struct{ Err error }

func (r *Refusal) Error() string { return r.Err.Error() }
func (r *Refusal) Unwrap() error { return r.Err }

// Server is a client of one database.
type Server struct {
	*mongo.Database
	Replicas bool // it has change streams: it is one of a replica set, or stands before some
}

// Open reaches a server. It waits for dialTimeout and AnswerTimeout at most. Errors: a Refusal, or why not now.
func Open(ctx context.Context, c Config) (*Server, error) {
	o := options.Client().ApplyURI(c.URL.text)
	if err := o.Validate(); err != nil {
		if _, away := errors.AsType[*net.DNSError](err); away {
			return nil, err
		}
		return nil, &Refusal{c.URL.safe(err)}
	}
	if c.TLS != nil && c.URL.TLS {
		config, err := c.TLS()
		if err != nil {
			return nil, &Refusal{err}
		}
		o.SetTLSConfig(config)
	}
	dial := cmp.Or(c.Timeout, dialTimeout) // the driver gives a server up that answers none of its questions for twice that
	o.SetAppName(c.Name).SetServerSelectionTimeout(dial).SetConnectTimeout(dial)
	o.SetRetryWrites(false).SetRetryReads(false) // the code that writes knows better what may be written again
	o.SetReadPreference(readpref.Primary()).SetReadConcern(readconcern.Local())
	o.SetWriteConcern(&writeconcern.WriteConcern{W: 1})
	client, err := mongo.Connect(o)
	if err != nil {
		return nil, &Refusal{c.URL.safe(err)}
	}
	s := &Server{Database: client.Database(c.URL.Database)}
	ctx, stop := context.WithTimeout(ctx, dial+cmp.Or(c.Timeout, AnswerTimeout))
	defer stop()
	var is struct {
		SetName string `bson:"setName"`
		Msg     string `bson:"msg"`
	}
	if err := s.RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&is); err != nil {
		s.Close()
		return nil, Judge(err)
	}
	s.Replicas = is.SetName != "" || is.Msg == "isdbgrid"
	return s, nil
}

// Close ends what the client has begun.
func (s *Server) Close() {
	ctx, stop := context.WithTimeout(context.Background(), closeTimeout)
	defer stop()
	_ = s.Client().Disconnect(ctx) // it is over in any case
}

// Codes of errors that a server answers (mongo, src/mongo/base/error_codes.yml).
const (
	codeUnauthorized = 13
	codeWrongUser    = 18
	codeExists       = 48
	codePositionLost = 136
	codeDuplicate    = 11000
	codeAtlas        = 8000 // AtlasError, also for a wrong password
)

// Judge makes a Refusal of what will not pass by itself.
func Judge(err error) error {
	if _, judged := errors.AsType[*Refusal](err); judged || err == nil {
		return err
	}
	if away, ok := errors.AsType[topology.ServerSelectionError](err); ok { // why is said of each server
		for i := range away.Desc.Servers {
			if last := away.Desc.Servers[i].LastError; last != nil {
				err = last
			}
		}
	}
	var answer mongo.ServerError
	var record tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	var network *net.OpError
	var host x509.HostnameError
	switch {
	case errors.As(err, &answer) && (answer.HasErrorCode(codeWrongUser) || answer.HasErrorCode(codeAtlas)),
		strings.Contains(err.Error(), "auth error") && !passing(err):
		return &Refusal{fmt.Errorf("the user and password of the URL are not taken: %w", short(err))}
	case errors.As(err, &answer) && answer.HasErrorCode(codeUnauthorized):
		return &Refusal{fmt.Errorf("the server does not let this user do what Foyer needs, which is the role readWrite on the database: %w", short(err))}
	case errors.As(err, &record):
		return &Refusal{errors.New("the server does not speak TLS there; without tls=true it is not asked to")}
	case errors.As(err, &verify), errors.As(err, &host), errors.As(err, &network) && network.Op == "remote error":
		return &Refusal{fmt.Errorf("TLS: %w", short(err))}
	}
	return short(err)
}

// passing says whether a server could not answer. The driver calls that an "auth error", too.
func passing(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF)
}

// short is what a server has said, without all that the driver says around it, in one line.
func short(err error) error {
	if answer, ok := errors.AsType[mongo.CommandError](err); ok {
		return &said{answer, fmt.Sprintf("(%s) %s", answer.Name, answer.Message)}
	}
	return err
}

type said struct {
	error
	text string
}

func (s *said) Error() string { return s.text }
func (s *said) Unwrap() error { return s.error }
