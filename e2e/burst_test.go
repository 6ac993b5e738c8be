//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

// Bursts: slow means that a peer does not take, never that much came at once. Each cell of the matrices is one link of
// a stock client; it must stay, and whatever goes over it arrives once and in order, however much it is and however
// slow the other side.

// burst is what a client does on one link: it connects to namespaces, emits "burst" so many times in each in one tick,
// each with its number, data of so many bytes and an acknowledgement, reads so many events "down" in each, and then
// says "last".
type burst struct {
	Name       string   `json:"name"`
	Namespaces []string `json:"namespaces"`
	Send       int      `json:"send"`
	Bytes      int      `json:"bytes"`
	Binary     bool     `json:"binary"` // the data is an attachment
	Receive    int      `json:"receive"`
	Unordered  bool     `json:"unordered"` // "down" has no order
}

// burstNote is what a client says of a burst: "connected", then "done".
type burstNote struct {
	Name, K         string
	IDs             map[string]string // of its sockets, by namespace
	Acked, Received int
	Wrong           []string
}

// burstClient is a program with the stock client of a language.
type burstClient struct {
	*process
	told *feed[burstNote]
}

// columns runs a test for each client and each transport, side by side: most of the time is spent waiting.
func columns(t *testing.T, f *foyer, run func(t *testing.T, column string, c *burstClient)) {
	t.Helper()
	var all sync.WaitGroup
	for _, client := range stockClients {
		for _, transport := range transports[:2] { // an upgrade ends on one of them
			all.Go(func() {
				t.Run(client.name+"/"+transport.name, func(t *testing.T) {
					command := append(client.command(t), f.url(), transport.name, "burst")
					c := &burstClient{start(t, command[0], nil, command[1:]...), newFeed[burstNote]()}
					followLines(c.process, c.told)
					t.Cleanup(func() {
						c.kill()
						if lines := c.log.all(); len(lines) > 0 && t.Failed() {
							t.Errorf("%s says:\n%s", client.name, c.tail(40))
						}
					})
					run(t, client.name+"-"+transport.name, c)
				})
			})
		}
	}
	all.Wait()
}

func (c *burstClient) begin(t testing.TB, b burst) {
	t.Helper()
	line, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.stdin.Write(append(line, '\n')); err != nil {
		t.Fatalf("the client is gone: %v\n%s", err, c.tail(40))
	}
}

// connected waits until a burst's client is in all its namespaces, and returns its sockets' ids.
func (c *burstClient) connected(t testing.TB, b burst) map[string]string {
	t.Helper()
	return c.await(t, b, "connected").IDs
}

// done waits for the end of a burst and judges what the client saw.
func (c *burstClient) done(t testing.TB, b burst) {
	t.Helper()
	note := c.await(t, b, "done")
	if n := b.Send * len(b.Namespaces); note.Acked != n {
		t.Errorf("%d of %d are acknowledged", note.Acked, n)
	}
	if n := b.Receive * len(b.Namespaces); note.Received != n {
		t.Errorf("%d of %d came", note.Received, n)
	}
	for _, what := range note.Wrong {
		t.Error(what)
	}
}

func (c *burstClient) await(t testing.TB, b burst, kind string) burstNote {
	t.Helper()
	// A client reports by itself when nothing new has come for half a minute.
	note, _, err := c.told.await(0, 2*time.Minute, func(n burstNote) bool { return n.Name == b.Name && n.K == kind })
	if err != nil {
		t.Fatalf("the client is not %s: %v\n%s", kind, err, c.tail(40))
	}
	return note
}

// intake is a backend that takes bursts, by default at once, and acknowledges each event with its number and its size.
type intake struct {
	*backend
	mu   sync.Mutex
	got  []int
	more chan struct{} // has room for one: something came
}

// takeAt attaches an intake to a namespace. pace is called before each event is answered, from where the stream is
// read.
func takeAt(t testing.TB, f *foyer, namespace, handlerID string, pace func(n int)) *intake {
	t.Helper()
	return takeFew(t, f, namespace, handlerID, 0, pace)
}

