package mongo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/goleak"

	"foyer/service/adapter/bridge"
	"foyer/service/adapter/bridge/beats"
	"foyer/service/adapter/freeport"
	"foyer/service/adapter/mongodb"
	"foyer/service/adapter/mongodb/mongodbtest"
	"foyer/service/adapter/official"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestOnReplicaSet: these share a server, each in a database of its own.
func TestOnReplicaSet(t *testing.T) {
	port := freeport.New(t)
	server := mongodbtest.Start(t, port, t.TempDir())
	t.Run("hears", func(t *testing.T) { testHears(newStage(t, port, "hears", capped(4<<20)).open()) })
	t.Run("goes on", func(t *testing.T) { testGoesOn(t, port) })
	t.Run("publishes", func(t *testing.T) { testPublishes(t, port) })
	t.Run("repeats nothing", func(t *testing.T) { testRepeatsNothing(t, port) })
	t.Run("frozen", func(t *testing.T) { testFrozen(t, port, server) })
}

// TestAlone: so do these, whose server is in no replica set.
func TestAlone(t *testing.T) {
	port := freeport.New(t)
	mongodbtest.Start(t, port, t.TempDir(), "--standalone")
	t.Run("hears", func(t *testing.T) {
		s := newStage(t, port, "hears", capped(4<<20))
		s.insert(broadcast(peer, "before"))
		testHears(s.open())
	})
	t.Run("goes on", func(t *testing.T) { testGoesOn(t, port) })
	t.Run("gap", func(t *testing.T) { testGap(t, port) })
	t.Run("refused", func(t *testing.T) { testRefused(t, port) })
}

var (
	_ bridge.Medium = (*Medium)(nil)
	_ bridge.Roll   = (*Medium)(nil)
)

const (
	patience = 60 * time.Second
	name     = "events"
	peer     = "0123456789abcdef"
)

// stage is a server with a collection, and a medium whose messages are kept.
type stage struct {
	*testing.T
	*Medium
	db          *driver.Database
	url         string
	callTimeout time.Duration

	mu  sync.Mutex
	got []string
}

// newStage begins with a collection that a function has made, and no medium.
func newStage(t *testing.T, port, database string, prepare func(db *driver.Database) error) *stage {
	t.Helper()
	// A busy server may answer late.
	s := &stage{T: t, url: "mongodb://127.0.0.1:" + port + "/" + database, callTimeout: patience / 4}
	client, err := driver.Connect(options.Client().ApplyURI(s.url))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	s.db = client.Database(database)
	if prepare != nil {
		if err := prepare(s.db); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *stage) medium() *Medium {
	s.Helper()
	url, err := mongodb.ParseURL(s.url)
	if err != nil {
		s.Fatal(err)
	}
	return New(Config{URL: url, Collection: name, UID: "foyer:foyer:AAAA", Ours: "foyer:foyer:", MaxBytes: 1 << 20, callTimeout: s.callTimeout})
}

// open has the medium hear.
func (s *stage) open() *stage {
	s.Helper()
	s.Medium = s.medium()
	if err := s.Open(func(m *official.Message) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got = append(s.got, m.Event)
	}); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { s.Close() })
	s.await("the server", func() bool { return s.now() != nil })
	return s
}

func capped(bytes int64) func(db *driver.Database) error {
	return func(db *driver.Database) error {
		return db.CreateCollection(context.Background(), name, options.CreateCollection().SetCapped(true).SetSizeInBytes(bytes))
	}
}

func (s *stage) await(what string, holds func() bool) {
	s.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.Fatalf("%s does not come; it has heard %q, dropped %v", what, s.got, s.Dropped())
		}
	}
}

func (s *stage) heard() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.got...)
}

// wants waits for events, in their order and none else.
func (s *stage) wants(events ...string) {
	s.Helper()
	s.await("an event", func() bool { return len(s.heard()) >= len(events) })
	if got := s.heard(); strings.Join(got, " ") != strings.Join(events, " ") {
		s.Errorf("it has heard %q, want %q", got, events)
	}
}

// broadcast is what the official adapter inserts.
func broadcast(uid, event string) bson.D {
	return bson.D{{Key: "type", Value: 3}, {Key: "data", Value: bson.D{
		{Key: "packet", Value: bson.D{{Key: "type", Value: 2}, {Key: "data", Value: bson.A{event}}}},
		{Key: "opts", Value: bson.D{{Key: "rooms", Value: bson.A{}}, {Key: "except", Value: bson.A{}}, {Key: "flags", Value: bson.D{}}}},
	}}, {Key: "uid", Value: uid}, {Key: "nsp", Value: "/"}}
}

func (s *stage) insert(documents ...any) {
	s.Helper()
	if _, err := s.db.Collection(name).InsertMany(s.Context(), documents); err != nil {
		s.Fatal(err)
	}
}

