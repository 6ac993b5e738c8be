package mongobus

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/adaptertest"
	"foyer/service/adapter/freeport"
	"foyer/service/adapter/lives"
	"foyer/service/adapter/mongodb/mongodbtest"
)

// ear is a bus and the frames that have come to it.
type ear struct {
	*Bus
	mu  sync.Mutex
	got map[string]int // guarded by mu
}

func newEar(tb testing.TB, b *Bus) *ear {
	tb.Helper()
	e := &ear{Bus: b, got: make(map[string]int)}
	if err := b.Receive(func(frame []byte) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(frame) < 100 {
			e.got[string(frame)]++
		}
	}); err != nil {
		tb.Fatal(err)
	}
	return e
}

func (e *ear) has(frame string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.got[frame] > 0
}

// hears waits until a frame has come from another bus. It is sent anew while that may be lost.
func (e *ear) hears(tb testing.TB, from *Bus, frame string) {
	tb.Helper()
	await(tb, "a frame", func() bool {
		if !e.has(frame) {
			_ = from.Send(e.self, []byte(frame))
		}
		return e.has(frame)
	})
}

func testLog() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zap.InfoLevel)
	return zap.New(core), logs
}

// A server that comes later is found; one that is killed, or frozen, is said to be down until it does again.
func TestServerRestarts(t *testing.T) {
	port := freeport.New(t)
	log, logs := testLog()
	url := "mongodb://127.0.0.1:" + port + "/foyer"
	a := newEar(t, connect(t, Config{Node: "AAAA", URL: url, Logger: log}))
	if lines := logs.FilterMessage("bus not reached yet").All(); a.Up() || len(lines) != 1 || lines[0].ContextMap()["setting"] != "--cluster-url" {
		t.Errorf("the bus is up: %v, without a server; it has told %v", a.Up(), logs.All())
	}
	if err := a.SendAll([]byte("x")); !errors.Is(err, adapter.ErrDown) {
		t.Errorf("got %v, want ErrDown", err)
	}
	s := mongodbtest.Start(t, port, t.TempDir())
	await(t, "the bus", a.Up)
	b := newEar(t, connect(t, Config{Node: "BBBB", URL: url}))
	whole := func(round string) {
		t.Helper()
		await(t, "the bus", func() bool { return a.Up() && b.Up() })
		a.hears(t, b.Bus, "to A, "+round)
		b.hears(t, a.Bus, "to B, "+round)
	}
	whole("first")
	s.Kill()
	await(t, "the end of the bus", func() bool { return !a.Up() && !b.Up() })
	began := time.Now()
	s = mongodbtest.Start(t, port, t.TempDir()) // one that was killed may have lost what it had
	whole("after a restart")
	t.Logf("whole %v after the server's start", time.Since(began))

	// One that is frozen is found out, and Send does not wait meanwhile.
	if err := s.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	adaptertest.Frozen(t, "BBBB", a, b)
	await(t, "the count of what is lost", func() bool { return a.Lost() > 0 })
	if err := s.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	whole("after it was frozen")
}

// A server that does not do is told in one line, at start.
func TestUnusable(t *testing.T) {
	port, dir := freeport.New(t), t.TempDir()
	s := mongodbtest.Start(t, port, dir)
	admin := client(t, "mongodb://"+s.Addr+"/foyer").Client()
	for user, role := range map[string]string{"enough": "readWrite", "reader": "read"} {
		create := bson.D{{Key: "createUser", Value: user}, {Key: "pwd", Value: "p:/@ 1"}, {Key: "roles", Value: bson.A{bson.D{{Key: "role", Value: role}, {Key: "db", Value: "foyer"}}}}}
		if err := admin.Database("admin").RunCommand(t.Context(), create).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := admin.Database("foyer").CreateCollection(t.Context(), "large.frames"); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	s = mongodbtest.Start(t, port, dir, "--auth")
	const password, source = "p%3A%2F%40%201", "/foyer?authSource=admin"
	for _, test := range []struct{ name, url, cluster, want string }{
		{"enough", "mongodb://enough:" + password + "@" + s.Addr + source, "", ""},
		{"wrong password", "mongodb://enough:wrong@" + s.Addr + source, "", "the user and password of the URL are not taken"},
		{"unknown user", "mongodb://nobody:" + password + "@" + s.Addr + source, "", "the user and password of the URL are not taken"},
		{"no user", "mongodb://" + s.Addr + source, "", "the role readWrite"},
		{"may not insert", "mongodb://reader:" + password + "@" + s.Addr + source, "", "the role readWrite"},
		{"not capped", "mongodb://enough:" + password + "@" + s.Addr + source, "large", "the collection large.frames is there and is not capped"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var err error
			await(t, cmp.Or(test.want, "a bus that is up"), func() bool { // a server that is slow refuses nothing
				var b *Bus
				if b, err = Connect(Config{Node: "AAAA", Cluster: test.cluster, URL: test.url}); err != nil {
					return true
				}
				defer b.Close()
				return test.want == "" && b.Up()
			})
			switch {
			case err == nil && test.want == "":
			case test.want == "" || !strings.Contains(err.Error(), test.want) || strings.ContainsAny(err.Error(), "\r\n") || strings.Contains(err.Error(), "p:/@"):
				t.Errorf("got %v, want one line about %q", err, test.want)
			}
		})
	}
}

