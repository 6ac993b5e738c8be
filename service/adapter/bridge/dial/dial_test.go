package dial_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"foyer/service/adapter/bridge/dial"
)

// silent is a server that takes connections and says nothing, until the test ends.
func silent(t *testing.T) (address string, came <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	conns := make(chan net.Conn, 10)
	go func() { // it ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	return l.Addr().String(), conns
}

// TestCloseEndsConnections: neither a read nor a handshake waits for a silent server once the dialer is closed, and
// nothing is made from then on.
func TestCloseEndsConnections(t *testing.T) {
	address, came := silent(t)
	const long = time.Hour
	d, secure := dial.New(long, nil), dial.New(long, func() (*tls.Config, error) { return &tls.Config{}, nil })
	c, err := d.Dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	<-came
	ends := make(chan error, 2)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ends <- err
	}()
	go func() {
		_, err := secure.Dial(t.Context(), "tcp", address)
		ends <- err
	}()
	if _, err := (<-came).Read(make([]byte, 1)); err != nil { // it shakes hands
		t.Fatal(err)
	}
	d.Close()
	secure.Close()
	for range 2 {
		if err := <-ends; err == nil || errors.Is(err, io.EOF) {
			t.Errorf("it ends with %v", err)
		}
	}
	if err := c.Close(); err != nil { // as a library does with what it has kept
		t.Errorf("to close what the dialer has ended: %v", err)
	}
	if _, err := d.Dial(t.Context(), "tcp", address); err == nil {
		t.Error("a closed dialer dials")
	}
}

// TestFilesAreReadAnew: each connection asks for what it is to be secured by, and goes without when there is none.
func TestFilesAreReadAnew(t *testing.T) {
	address, _ := silent(t)
	none, asked := errors.New("no file"), 0
	d := dial.New(time.Hour, func() (*tls.Config, error) {
		asked++
		return nil, none
	})
	defer d.Close()
	for range 2 {
		if _, err := d.Dial(t.Context(), "tcp", address); !errors.Is(err, none) {
			t.Errorf("got %v, want that there is no file", err)
		}
	}
	if asked != 2 {
		t.Errorf("it was asked %d times, want 2", asked)
	}
}
