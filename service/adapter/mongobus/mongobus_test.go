package mongobus

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/goleak"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/adaptertest"
	"foyer/service/adapter/freeport"
	"foyer/service/adapter/mongodb/mongodbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is for a machine that is busy with something else.
const patience = 60 * time.Second

func connect(tb testing.TB, c Config) *Bus {
	tb.Helper()
	b, err := Connect(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { b.Close() })
	return b
}

// callTimeout lets a busy server answer late: a life that is given up loses what is on its way.
const callTimeout = patience / 4

// testBytes is how much the collection keeps: the test server looks through all of it for each thing that it gives out.
const testBytes = 4 << 20

// client is one of somebody who is no node.
func client(tb testing.TB, url string) *mongo.Database {
	tb.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(url))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Disconnect(tb.Context()) })
	return c.Database("foyer")
}

// await waits until something holds that has no event.
func await(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			tb.Fatalf("%s does not come", what)
		}
	}
}

func TestBus(t *testing.T) {
	server := mongodbtest.Start(t, freeport.New(t), t.TempDir())
	url := "mongodb://" + server.Addr + "/foyer"
	var clusters atomic.Int64
	adaptertest.Run(t, func(t *testing.T) adaptertest.Cluster {
		name := fmt.Sprintf("foyer%d", clusters.Add(1))
		stranger := sync.OnceValue(func() *mongo.Database { return client(t, url) })
		return adaptertest.Cluster{
			Open: func(node service.NodeID) adapter.Bus {
				return connect(t, Config{Node: node, Cluster: name, URL: url, bytes: testBytes, callTimeout: callTimeout})
			},
			Stranger: func(node service.NodeID) adapter.Bus {
				return connect(t, Config{Node: node, Cluster: name + "x", URL: url, callTimeout: callTimeout})
			},
			Ordered: true, Whole: true, Flood: 2 << 20, // the test server is slow
			Forge: func(to service.NodeID, frame []byte) {
				if to == "" {
					to = toAll
				}
				var p pack
				p.add(to, 0, frame)
				cut := binary.LittleEndian.AppendUint32(append([]byte(to), make([]byte, 8)...), 1<<32-1)
				list := bson.A{string(to)}
				for _, doc := range []bson.D{
					{{Key: "to", Value: string(to)}, {Key: "from", Value: "a forger"}, {Key: "frames", Value: p.frames}, {Key: "at", Value: bson.Timestamp{T: 1 << 31}}},
					{{Key: "to", Value: list}},
					{{Key: "to", Value: list}, {Key: "from", Value: int64(7)}, {Key: "frames", Value: "a text"}},
					{{Key: "to", Value: list}, {Key: "from", Value: int64(7)}, {Key: "frames", Value: cut}},
				} {
					if _, err := stranger().Collection(name+".frames").InsertOne(t.Context(), doc); err != nil {
						t.Error(err)
					}
				}
			},
			Break: breakLife,
		}
	})
}

// breakLife has the life of a node end, and every new one too, until it is mended.
func breakLife(bus adapter.Bus) (mend func()) {
	b, _ := bus.(*Bus)
	b.refuse.Store(true)
	b.now.Load().End(errTests)
	return func() { b.refuse.Store(false) }
}
