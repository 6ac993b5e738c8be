package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const (
	defaultAPI = "127.0.0.1:50051"

	// A node that is gone without a word is known to be so after two of these, also while nothing comes.
	keepaliveTime = 10 * time.Second
	// Most bytes of one message of the node: an event of a browser may have --max-payload of its node.
	maxMessage = 256 << 20
	maxToken   = 4096
)

// connection says where the node is. Its variables are those of foyer serve, so that a command beside a node asks that
// node.
type connection struct {
	API          string        `name:"api" group:"Where the node is" placeholder:"ADDR" help:"The gRPC API of the node to ask. Default: that of the context, or 127.0.0.1:50051."`
	APITLS       bool          `name:"api-tls" group:"Where the node is" help:"The API is served by TLS."`
	APICA        string        `name:"api-ca" group:"Where the node is" type:"path" placeholder:"FILE" help:"Certificates that the API's has to come from, in place of those that this machine trusts; it means --api-tls."`
	APITokenFile string        `name:"api-token-file" group:"Where the node is" type:"path" placeholder:"FILE" help:"Bearer tokens of the API, of which the first is used."`
	Insecure     bool          `group:"Where the node is" help:"Take any certificate of the API."`
	Context      string        `complete:"context" group:"Where the node is" placeholder:"NAME" help:"Take what these flags do not say from this context (see foyer context). Default: the one in use, unless --api or FOYER_API says where the node is."`
	Patience     time.Duration `group:"Where the node is" default:"5s" placeholder:"TIME" help:"How long the node may take to answer. Default ${default}."`
}

// Help is called by kong, for all commands that ask a node.
func (connection) Help() string { return ExitCodes }

// format is how a command prints what it found.
type format struct {
	Output string `short:"o" default:"table" enum:"table,json" placeholder:"FORMAT" help:"table, for people, or json: one object a line, in protobuf's JSON form. Default ${default}."`
}

func (f format) json() bool { return f.Output == "json" }

// place is where a node is, once flags, variables and a context are put together.
type place struct {
	api, ca, tokenFile string
	tls, insecure      bool
	// Names of the settings in errors: a flag, or the context that has it.
	apiName, caName, tokenName string
}

// place puts together what holds. A flag comes before a context that is named by --context, then variables, then the
// context of FOYER_CONTEXT or the one in use. Those two are left alone where an address is given: a token is sent to no
// address that its context does not have, unless --context is beside it.
func (c *connection) place(k *kong.Context, sys *System) (place, error) {
	flags := map[string]bool{}
	for _, p := range k.Path {
		if p.Flag != nil {
			flags[p.Flag.Name] = true
		}
	}
	p := place{
		api: c.API, ca: c.APICA, tokenFile: c.APITokenFile, tls: c.APITLS || c.APICA != "", insecure: c.Insecure,
		apiName: "--api", caName: "--api-ca", tokenName: "--api-token-file",
	}
	named := flags["context"]
	if !named && c.API != "" {
		return p, p.check()
	}
	one, err := sys.context(c.Context)
	if err != nil {
		return p, err
	}
	if one != nil {
		in := fmt.Sprintf("context %s: ", one.name)
		take := func(flag string, now *string, theirs string) bool {
			taken := theirs != "" && (*now == "" || named && !flags[flag])
			if taken {
				*now = theirs
			}
			return taken
		}
		if take("api", &p.api, one.API) {
			p.apiName = in + "api"
		}
		if take("api-ca", &p.ca, one.CA) {
			p.caName = in + "api-ca"
		}
		if take("api-token-file", &p.tokenFile, one.TokenFile) {
			p.tokenName = in + "api-token-file"
		}
		p.tls = p.tls || one.TLS || one.CA != ""
	}
	if p.api == "" {
		p.api = defaultAPI
	}
	return p, p.check()
}

// check says what is wrong with the address.
func (p *place) check() error {
	if isAddress(p.api) {
		return nil
	}
	return failure(Usage, "%s: %q is no address of the form HOST:PORT", p.apiName, p.api)
}

