package bridge_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/bridge"
	"foyer/service/adapter/membus"
)

// halls is an air on which rooms are heard one by one.
type halls struct {
	air
	held  map[string]int
	after time.Duration // until what others say to a room is heard
	mine  sync.Mutex
}

func (h *halls) Room(namespace, room string, on bool) {
	h.mine.Lock()
	defer h.mine.Unlock()
	name := namespace + " " + room
	if on {
		h.held[name]++
	} else if h.held[name]--; h.held[name] == 0 {
		delete(h.held, name)
	}
}

func (h *halls) Heard(namespace, room string) <-chan struct{} {
	h.mine.Lock()
	defer h.mine.Unlock()
	heard := make(chan struct{})
	if h.held[namespace+" "+room] == 0 {
		close(heard)
	} else {
		time.AfterFunc(h.after, func() { close(heard) })
	}
	return heard
}

// rooms are those that are heard, without sockets' own.
func (h *halls) rooms(own bool) (list []string) {
	synctest.Wait()
	h.mine.Lock()
	defer h.mine.Unlock()
	for name := range h.held {
		if (len(name) == len("/ ")+20) == own {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// TestRoomsAreHeardWhileTheyAreUsed: a room, and a socket's own, is heard while it has sockets here. A socket that
// joins by a call, or connects into a room, is in once what peers say to the room is heard, or once the time for that
// is over.
func TestRoomsAreHeardWhileTheyAreUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heard := make(chan struct{})
		close(heard)
		h := &halls{air: air{peers: 1, heard: heard}, held: map[string]int{}, after: 100 * time.Millisecond}
		cluster, err := adapter.NewCluster(adapter.Config{Self: service.NewIncarnation("AAAA")}, membus.New().Open("AAAA"), zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t, &h.air, bridge.New(cluster, "c", "AAAA", h, zap.NewNop())}
		w.start(cluster, func() {
			s, _ := w.connect("/")
			own := service.Target{Namespace: "/", Rooms: []string{string(s.ID())}}
			w.want("sockets", h.rooms(true), []string{"/ " + string(s.ID())})
			w.want("rooms", h.rooms(false), []string{})
			join := func(room string) time.Duration {
				began := time.Now()
				if _, _, err := w.b.Join(w.Context(), own, []string{room}); err != nil {
					t.Fatal(err)
				}
				return time.Since(began)
			}
			w.want("how long a join takes", join("r"), 100*time.Millisecond)
			h.after = time.Minute
			w.want("how long one takes that is not heard", join("s"), 250*time.Millisecond)
			w.want("rooms", h.rooms(false), []string{"/ r", "/ s"})
			_, _, _ = w.b.Leave(w.Context(), own, []string{"r"})
			w.want("rooms", h.rooms(false), []string{"/ s"})

			h.after = 100 * time.Millisecond
			began, in := time.Now(), make(chan struct{})
			w.b.Expect("/", []string{"t"}, func() { close(in) })
			w.want("rooms", h.rooms(false), []string{"/ s", "/ t"})
			<-in
			w.want("how long one waits who connects", time.Since(began), 100*time.Millisecond)
			w.want("rooms when nobody came", h.rooms(false), []string{"/ s"})

			_, _, _ = w.b.Disconnect(w.Context(), own, service.DisconnectNamespace)
			w.want("with nobody", append(h.rooms(false), h.rooms(true)...), []string{})
		})
	})
}
