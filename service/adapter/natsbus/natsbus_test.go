package natsbus

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/adaptertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is for a machine that is busy with something else.
const patience = 60 * time.Second

func testLog() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zap.InfoLevel)
	return zap.New(core), logs
}

// meshConfig is a node of a cluster that knows the others by where they listen.
func meshConfig(name service.NodeID, routes ...string) Embedded {
	return Embedded{Node: name, Listen: "127.0.0.1:0", Routes: routes}
}

// patient is a node that waits until it knows whether the others take it, however busy they are.
func patient(c Embedded) Embedded {
	c.settles = time.Minute
	return c
}

func embed(t *testing.T, c Embedded) *Bus {
	t.Helper()
	b, err := Embed(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// Each node knows only the first one, and hears of the others from it. The suite has the other side say nothing for as
// long as a busy machine may take: a connection that is given up loses what is on it.
func TestEmbedded(t *testing.T) {
	adaptertest.Run(t, func(t *testing.T) adaptertest.Cluster {
		patient := func(c Embedded) *Bus {
			c.patience = patience
			return embed(t, c)
		}
		seed := patient(meshConfig("SEED"))
		addr := seed.RouteAddr().String()
		return adaptertest.Cluster{
			Open:    func(name service.NodeID) adapter.Bus { return patient(meshConfig(name, addr)) },
			Lone:    func(name service.NodeID) adapter.Bus { return patient(meshConfig(name)) },
			Ordered: true, Whole: true, Guarded: true,
			Forge: forge(t, seed.nc),
			Break: breakConnection,
		}
	})
}

// startServer runs a server as others do.
func startServer(t testing.TB, change func(o *server.Options)) *server.Server {
	t.Helper()
	o := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true}
	if change != nil {
		change(o)
	}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server is not ready")
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

func connect(t testing.TB, c External) *Bus {
	t.Helper()
	b, err := Connect(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestExternal(t *testing.T) {
	adaptertest.Run(t, func(t *testing.T) adaptertest.Cluster {
		url := startServer(t, nil).ClientURL()
		stranger, err := nats.Connect(url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stranger.Close)
		return adaptertest.Cluster{
			Open: func(name service.NodeID) adapter.Bus {
				return connect(t, External{Node: name, URL: url, patience: patience})
			},
			Stranger: func(name service.NodeID) adapter.Bus {
				return connect(t, External{Node: name, URL: url, Cluster: "foyer2", patience: patience})
			},
			Ordered: true, Whole: true,
			Forge: forge(t, stranger),
			Break: breakConnection,
		}
	})
}

func forge(t *testing.T, nc *nats.Conn) func(to service.NodeID, frame []byte) {
	return func(to service.NodeID, frame []byte) {
		subject := "foyer.all"
		if to != "" {
			subject = "foyer.to." + string(to)
		}
		if err := nc.Publish(subject, frame); err != nil {
			t.Errorf("forge: %v", err)
		}
		if err := nc.Flush(); err != nil {
			t.Errorf("forge: %v", err)
		}
	}
}

// breakConnection has the connection of a node break, and every new one too, until it is mended.
func breakConnection(bus adapter.Bus) (mend func()) {
	b, _ := bus.(*Bus)
	b.refuse.Store(true)
	b.pipe.Load().Close()
	return func() { b.refuse.Store(false) }
}

// A server that does not do is told in one line, at start.
func TestUnusable(t *testing.T) {
	permit := func(publish, subscribe []string) func(o *server.Options) {
		return func(o *server.Options) {
			o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: subscribe},
			}}}
		}
	}
	both := []string{"foyer.all", "foyer.to.*"}
	for _, test := range []struct {
		name   string
		change func(o *server.Options)
		login  string
		want   string // "": it does
	}{
		{"small payload", func(o *server.Options) { o.MaxPayload = 64 << 10 }, "", "max_payload"},
		{"enough payload", func(o *server.Options) { o.MaxPayload = maxFrame }, "", ""},
		{"no password", permit(both, both), "", "Authorization"},
		{"wrong password", permit(both, both), "u:q@", "Authorization"},
		{"permitted", permit(both, both), "u:p@", ""},
		{"own name only", permit(both, []string{"foyer.all", "foyer.to.AAAA"}), "u:p@", ""},
		{"may not publish to all", permit([]string{"foyer.to.*"}, both), "u:p@", "foyer.all"},
		{"may not publish to one", permit([]string{"foyer.all"}, both), "u:p@", "foyer.to.*"},
		{"may not hear what is for all", permit(both, []string{"foyer.to.*"}), "u:p@", "foyer.all"},
		{"may not hear what is for it", permit(both, []string{"foyer.all", "foyer.to.BBBB"}), "u:p@", "foyer.to.AAAA"},
	} {
		t.Run(test.name, func(t *testing.T) {
			url := strings.Replace(startServer(t, test.change).ClientURL(), "nats://", "nats://"+test.login, 1)
			b, err := Connect(External{Node: "AAAA", URL: url})
			switch {
			case err == nil:
				if !b.Up() {
					t.Error("the bus is not up")
				}
				b.Close()
				if test.want != "" {
					t.Errorf("it is taken, want an error about %q", test.want)
				}
			case test.want == "" || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n"):
				t.Errorf("got %v, want one line about %q", err, test.want)
			}
		})
	}
}

// A server that comes later is found, and one that stops to do is said to be down until it does again.
func TestServerLater(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := free.Addr().(*net.TCPAddr)
	free.Close()
	log, logs := testLog()
	b := connect(t, External{Node: "AAAA", URL: "nats://" + addr.String(), Logger: log})
	if b.Up() {
		t.Error("the bus is up without a server")
	}
	if err := b.SendAll([]byte("x")); !errors.Is(err, adapter.ErrDown) {
		t.Errorf("got %v, want ErrDown", err)
	}
	var mu sync.Mutex
	got := make(map[string]bool)
	if err := b.Receive(func(frame []byte) {
		mu.Lock()
		defer mu.Unlock()
		got[string(frame)] = true
	}); err != nil {
		t.Fatal(err)
	}
	for _, payload := range []int32{1 << 20, 1 << 10, 1 << 20} {
		s := startServer(t, func(o *server.Options) { o.Port, o.MaxPayload = addr.Port, payload })
		if payload < maxFrame {
			await(t, "a line about max_payload", func() bool { return logs.FilterMessage("bus unusable").Len() > 0 })
			if b.Up() {
				t.Error("the bus is up, whose server takes too little")
			}
		} else {
			await(t, "the bus", b.Up)
			other := connect(t, External{Node: "BBBB", URL: s.ClientURL()})
			frame := "frame " + s.ID()
			if err := other.Send("AAAA", []byte(frame)); err != nil {
				t.Error(err)
			}
			await(t, "a frame", func() bool { mu.Lock(); defer mu.Unlock(); return got[frame] })
			other.Close()
		}
		s.Shutdown()
		s.WaitForShutdown()
		await(t, "the end of the bus", func() bool { return !b.Up() })
	}
}

// await waits until something holds that has no event.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come", what)
		}
	}
}

func BenchmarkBus(b *testing.B) {
	url := startServer(b, nil).ClientURL()
	adaptertest.Bench(b, func(b *testing.B) (one, other adapter.Bus) {
		return connect(b, External{Node: "AAAA", URL: url}), connect(b, External{Node: "BBBB", URL: url})
	})
}