// isAddress says whether an address has a host, which may be empty for this machine, and a port.
func isAddress(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || strings.ContainsAny(host, "/ ") {
		return false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	return err == nil && number > 0
}

// dial makes a connection, which is not opened before the first call.
func (p *place) dial(sys *System) (*grpc.ClientConn, *greeting, error) {
	seen := &greeting{insecure.NewCredentials(), new(met)}
	if p.tls {
		config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: p.insecure} //nolint:gosec // asked for
		if p.ca != "" {
			pem, err := readFile(p.caName, p.ca)
			if err != nil {
				return nil, nil, err
			}
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return nil, nil, failure(Failed, "%s: %s: there is no certificate in it, in PEM form", p.caName, p.ca)
			}
		}
		seen.TransportCredentials = credentials.NewTLS(config)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(seen),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTime}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithUserAgent("foyer"),
	}
	if p.tokenFile != "" {
		token, err := readToken(p.tokenName, p.tokenFile)
		if err != nil {
			return nil, nil, err
		}
		options = append(options, grpc.WithPerRPCCredentials(bearer(token)))
	}
	if sys.Dial != nil {
		options = append(options, grpc.WithContextDialer(sys.Dial))
	}
	conn, err := grpc.NewClient("passthrough:///"+p.api, options...)
	if err != nil {
		return nil, nil, failure(Usage, "%s: %q is no address of the form HOST:PORT", p.apiName, p.api)
	}
	return conn, seen, nil
}

// greeting remembers whether somebody was there, and why TLS has failed, which gRPC tells in words only.
type greeting struct {
	credentials.TransportCredentials
	met *met
}

type met struct {
	somebody atomic.Bool
	failed   atomic.Pointer[error] // the last one
}

// ClientHandshake is called by gRPC.
func (g *greeting) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	g.met.somebody.Store(true)
	conn, info, err := g.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		g.met.failed.Store(&err)
	}
	return conn, info, err
}

// Clone is called by gRPC; a clone tells the same.
func (g *greeting) Clone() credentials.TransportCredentials {
	return &greeting{g.TransportCredentials.Clone(), g.met}
}

// why says what was wrong with the certificate; "": nothing was.
func (g *greeting) why() string {
	last := g.met.failed.Load()
	if last == nil {
		return ""
	}
	err := *last
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return "its certificate is not for " + e.Host
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		return "its certificate is out of date, or not valid yet"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "its certificate comes from nobody that is trusted here; --api-ca names who is"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "it does not speak TLS"
	}
	return ""
}

// bearer is the token of every call. The person who gives it decides whether it may go without TLS: on this machine it
// may.
type bearer string

// GetRequestMetadata is called by gRPC.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity is called by gRPC.
func (bearer) RequireTransportSecurity() bool { return false }

// readToken is the first token of a file: a line that is neither empty nor begins with #. Errors have nothing of it.
func readToken(name, file string) (string, error) {
	text, err := readFile(name, file)
	if err != nil {
		return "", err
	}
	number := 0
	for l := range bytes.Lines(bytes.TrimPrefix(text, []byte("\ufeff"))) {
		number++
		token := string(bytes.TrimSpace(l))
		switch {
		case token == "" || strings.HasPrefix(token, "#"):
			continue
		case len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
			return "", failure(Failed, "%s: %s: line %d is no token: a token is ASCII without spaces, one a line", name, file, number)
		}
		return token, nil
	}
	return "", failure(Failed, "%s: %s: there is no token in it: write one a line", name, file)
}

// readFile reads a file that a setting names.
func readFile(name, file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	switch {
	case err == nil:
		return text, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, failure(Failed, "%s: there is no file %s", name, file)
	case errors.Is(err, fs.ErrPermission):
		return nil, failure(Failed, "%s: this user has no permission to read %s", name, file)
	case errors.Is(err, syscall.EISDIR):
		return nil, failure(Failed, "%s: %s is a directory and not a file", name, file)
	}
	return nil, failure(Failed, "%s: %v", name, err)
}