// testHears: what servers on Node and emitters say in a namespace that is followed comes once, in the order of the
// collection; what nodes have said, sessions and what is none of the messages do no harm; peers are counted.
func testHears(s *stage) {
	s.Follow("/", true)
	s.insert(
		broadcast(peer, "one"),
		broadcast("foyer:foyer:BBBB", "of a node"),
		broadcast("foyer:foyer:AAAA", "of its own"),
		bson.D{{Key: "type", Value: 13}, {Key: "data", Value: bson.D{{Key: "sid", Value: "s"}, {Key: "pid", Value: "p"}}}, {Key: "uid", Value: peer}, {Key: "nsp", Value: "/"}},
		bson.D{{Key: "type", Value: "3"}, {Key: "uid", Value: bson.A{}}, {Key: "nsp", Value: "/"}},
		bson.D{{Key: "type", Value: 3}, {Key: "uid", Value: peer}, {Key: "nsp", Value: "/"}, {Key: "data", Value: bson.D{{Key: "packet", Value: 1}}}},
		bson.D{{Key: "type", Value: 99}, {Key: "uid", Value: peer}, {Key: "nsp", Value: "/"}},
		bson.D{{Key: "type", Value: 12}, {Key: "uid", Value: peer}, {Key: "nsp", Value: "/"}, {Key: "data", Value: bson.D{{Key: "requestId", Value: "of another"}}}},
		bson.D{{Key: "something", Value: "else"}},
		append(broadcast(peer, "large"), bson.E{Key: "pad", Value: make([]byte, 1<<20)}),
		broadcast("emitter", "two"),
	)
	elsewhere := broadcast(peer, "elsewhere")
	elsewhere[3].Value = "/elsewhere"
	s.insert(elsewhere, broadcast("fedcba9876543210", "three"))
	s.wants("one", "two", "three")
	if n, err := s.Peers(s.Context(), "/"); n != 2 || err != nil {
		s.Errorf("%d peers, %v, want 2", n, err)
	}
	if gone, err := s.Gone(s.Context(), "/", []string{peer, "another"}); len(gone) != 1 || gone[0] != "another" || err != nil {
		s.Errorf("gone are %q, %v", gone, err)
	}
	for _, reason := range []official.Fault{official.Shape, official.Unknown, official.TooLarge} {
		if s.Dropped()[reason.Reason()] == 0 {
			s.Errorf("nothing was dropped for %s: %v", reason.Reason(), s.Dropped())
		}
	}
	if s.Dropped()["gap"] != 0 {
		s.Errorf("a gap was counted: %v", s.Dropped())
	}
}

// testPublishes: what this node says is inserted once, in its order, with the date where the collection gives up what
// is old, and not where servers on Node would be hurt.
func testPublishes(t *testing.T, port string) {
	s := newStage(t, port, "publishes", func(db *driver.Database) error {
		_, err := db.Collection(name).Indexes().CreateOne(context.Background(), driver.IndexModel{
			Keys: bson.D{{Key: "createdAt", Value: 1}}, Options: options.Index().SetExpireAfterSeconds(60),
		})
		return err
	}).open()
	const many = 300
	for i := range many {
		m := &official.Message{Kind: official.Broadcast, UID: "foyer:foyer:AAAA", Namespace: "/", Payload: fmt.Appendf(nil, `["e",%d]`, i)}
		if err := s.Publish(m, ""); err != nil {
			t.Fatal(err)
		}
	}
	m := &official.Message{Kind: official.Broadcast, UID: "foyer:foyer:AAAA", Namespace: "/", Payload: []byte(`["e","` + strings.Repeat("x", maxDocument) + `"]`)}
	if err := s.Publish(m, ""); !errors.Is(err, official.TooLarge) {
		t.Errorf("a document that the change stream could not give out: %v", err)
	}
	for range 3 {
		m.Payload = []byte(`["e","` + strings.Repeat("x", outBytes/2) + `"]`)
		if err := s.Publish(m, ""); err != nil && !errors.Is(err, errFull) {
			t.Error(err)
		}
	}
	var docs []struct {
		CreatedAt time.Time `bson:"createdAt"`
		Data      struct {
			Packet struct {
				Data []any `bson:"data"`
			} `bson:"packet"`
		} `bson:"data"`
	}
	s.await("what was published", func() bool {
		cursor, err := s.db.Collection(name).Find(t.Context(), bson.D{{Key: "type", Value: 3}}, options.Find().SetSort(bson.D{{Key: "$natural", Value: 1}}))
		if err != nil {
			t.Fatal(err)
		}
		if err := cursor.All(t.Context(), &docs); err != nil {
			t.Fatal(err)
		}
		return len(docs) > many
	})
	for i := range many {
		if got := docs[i].Data.Packet.Data[1]; fmt.Sprint(got) != fmt.Sprint(i) || time.Since(docs[i].CreatedAt) > time.Hour {
			t.Fatalf("document %d is %v of %v", i, got, docs[i].CreatedAt)
		}
	}
}

