//go:build e2e

package e2e

import (
	"bufio"
	"context"
	bits "encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Programs that no client library is: they read or write only what a test says. A hostile one comes from an address of
// its own.

// dialFrom connects from an address of this machine, such as 127.0.0.2; "" is any.
func dialFrom(from, to string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: patience}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	return dialer.Dial("tcp", to)
}

// rawSocket is a websocket of RFC 6455 without a heartbeat: it does what it is told.
type rawSocket struct {
	net.Conn
	r  *bufio.Reader
	id string // of its socket, once it is connected
}

const maskKey = "\x01\x02\x03\x04"

// rawOpen opens a websocket session. It returns the status when that is refused.
func rawOpen(from, edge string) (*rawSocket, error) {
	conn, err := dialFrom(from, edge)
	if err != nil {
		return nil, err
	}
	return rawGreet(conn, edge, "")
}

// rawGreet opens a websocket session on a connection, with more lines in the header of its request. It closes the
// connection when that is refused.
func rawGreet(conn net.Conn, host, header string) (*rawSocket, error) {
	s := &rawSocket{Conn: conn, r: bufio.NewReaderSize(conn, 512)}
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err := io.WriteString(conn, "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: "+host+"\r\nConnection: Upgrade\r\n"+
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+header+"\r\n")
	if err == nil {
		var r *http.Response
		if r, err = http.ReadResponse(s.r, nil); err == nil && r.StatusCode != http.StatusSwitchingProtocols {
			r.Body.Close()
			err = fmt.Errorf("refused: %s", r.Status)
		}
	}
	if err == nil {
		var open string
		if open, err = s.next(); err == nil && !strings.HasPrefix(open, "0{") {
			err = fmt.Errorf("%q is no open packet", open)
		}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return s, nil
}

// join connects to a namespace ("/" is "") and waits for the answer.
func (s *rawSocket) join(namespace string) error {
	if namespace != "" {
		namespace += ","
	}
	if err := s.send("40" + namespace); err != nil {
		return err
	}
	_ = s.SetReadDeadline(time.Now().Add(patience))
	defer s.SetReadDeadline(time.Time{})
	for {
		text, err := s.next()
		if err != nil {
			return err
		}
		answer, ok := strings.CutPrefix(text, "40"+namespace)
		if !ok {
			if strings.HasPrefix(text, "44") {
				return errors.New(text)
			}
			continue
		}
		var hello struct{ SID string }
		if err := json.Unmarshal([]byte(answer), &hello); err != nil {
			return err
		}
		s.id = hello.SID
		return nil
	}
}

// rawJoin opens a websocket and connects it to "/".
func rawJoin(from, edge string) (*rawSocket, error) {
	s, err := rawOpen(from, edge)
	if err != nil {
		return nil, err
	}
	if err := s.join(""); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func mustJoin(t testing.TB, from, edge string) *rawSocket {
	t.Helper()
	s, err := rawJoin(from, edge)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// appendText appends a text frame.
func appendText(b []byte, text string) []byte {
	switch n := len(text); {
	case n < 126:
		b = append(b, 0x81, 0x80|byte(n))
	default:
		b = bits.BigEndian.AppendUint16(append(b, 0x81, 0x80|126), uint16(n))
	}
	b = append(b, maskKey...)
	for i := range len(text) {
		b = append(b, text[i]^maskKey[i&3])
	}
	return b
}

// send sends messages, in one write.
func (s *rawSocket) send(texts ...string) error {
	var b []byte
	for _, text := range texts {
		b = appendText(b, text)
	}
	_, err := s.Write(b)
	return err
}

// next returns the next text message; of a binary one it returns "".
func (s *rawSocket) next() (string, error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(s.r, head); err != nil {
		return "", err
	}
	size := int(head[1])
	if wide := map[int]int{126: 2, 127: 8}[size]; wide > 0 {
		length := make([]byte, 8)
		if _, err := io.ReadFull(s.r, length[8-wide:]); err != nil {
			return "", err
		}
		size = int(bits.BigEndian.Uint64(length))
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(s.r, body); err != nil {
		return "", err
	}
	switch head[0] & 0xf {
	case 1:
		return string(body), nil
	case 8:
		return "", fmt.Errorf("closed: %x %.80q", body[:min(2, len(body))], body[min(2, len(body)):])
	}
	return "", nil
}

// read hands over each event until the connection ends, and answers heartbeats. It returns why it ended.
func (s *rawSocket) read(event func(args string)) error {
	for {
		text, err := s.next()
		if err != nil {
			return err
		}
		switch {
		case text == "2":
			err = s.send("3")
		case strings.HasPrefix(text, "42"):
			event(text[2:])
		}
		if err != nil {
			return err
		}
	}
}

// ---- what the node costs

// peak is the most memory that a node held at once since the last resetPeak, in bytes (VmHWM of proc(5)). Of nodes that
// are looked at as one it is the sum.
func (f *foyer) peak(t testing.TB) int {
	t.Helper()
	return f.status(t, "VmHWM:") << 10
}

// resident is the memory that it holds now, in bytes.
func (f *foyer) resident(t testing.TB) int {
	t.Helper()
	return f.status(t, "VmRSS:") << 10
}

func (f *foyer) status(t testing.TB, key string) (sum int) {
	t.Helper()
	for _, node := range f.each() {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", node.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Fields(string(raw))
		at := slices.Index(words, key)
		if at < 0 {
			t.Fatalf("no %s in\n%s", key, raw)
		}
		n, err := strconv.Atoi(words[at+1])
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// resetPeak makes peak begin with what is held now.
func (f *foyer) resetPeak(t testing.TB) {
	t.Helper()
	for _, node := range f.each() {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", node.cmd.Process.Pid), []byte("5"), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// descriptors is how many files it has open.
func (f *foyer) descriptors(t testing.TB) (sum int) {
	t.Helper()
	for _, node := range f.each() {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", node.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		sum += len(entries)
	}
	return sum
}

// needFiles fails a test that could not open so many files.
func needFiles(t testing.TB, n int) {
	t.Helper()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < uint64(n) {
		t.Fatalf("%d open files are needed and %d allowed (%v)", n, files.Cur, err)
	}
}

// during runs something beside a test until the returned function is called, which waits for its end.
func during(run func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	return func() { cancel(); <-done }
}

// cut ends a connection by a reset, as a network does that is lost.
func cut(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}
