//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"foyer/service/adapter/freeport"
)

// mongoServer runs a server that is alone in its replica set.
func mongoServer(t testing.TB, port string, more ...string) *process {
	t.Helper()
	args := append([]string{"--host", "127.0.0.1", "--port", port, "--storage-path", t.TempDir(), "--cache-size", "64M"}, more...)
	p := start(t, "secantusd-py", nil, args...)
	t.Cleanup(p.kill)
	if _, _, err := p.log.await(0, patience, func(line string) bool { return strings.Contains(line, "listening on") }); err != nil {
		t.Fatalf("no MongoDB server: %v\n%s", err, p.tail(20))
	}
	return p
}

// eventCollection is the one that servers on Node and nodes share, which an application makes.
const eventCollection = "socket.io-adapter-events"

// onMongo is a MongoDB server with such a collection: a capped one, or one that gives up documents by their age.
func onMongo(capped bool) *medium {
	m := &medium{
		name: "mongo", options: fmt.Sprintf(`{"collection": %q, "addCreatedAtField": %v}`, eventCollection, !capped), emitter: true, beats: true, strict: true,
		flags: func(url string) []string {
			return []string{"--cluster=mongo", "--cluster-url=" + url, "--cluster-collection=" + eventCollection}
		},
	}
	m.serve = func(t testing.TB) string {
		port := freeport.New(t)
		mongoServer(t, port)
		url := "mongodb://127.0.0.1:" + port + "/app"
		client, err := mongo.Connect(options.Client().ApplyURI(url))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) }()
		db := client.Database("app")
		if capped {
			err = db.CreateCollection(t.Context(), eventCollection, options.CreateCollection().SetCapped(true).SetSizeInBytes(1e6))
		} else {
			_, err = db.Collection(eventCollection).Indexes().CreateOne(t.Context(), mongo.IndexModel{
				Keys: bson.D{{Key: "createdAt", Value: 1}}, Options: options.Index().SetExpireAfterSeconds(3600),
			})
		}
		// That of the nodes is small here, since this server looks through all of it for each thing that it gives out.
		small := options.CreateCollection().SetCapped(true).SetSizeInBytes(2 << 20).SetMaxDocuments(200)
		if err := errors.Join(err, db.CreateCollection(t.Context(), "foyer.frames", small)); err != nil {
			t.Fatal(err)
		}
		return url
	}
	return m
}

// TestPeersOnMongo: servers on Node with the MongoDB adapter, its emitter and nodes of Foyer are one.
func TestPeersOnMongo(t *testing.T) { testPeers(t, onMongo(true)) }

// TestPeersRefusedOnMongo: a node that cannot share what it is to share says so in one line, which names the setting.
func TestPeersRefusedOnMongo(t *testing.T) {
	port := freeport.New(t)
	mongoServer(t, port, "--standalone")
	url := "mongodb://127.0.0.1:" + port + "/app"
	client, err := mongo.Connect(options.Client().ApplyURI(url))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) }()
	if err := client.Database("app").CreateCollection(t.Context(), eventCollection); err != nil {
		t.Fatal(err)
	}
	for collection, want := range map[string]string{
		"missing":       "--cluster-collection: there is no collection missing in the database app",
		eventCollection: "--cluster-collection: this MongoDB server is in no replica set",
	} {
		p := start(t, binary(t), nil, "serve", "--edge=127.0.0.1:0", "--api=127.0.0.1:0", "--admin=127.0.0.1:0",
			"--cluster=mongo", "--cluster-url="+url, "--cluster-collection="+collection)
		if code, said := p.exit(t, patience), p.tail(1); code != 1 || !strings.Contains(said, want) {
			t.Errorf("with collection %s it ends with %d and says\n%s\nwant %q", collection, code, said, want)
		}
	}
}

// TestPeersAreLostOnMongo: a server on Node that is killed or frozen amid a call is told by number.
func TestPeersAreLostOnMongo(t *testing.T) { testPeersLost(t, onMongo(true)) }

// TestPeersLiveOnMongo: nothing that a backend can ask of Foyer becomes a document that ends a server on Node.
func TestPeersLiveOnMongo(t *testing.T) { testServersLive(t, onMongo(true)) }
