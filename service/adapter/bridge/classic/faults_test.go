package classic

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"foyer/service/adapter/freeport"
	"foyer/service/adapter/official"
	"foyer/service/adapter/redistest"
)

// whole awaits that two nodes and a server hear each other, each thing once.
func whole(t *testing.T, round string, n, other *node, peer *server) {
	t.Helper()
	for _, each := range []*node{n, other} {
		each.peers(t, "/", 1)
	}
	text := "from Node " + round
	redistest.Await(t, text, func() bool {
		_ = peer.say(event("/", text))
		return n.times(fmt.Sprintf("/ [%q]", text)) > 0 && other.times(fmt.Sprintf("/ [%q]", text)) > 0
	})
	const events = 20
	lost := n.Dropped()["lost"]
	for i := range events {
		if err := n.Publish(own(n, "/", fmt.Sprint(round, " ", i)), ""); err != nil && !errors.Is(err, official.ErrDoubt) {
			t.Fatal(err)
		}
	}
	came := func(all []string, name string) int { return strings.Count(strings.Join(all, ""), `["`+round+name) }
	tries := 0
	redistest.Await(t, "the end of all doubt", func() bool {
		tries++
		return n.Publish(own(n, "/", fmt.Sprint(round, " is over, ", tries)), "") == nil && came(peer.all(), " is over, ") > 0
	})
	lost = n.Dropped()["lost"] - lost
	all := peer.all()
	if got := came(all, " ") - came(all, " is over, "); got > events || got < events-int(lost) {
		t.Errorf("%s: %d of %d events came, and %d are counted as lost", round, got, events, lost)
	}
}

// none holds that nothing was published twice.
func none(t *testing.T, peer *server) {
	t.Helper()
	times := map[string]int{}
	for _, text := range peer.all() {
		if strings.HasPrefix(text, `["from Node`) { // said until it was heard
			continue
		}
		if times[text]++; times[text] > 1 {
			t.Errorf("%s came %d times", text, times[text])
		}
	}
}

// TestRedisRestarts: a node begins without Redis, and is whole again after each restart: its subscriptions are there,
// once, whom it counts is right as soon as it counts, and nothing is published twice.
func TestRedisRestarts(t *testing.T) {
	t.Parallel()
	port := freeport.New(t)
	address := "127.0.0.1:" + port
	n, other, peer := open(t, config("AAAA", address)), open(t, config("BBBB", address)), dialServer(t, address)
	<-n.Follow("/", true) // it cannot be heard now, so nobody waits for it
	<-other.Follow("/", true)
	if _, err := n.Peers(t.Context(), "/"); err == nil {
		t.Error("peers are counted without Redis")
	}
	s := redistest.Start(t, port)
	peer.serve("/")
	whole(t, "first", n, other, peer)
	for round := range 2 {
		s.Kill()
		redistest.Await(t, "the loss", func() bool { return n.Dropped()["gap"] >= int64(round+1) })
		redistest.Await(t, "doubt", func() bool {
			return errors.Is(n.Publish(own(n, "/", fmt.Sprint("lost ", round)), ""), official.ErrDoubt)
		})
		for i := range 50 {
			if err := n.Publish(own(n, "/", fmt.Sprint("lost ", round, i)), ""); !errors.Is(err, official.ErrDoubt) {
				t.Fatalf("while Redis is away a message is taken with %v", err)
			}
		}
		n.Follow("/brief", true)
		n.Follow("/brief", false)
		began := time.Now()
		s = redistest.Start(t, port)
		// Before the server on Node is back, a count would say that there is none.
		for counted := false; !counted; {
			got, err := n.Peers(t.Context(), "/")
			if counted = err == nil; counted && got != 1 {
				t.Errorf("%d are counted, want 1 or an error", got)
			}
		}
		whole(t, fmt.Sprint("again ", round), n, other, peer)
		t.Logf("whole %v after Redis' start; dropped: %v", time.Since(began), n.Dropped())
		counts, err := peer.PubSubNumSub(t.Context(), "socket.io-request#/#", "foyer.in./").Result()
		if err != nil || counts["socket.io-request#/#"] != 3 || counts["foyer.in./"] != 2 {
			t.Errorf("the server counts %v, %v; want two nodes and one more", counts, err)
		}
	}
	none(t, peer)
	if n.logs.FilterMessage("servers on Node are not heard").Len() == 0 {
		t.Error("the log says nothing of the gap")
	}
}

// TestRedisFrozen: while Redis takes nothing, what is published is bounded and refused beyond, and a count is an error.
// Then all is as before, and nothing comes twice.
func TestRedisFrozen(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, freeport.New(t))
	c, c2 := config("AAAA", s.Addr), config("BBBB", s.Addr)
	c.callTimeout, c2.callTimeout = answerWait, answerWait
	n, other, peer := open(t, c), open(t, c2), dialServer(t, s.Addr)
	peer.serve("/")
	follow(t, n, "/")
	follow(t, other, "/")
	whole(t, "first", n, other, peer)
	if err := s.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := 0; refused == 0 || n.Dropped()["gap"] == 0; i++ {
		err := n.Publish(own(n, "/", fmt.Sprint(i)+strings.Repeat("x", 1<<16)), "")
		if errors.Is(err, errFull) {
			refused++
			time.Sleep(time.Millisecond)
		}
		n.out.mu.Lock()
		bytes := n.out.bytes
		n.out.mu.Unlock()
		if bytes > outBytes {
			t.Fatalf("%d bytes wait", bytes)
		}
	}
	if _, err := n.Peers(t.Context(), "/"); err == nil {
		t.Error("peers are counted while Redis is frozen")
	}
	if err := s.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	whole(t, "again", n, other, peer)
	none(t, peer)
	t.Logf("%d were refused; dropped: %v", refused, n.Dropped())
}