// testGoesOn: when the way to the server breaks, what was said meanwhile is heard, and nothing twice.
func testGoesOn(t *testing.T, port string) {
	s := newStage(t, port, "goes_on", capped(4<<20)).open()
	s.Follow("/", true)
	s.insert(broadcast(peer, "one"))
	s.wants("one")
	for round := range 2 {
		l := s.now()
		l.cancel()
		s.await("the end of the life", func() bool { return s.now() != l })
		s.insert(broadcast(peer, fmt.Sprint("meanwhile ", round)))
		s.await("the next life", func() bool { return s.now() != nil })
		s.insert(broadcast(peer, fmt.Sprint("after ", round)))
		s.await("what was said", func() bool { return len(s.heard()) == 3+2*round })
	}
	s.wants("one", "meanwhile 0", "after 0", "meanwhile 1", "after 1")
	s.await("peers", func() bool {
		n, err := s.Peers(t.Context(), "/")
		return n == 1 && err == nil
	})
	if n := s.Dropped()["gap"]; n != 0 {
		t.Errorf("%d gaps", n)
	}
}

// testGap: when the server does not know the place any more, the medium goes on at the present, and says so.
func testGap(t *testing.T, port string) {
	s := newStage(t, port, "gap", capped(256<<10)).open()
	s.Follow("/", true)
	s.insert(broadcast(peer, "one"))
	s.wants("one")
	s.await("a gap", func() bool {
		documents := make([]any, 40)
		for i := range documents {
			documents[i] = bson.D{{Key: "type", Value: 2}, {Key: "uid", Value: peer}, {Key: "nsp", Value: "/x"}, {Key: "pad", Value: make([]byte, 16<<10)}}
		}
		s.insert(documents...)
		return s.Dropped()["gap"] > 0
	})
	s.await("another life", func() bool { return s.now() != nil })
	s.await("an event", func() bool {
		s.insert(broadcast(peer, "again"))
		return len(s.heard()) > 1
	})
}

// testRepeatsNothing: documents whose insertion is tried again are there once, in their order.
func testRepeatsNothing(t *testing.T, port string) {
	s := newStage(t, port, "repeats", capped(4<<20)).open()
	var list []saying
	for i := range 5 {
		doc, err := bson.Marshal(append(broadcast("foyer:foyer:AAAA", fmt.Sprint(i)), bson.E{Key: "_id", Value: bson.NewObjectID()}))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, saying{doc: doc, at: time.Now()})
	}
	s.Medium.insert(list[:3]) // the answer of this one is taken for lost
	s.Medium.insert(list)
	cursor, err := s.db.Collection(name).Find(t.Context(), bson.D{{Key: "type", Value: 3}})
	if err != nil {
		t.Fatal(err)
	}
	var all []bson.Raw
	if err := cursor.All(t.Context(), &all); err != nil || len(all) != 5 {
		t.Fatalf("%d documents, %v, want 5", len(all), err)
	}
	for i, doc := range all {
		if doc.Lookup("_id").ObjectID() != list[i].doc.Lookup("_id").ObjectID() {
			t.Errorf("document %d is another one", i)
		}
	}
	if n := s.Dropped()["lost"]; n != 0 {
		t.Errorf("%d are counted as lost", n)
	}
}