// takeFew does the same for a backend that has so many events in hand at most.
func takeFew(t testing.TB, f *foyer, namespace, handlerID string, inFlight int32, pace func(n int)) *intake {
	t.Helper()
	in := &intake{more: make(chan struct{}, 1)}
	register := &foyerv1.Register{
		Namespaces: []string{namespace}, Group: "intake " + namespace, HandlerId: handlerID, MaxInFlight: inFlight,
		SocketView: foyerv1.SocketView_SOCKET_VIEW_REF,
	}
	in.backend = attach(t, f.api, register, func(b *backend) {
		b.forgetEvents = true
		b.on["burst"] = func(e *event) {
			number, size := burstArgs(e.GetPayload())
			in.mu.Lock()
			in.got = append(in.got, number)
			n := len(in.got)
			in.mu.Unlock()
			select {
			case in.more <- struct{}{}:
			default:
			}
			if pace != nil {
				pace(n)
			}
			e.reply(number, size)
		}
	})
	return in
}

// burstArgs are the number of an event "burst" and the size of its data.
func burstArgs(p *foyerv1.Payload) (number, size int) {
	var args []json.RawMessage
	if json.Unmarshal([]byte(p.GetJson()), &args) != nil || len(args) != 2 || json.Unmarshal(args[0], &number) != nil {
		return -1, -1
	}
	var text string
	if json.Unmarshal(args[1], &text) == nil {
		return number, len(text)
	}
	for _, attachment := range p.GetAttachments() {
		size += len(attachment)
	}
	return number, size
}

func (in *intake) all() []int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.got)
}

// leave detaches it in good order.
func (in *intake) leave(t testing.TB) {
	t.Helper()
	in.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Drain{Drain: &foyerv1.Drain{}}})
	if _, _, err := in.told.await(0, patience, func(*foyerv1.AttachResponse) bool { return false }); !errors.Is(err, io.EOF) {
		t.Fatalf("its stream does not end: %v", err)
	}
}

// until waits until so many events have come.
func (in *intake) until(t testing.TB, n int) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for len(in.all()) < n {
		select {
		case <-in.more:
		case <-timer.C:
			t.Fatalf("only %d of %d events came", len(in.all()), n)
		}
	}
}

// wantAll fails unless got is 0 to n-1: nothing lost, doubled or out of order.
func wantAll(t testing.TB, what string, got []int, n int) {
	t.Helper()
	for i, number := range got {
		if number != i {
			t.Errorf("%s: event %d came as number %d of %d", what, number, i, len(got))
			return
		}
	}
	if len(got) != n {
		t.Errorf("%s: got %d events, want %d", what, len(got), n)
	}
}

// A handler's paces. The official Python client gives a POST five seconds, so nothing may take longer in all.
var paces = []struct {
	name  string
	share int // a burst has its size divided by this
	make  func() func(n int)
}{
	{"at once", 1, func() func(int) { return nil }},
	{"200 a second", 6, func() func(int) { return func(int) { <-time.After(5 * time.Millisecond) } }},
	{"stopped for 3 s", 1, func() func(int) {
		return func(n int) {
			if n == 1 {
				<-time.After(3 * time.Second)
			}
		}
	}},
}

// By polling, the clients of Python and Java put all that waits into one POST, whatever maxPayload says, and get no
// more than that over to any server.
var burstSizes = []struct {
	name        string
	bytes, send int
	binary      bool
	inFlight    int32 // of the backend; a few, where a burst has few events
}{
	{"10 B", 10, 3000, false, 0},
	{"1 KB", 1000, 900, false, 0},
	{"100 KB", 100_000, 60, true, 4},
}

// sendsAtOnce is how many events a client may emit in one tick.
func sendsAtOnce(column string, bytes, send int) int {
	if column == "python-polling" || column == "java-polling" {
		return min(send, 930_000/(bytes*4/3+60))
	}
	return send
}