// A node that is behind by more than the collection keeps goes on at the present, and counts what it has missed.
func TestBehind(t *testing.T) {
	s := mongodbtest.Start(t, freeport.New(t), t.TempDir())
	log, logs := testLog()
	url := "mongodb://" + s.Addr + "/foyer"
	a := connect(t, Config{Node: "AAAA", URL: url, bytes: 1 << 20, callTimeout: callTimeout})
	b := newEar(t, connect(t, Config{Node: "BBBB", URL: url, bytes: 1 << 20, Logger: log, callTimeout: callTimeout}))
	b.hears(t, a, "first")
	// More than the collection keeps comes by one command, which no reader can be amid.
	collection := client(t, url).Collection("foyer.frames")
	before := b.Lost()
	await(t, "a loss", func() bool {
		documents := make([]any, 30)
		for i := range documents {
			var p pack
			p.add("BBBB", int64(i+1), make([]byte, 64<<10))
			documents[i] = p.document(bson.NewObjectID(), 1)
		}
		if _, err := collection.InsertMany(t.Context(), documents); err != nil {
			t.Fatal(err)
		}
		return logs.FilterMessageSnippet("behind by more than the collection keeps").Len() > 0
	})
	b.hears(t, a, "again")
	if !b.Up() {
		t.Error("the bus is not up")
	}
	var p pack
	p.add("BBBB", 100, []byte("late"))
	if _, err := collection.InsertOne(t.Context(), p.document(bson.NewObjectID(), 1)); err != nil {
		t.Fatal(err)
	}
	await(t, "a frame", func() bool { return b.has("late") })
	t.Logf("lost: %d", b.Lost()-before)
}

// TestNumbers: by the numbers of a sender a node counts what it has missed, for it and for all.
func TestNumbers(t *testing.T) {
	l := &life{in: &lives.Inbox{}, heard: map[numbers]int64{}}
	for _, step := range []struct {
		of   numbers
		n    int64
		want uint64
	}{
		{numbers{1, true}, 7, 0}, // what came before is not known
		{numbers{1, true}, 8, 0},
		{numbers{1, false}, 1, 0},
		{numbers{1, true}, 11, 2},
		{numbers{2, true}, 3, 2},
		{numbers{1, false}, 2, 2},
		{numbers{1, true}, 1, 2}, // it has begun anew
		{numbers{1, true}, 3, 3},
		{numbers{3, true}, 0, 3}, // none
		{numbers{3, true}, 5, 3},
	} {
		if l.count(step.of, step.n); l.in.Lost() != step.want {
			t.Errorf("after %v: %d lost, want %d", step, l.in.Lost(), step.want)
		}
	}
	for i := range 3 * maxHeard {
		l.count(numbers{int64(i), true}, 1)
	}
	if len(l.heard) > maxHeard {
		t.Errorf("%d senders are known", len(l.heard))
	}
}

// TestOutbox: what waits is bounded, small frames share documents, and a batch has a bound of its own.
func TestOutbox(t *testing.T) {
	o := newOutbox()
	if err := o.put("AAAA", []byte("x")); !errors.Is(err, adapter.ErrDown) {
		t.Errorf("without a life: %v", err)
	}
	o.begin()
	for i := range 100 {
		if err := o.put("AAAA", fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
		if err := o.put(toAll, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	list, bytes := o.take()
	if len(list) != 1 || framesOf(list) != 200 || len(list[0].to) != 2 || bytes != len(list[0].frames) {
		t.Fatalf("200 small frames are %d documents for %v", len(list), list[0].to)
	}
	last := map[string]int64{}
	eachFrame(list[0].frames, func(to service.NodeID, n int64, _ []byte) {
		if n != last[string(to)]+1 {
			t.Errorf("frame %d for %s after %d", n, to, last[string(to)])
		}
		last[string(to)] = n
	})
	if last["AAAA"] != 100 || last[string(toAll)] != 100 {
		t.Errorf("the last numbers are %v", last)
	}
	taken := 0
	for o.put("AAAA", make([]byte, lives.MaxFrame)) == nil {
		taken++
	}
	if taken == 0 || o.bytes > outBytes+headBytes*taken {
		t.Errorf("%d frames wait, %d bytes", taken, o.bytes)
	}
	o.probe("AAAA") // it goes out in any case
	if _, bytes := o.take(); bytes > batchBytes {
		t.Errorf("a batch has %d bytes", bytes)
	}
	empty := o.emptied()
	if lost := o.end(); lost == 0 || lost >= taken {
		t.Errorf("%d frames are lost of %d, some of which were taken", lost, taken)
	}
	<-empty
	o.begin()
	for i := range 2*maxNumbers + 1 {
		_ = o.put(service.NodeID(fmt.Sprintf("%04d", i)), []byte("x"))
	}
	if len(o.numbers) > maxNumbers {
		t.Errorf("%d nodes are known", len(o.numbers))
	}
}

// TestBadFrames: bytes that are no frames are read without harm, up to where they are none.
func TestBadFrames(t *testing.T) {
	var p pack
	p.add("AAAA", 1, []byte("one"))
	p.add("BBBB", 2, nil)
	p.add("CCCC", 3, []byte("three"))
	for n := range len(p.frames) + 1 {
		got := 0
		eachFrame(p.frames[:n:n], func(service.NodeID, int64, []byte) { got++ })
		if want := 0; n == len(p.frames) && got != 3 || got > 3 || got < want {
			t.Errorf("%d frames in %d bytes", got, n)
		}
	}
	for at := range p.frames {
		b := append([]byte(nil), p.frames...)
		b[at] ^= 0xff
		eachFrame(b, func(_ service.NodeID, _ int64, frame []byte) {
			if len(frame) > len(b) {
				t.Error("a frame is longer than all")
			}
		})
	}
}