// silent is a server that takes connections and says nothing, until the test ends.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	var conns sync.Map
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Store(c, nil)
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
		conns.Range(func(c, _ any) bool {
			c.(net.Conn).Close()
			return true
		})
	})
	return l.Addr().String()
}

// TestCloseDoesNotWait: a medium whose server is silent is closed at once, whatever waits for an answer then.
func TestCloseDoesNotWait(t *testing.T) {
	t.Parallel()
	c := config("AAAA", silent(t))
	c.callTimeout = time.Hour
	n := open(t, c)
	if err := n.Publish(own(n, "/", "x"), ""); err != nil {
		t.Fatal(err)
	}
	n.Follow("/", true)
	closed := make(chan struct{})
	go func() {
		n.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("it waits for an answer")
	}
}

// TestRights: a server that does not let a user do what is needed is told at start, in one line that says what that is.
func TestRights(t *testing.T) {
	s := redistest.Start(t, freeport.New(t))
	admin := dialServer(t, s.Addr)
	commands := []string{"-@all", "+subscribe", "+psubscribe", "+unsubscribe", "+punsubscribe", "+publish", "+pubsub", "+ping"}
	channels := []string{"&socket.io-response#*", "&socket.io*", "&socket.io#/#*", "&foyer.in.*"}
	without := func(list []string, what string) (rest []string) {
		for _, word := range list {
			if word != what {
				rest = append(rest, word)
			}
		}
		return rest
	}
	for name, test := range map[string]struct {
		rules []string
		want  string // "": it does
	}{
		"all":                          {append(commands, channels...), ""},
		"no pattern of responses":      {append(commands, without(channels, "&socket.io-response#*")...), "PSUBSCRIBE to socket.io-response#*"},
		"no pattern of the namespace":  {append(commands, without(channels, "&socket.io#/#*")...), "PSUBSCRIBE to socket.io#/#*"},
		"no channels of the cluster":   {append(commands, without(channels, "&foyer.in.*")...), "SUBSCRIBE to foyer.in./"},
		"no channels without patterns": {append(commands, without(channels, "&socket.io*")...), "SUBSCRIBE to socket.io#/"},
		"no publish":                   {append(without(commands, "+publish"), channels...), "PUBLISH to socket.io-response#/#"},
		"no count":                     {append(without(commands, "+pubsub"), channels...), "PUBSUB NUMSUB"},
	} {
		user := strings.ReplaceAll(name, " ", "-")
		for _, words := range [][]any{{"ACL", "SETUSER", user, "reset", "on", ">secret"}} {
			for _, rule := range test.rules {
				words = append(words, rule)
			}
			if err := admin.Do(t.Context(), words...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		c := config("AAAA", s.Addr)
		c.User, c.Password = user, "secret"
		var err error
		redistest.Await(t, name, func() bool { // a server that is slow refuses nothing
			m := New(c)
			defer m.Close()
			err = m.Open(func(*official.Message) {})
			return err != nil || test.want == ""
		})
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), "does not let this user "+test.want) ||
			!strings.Contains(err.Error(), "--cluster-prefix") || strings.ContainsAny(err.Error(), "\r\n")):
			t.Errorf("%s: got %v, want one line about %s", name, err, test.want)
		}
	}
}

// TestRightsAreTakenAway: a user that may not subscribe any more is told in the log, and nobody waits for what is not
// heard.
func TestRightsAreTakenAway(t *testing.T) {
	s := redistest.Start(t, freeport.New(t))
	n, admin := open(t, config("AAAA", s.Addr)), dialServer(t, s.Addr)
	follow(t, n, "/")
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "default", "-psubscribe").Err(); err != nil {
		t.Fatal(err)
	}
	<-n.Follow("/other", true)
	if told := n.logs.FilterMessage("subscription refused").All(); len(told) == 0 || !strings.Contains(fmt.Sprint(told[0].ContextMap()["error"]), "--cluster-prefix") {
		t.Errorf("the log says %v", told)
	}
}

// TestFilesOfTLS: the files are asked for anew with each connection.
func TestFilesOfTLS(t *testing.T) {
	t.Parallel()
	port := freeport.New(t)
	c := config("AAAA", "127.0.0.1:"+port)
	var asked atomic.Int64
	none := errors.New("no file now")
	c.TLS = func() (*tls.Config, error) {
		asked.Add(1)
		return nil, none
	}
	s := redistest.Start(t, port)
	n := open(t, c)
	redistest.Await(t, "more connections", func() bool { return asked.Load() > 5 })
	said := func() *observer.ObservedLogs { return n.logs.FilterMessage("servers on Node are not heard") }
	redistest.Await(t, "a line of the log", func() bool { return said().Len() > 0 })
	s.Kill()
	if told := said().All(); !strings.Contains(fmt.Sprint(told[0].ContextMap()["error"]), none.Error()) {
		t.Errorf("the log says %v", told)
	}
}