// testFrozen freezes the server. Meanwhile no call waits for it; documents that wait to be inserted are bounded, and
// are given up after a time. Afterwards this node hears servers on Node again, and its own documents are inserted once
// and in order.
func testFrozen(t *testing.T, port string, server *mongodbtest.Server) {
	s := newStage(t, port, "frozen", capped(64<<20)) // what was on its way when it froze takes nothing away
	s.callTimeout = 0                                // the loss comes soon
	s.open()
	s.Follow("/", true)
	s.insert(broadcast(peer, "before"))
	s.wants("before")
	message := func(payload string, attachments ...[]byte) *official.Message {
		return &official.Message{Kind: official.Broadcast, UID: "foyer:foyer:AAAA", Namespace: "/", Payload: []byte(payload), Attachments: attachments}
	}
	say := func(text string) error { return s.Publish(message(fmt.Sprintf(`[%q]`, text)), "") }
	signal := func(what os.Signal) {
		if err := server.Process.Signal(what); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	defer signal(syscall.SIGCONT)
	large := message(`["large",{"_placeholder":true,"num":0}]`, make([]byte, outBytes)) // a second one finds no room
	s.await("the bound", func() bool { return errors.Is(s.Publish(large, ""), errFull) })
	s.await("a loss", func() bool { return s.Dropped()["lost"] > 0 })
	signal(syscall.SIGCONT)
	s.await("the server", func() bool { return s.now() != nil && say("again") == nil })
	for i := range 100 {
		s.await("room", func() bool { return say(fmt.Sprint("after ", i)) == nil })
	}
	s.insert(broadcast(peer, "after"))
	s.await("what a server on Node says", func() bool { return slices.Contains(s.heard(), "after") })
	var got []string
	s.await("what this node says", func() bool {
		cursor, err := s.db.Collection(name).Find(t.Context(), bson.D{{Key: "uid", Value: "foyer:foyer:AAAA"}, {Key: "type", Value: 3}})
		if err != nil {
			t.Fatal(err)
		}
		var docs []bson.Raw
		if err := cursor.All(t.Context(), &docs); err != nil {
			t.Fatal(err)
		}
		got = got[:0]
		for _, doc := range docs {
			if text := doc.Lookup("data", "packet", "data", "0").StringValue(); strings.HasPrefix(text, "after") {
				got = append(got, text)
			}
		}
		return len(got) >= 100
	})
	for i := range 100 {
		if got[i] != fmt.Sprint("after ", i) {
			t.Fatalf("document %d is %q of %q", i, got[i], got)
		}
	}
}

// testRefused: a collection that does not do is told at start.
func testRefused(t *testing.T, port string) {
	s := newStage(t, port, "refused", nil)
	for _, test := range []struct {
		prepare func() error
		want    string
	}{
		{func() error { return nil }, "there is no collection events in the database refused"},
		{func() error { return s.db.CreateCollection(t.Context(), name) }, "in no replica set"},
	} {
		if err := test.prepare(); err != nil {
			t.Fatal(err)
		}
		var err error
		s.await("a refusal", func() bool { // a server that is slow refuses nothing
			m := s.medium()
			defer m.Close()
			err = m.Open(func(*official.Message) {})
			return err != nil
		})
		if _, ok := errors.AsType[*CollectionError](err); !ok || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want one line about %q", err, test.want)
		}
	}
}

// TestHearings: a namespace that was used is given back, those that are used without end are bounded, and this node is
// one of the servers as long as others count it.
func TestHearings(t *testing.T) {
	url, err := mongodb.ParseURL("mongodb://127.0.0.1:1/app")
	if err != nil {
		t.Fatal(err)
	}
	m := New(Config{URL: url, Collection: name, UID: "foyer:foyer:AAAA", Ours: "foyer:foyer:"})
	m.life = &life{}
	for i := range maxHearings + 1 {
		err := m.Publish(&official.Message{Kind: official.Heartbeat, UID: "foyer:foyer:AAAA", Namespace: fmt.Sprint("/", i)}, "")
		if want := i == maxHearings; errors.Is(err, errMany) != want {
			t.Fatalf("namespace %d: %v", i, err)
		}
	}
	m.Follow("/wanted", true)
	if !m.hears("/0") || !m.hears("/wanted") || m.hears("/never") {
		t.Error("it does not hear where it has spoken, or where it has not")
	}
	m.mu.Lock()
	for _, h := range m.hearings {
		h.said = h.said.Add(-time.Minute)
	}
	m.mu.Unlock()
	m.unused()
	if len(m.hearings) != 1 || !m.hears("/wanted") {
		t.Errorf("%d namespaces are known", len(m.hearings))
	}
	m.Follow("/wanted", false)
	if list := m.unused(); len(list) != 1 {
		t.Errorf("given back are %v", list)
	}
	if m.hears("/wanted") {
		t.Error("it hears where nobody counts it")
	}
}

// TestGivenBackWhileALifeBegins: beats know only of namespaces that are heard. There are many, so that some are given
// back before beats are told of them.
func TestGivenBackWhileALifeBegins(t *testing.T) {
	url, err := mongodb.ParseURL("mongodb://127.0.0.1:1/app")
	if err != nil {
		t.Fatal(err)
	}
	m := New(Config{URL: url, Collection: name, UID: "foyer:foyer:AAAA", Ours: "foyer:foyer:"})
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprint("/", i))
	}
	for range 20 {
		for _, namespace := range names {
			m.Follow(namespace, true)
			m.Follow(namespace, false)
		}
		var both sync.WaitGroup
		both.Go(func() { m.begin(&life{}) })
		both.Go(func() {
			for m.now() == nil {
				runtime.Gosched()
			}
			m.giveBack()
		})
		both.Wait()
		ctx, stop := context.WithCancel(t.Context())
		stop()
		for _, namespace := range names {
			if _, err := m.beats.Peers(ctx, namespace); !errors.Is(err, beats.ErrUnheard) {
				t.Fatalf("%s is heard: %v", namespace, err)
			}
		}
		m.life = nil
	}
}