// TestBurstsFromClients: the stock clients emit much in one tick, to handlers that take it at once, slowly, or not for
// a while.
func TestBurstsFromClients(t *testing.T) {
	// A handler that has never been there may be on its way for so long after the node's start. On a busy machine the test
	// takes longer than a session without a client is kept.
	f := startFoyer(t, "--log-level=info", "--namespaces=/b-*", "--handler-wait=60s", "--ping-timeout=90s")
	columns(t, f, func(t *testing.T, column string, c *burstClient) {
		t.Run("no handler yet", func(t *testing.T) {
			beginsBeforeItsHandler(t, f, c, burst{Name: "no handler", Namespaces: []string{"/b-" + column + "-late"}, Send: 3000, Bytes: 10})
		})
		for _, size := range burstSizes {
			for _, pace := range paces {
				t.Run(size.name+"/"+pace.name, func(t *testing.T) {
					b := burst{
						Name: size.name + pace.name, Namespaces: []string{fmt.Sprintf("/b-%s-%d-%c", column, size.bytes, pace.name[0])},
						Send: sendsAtOnce(column, size.bytes, size.send) / pace.share, Bytes: size.bytes, Binary: size.binary,
					}
					in := takeFew(t, f, b.Namespaces[0], "", size.inFlight, pace.make())
					c.begin(t, b)
					c.done(t, b)
					wantAll(t, "the handler", in.all(), b.Send)
				})
			}
		}
		t.Run("its handler restarts", func(t *testing.T) {
			b := burst{Name: "restarts", Namespaces: []string{"/b-" + column + "-again"}, Send: 3000, Bytes: 10}
			takeAt(t, f, b.Namespaces[0], "", nil).leave(t)
			beginsBeforeItsHandler(t, f, c, b)
		})
		t.Run("the handler is replaced", func(t *testing.T) {
			b := burst{Name: "replaced", Namespaces: []string{"/b-" + column + "-new"}, Send: 2000, Bytes: 10}
			slowly := func(int) { <-time.After(time.Millisecond) }
			old := takeAt(t, f, b.Namespaces[0], "one", slowly)
			c.begin(t, b)
			old.until(t, 100)
			successor := takeAt(t, f, b.Namespaces[0], "one", nil)
			c.done(t, b)
			wantAll(t, "the handlers", append(old.all(), successor.all()...), b.Send)
			if len(successor.all()) == 0 {
				t.Error("the new one got nothing")
			}
		})
		t.Run("one namespace of two is slow", func(t *testing.T) {
			b := burst{Name: "two", Namespaces: []string{"/b-" + column + "-slow", "/b-" + column + "-fast"}, Send: 1000, Bytes: 10}
			slow := takeAt(t, f, b.Namespaces[0], "", paces[2].make())
			fast := takeAt(t, f, b.Namespaces[1], "", nil)
			c.begin(t, b)
			c.done(t, b)
			wantAll(t, "the slow one", slow.all(), b.Send)
			wantAll(t, "the fast one", fast.all(), b.Send)
		})
	})
	wantDropped(t, f)
}

// beginsBeforeItsHandler has a client burst two seconds before there is a handler.
func beginsBeforeItsHandler(t *testing.T, f *foyer, c *burstClient, b burst) {
	t.Helper()
	c.begin(t, b)
	c.connected(t, b)
	<-time.After(2 * time.Second) // the handler is away for so long
	in := takeAt(t, f, b.Namespaces[0], "", nil)
	c.done(t, b)
	wantAll(t, "the handler", in.all(), b.Send)
}

// wantDropped fails when the node has counted anything as dropped. What had to wait, and who was made to, is counted as
// well, and is none of that.
func wantDropped(t testing.TB, f *foyer, expected ...string) {
	t.Helper()
	expected = append(expected, "engineio_queue_full", "handler_paused")
	for reason, n := range api(t, f.api).info(t).GetDropped() {
		// A slow machine's nodes tell each other twice, and count what they pass on.
		apart := nodesOfOne() > 1 && (strings.HasPrefix(reason, "cluster_frame_") || strings.HasPrefix(reason, "passing_"))
		if n != 0 && !apart && !slices.Contains(expected, reason) {
			t.Errorf("dropped: %s %d", reason, n)
		}
	}
}
