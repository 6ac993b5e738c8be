package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"
)

// knockEvery is the time between two tries of an address at which nobody listens yet.
const knockEvery = 100 * time.Millisecond

// door is an address that a run needs, and the flag that names it.
type door struct {
	what, flag, addr string
	tls              *tls.Config // nil: plain
}

func (b *bench) doors() []door {
	list := []door{{"the server", "--url", b.server.addr(), b.server.tls}}
	if b.o.API != "" {
		api := door{"the API", "--api", b.o.API, nil}
		if b.o.APITLS {
			host, _, _ := net.SplitHostPort(b.o.API)
			api.tls = b.o.tls(host)
		}
		list = append(list, api)
	}
	return list
}

// await returns when somebody listens at every address that the run needs: a server that was started along with it
// takes a moment. Together they have the time of one step. What does not pass by waiting is an error at once.
func (b *bench) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.server.patience)
	defer cancel()
	for _, d := range b.doors() {
		for told := false; ; told = true {
			err := b.knock(ctx, d)
			if err == nil {
				break
			}
			if !heals(err) {
				return d.explain(err)
			}
			if !told {
				b.note("waiting up to %v for %s at %s", b.server.patience, d.what, d.addr)
			}
			select {
			case <-time.After(knockEvery):
				continue
			case <-ctx.Done():
			}
			if !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				return context.Cause(ctx)
			}
			return fmt.Errorf("%s: nobody listens at %s within %v: is %s running, and is the address right?", d.flag, d.addr, b.server.patience, d.what)
		}
	}
	return nil
}

// knock connects and closes the connection.
func (b *bench) knock(ctx context.Context, d door) error {
	conn, err := b.server.dialer(ctx, "tcp", d.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if d.tls == nil {
		return nil
	}
	return tls.Client(conn, d.tls).HandshakeContext(ctx)
}

// heals says whether time may help: a name that nobody has, other words than TLS or another's certificate stay.
func heals(err error) bool {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return !dns.IsNotFound
	}
	_, op := errors.AsType[*net.OpError](err)
	return op && !isTLS(err) || errors.Is(err, context.DeadlineExceeded)
}

func isTLS(err error) bool {
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	return record || certificate || alert
}

func (d *door) explain(err error) error {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Errorf("%s: there is no host of the name in %s", d.flag, d.addr)
	}
	if isTLS(err) {
		return fmt.Errorf("%s: %w", d.flag, explainTLS(d.addr, d.flag == "--api", err))
	}
	return fmt.Errorf("%s: %w", d.flag, err)
}

// explainTLS says what to do about a failed greeting.
func explainTLS(addr string, api bool, err error) error {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		if api {
			return fmt.Errorf("%s does not speak TLS: leave --api-tls away", addr)
		}
		return fmt.Errorf("%s does not speak TLS: say http:// in place of https://", addr)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		why := "it is not signed by anybody whom this machine trusts"
		if h, ok := errors.AsType[x509.HostnameError](err); ok {
			why = "it is not for the name " + h.Host
		} else if i, ok := errors.AsType[x509.CertificateInvalidError](err); ok && i.Reason == x509.Expired {
			why = "it has expired, or is not valid yet"
		}
		return fmt.Errorf("the certificate of %s is refused, since %s; --insecure takes any", addr, why)
	}
	return fmt.Errorf("TLS with %s: %w", addr, err)
}

// wantsTLS says whether that is what a server says to a client that should speak TLS: an alert, or a page about HTTPS.
func wantsTLS(answer []byte) bool {
	const alert = 21 // RFC 8446, section 5.1
	return len(answer) > 0 && answer[0] == alert || bytes.Contains(answer, []byte("an HTTPS server")) || bytes.Contains(answer, []byte("HTTPS port"))
}

func (to *server) errSpeaksTLS() error {
	return fmt.Errorf("%s speaks TLS: say https:// in place of http://", to.addr())
}
