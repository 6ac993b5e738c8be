package membus

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/adaptertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBus(t *testing.T) {
	adaptertest.Run(t, func(*testing.T) adaptertest.Cluster {
		network := New()
		return adaptertest.Cluster{
			Open:    func(name service.NodeID) adapter.Bus { return network.Open(name) },
			Ordered: true, Whole: true,
		}
	})
}

// A wrapped bus holds the contract in any weather.
func TestFaulty(t *testing.T) {
	foul := Weather{Lose: 0.1, Repeat: 0.1, Delay: time.Millisecond, Stray: 0.1, Late: 5 * time.Millisecond}
	for name, weather := range map[string]Weather{"slow": {Delay: 2 * time.Millisecond}, "foul": foul} {
		t.Run(name, func(t *testing.T) {
			adaptertest.Run(t, func(*testing.T) adaptertest.Cluster {
				network, faults := New(), NewFaults(1)
				faults.Set(weather)
				return adaptertest.Cluster{
					Open:    func(name service.NodeID) adapter.Bus { return faults.Wrap(name, network.Open(name)) },
					Ordered: weather.Stray == 0, Whole: weather.Lose == 0,
					Break: func(bus adapter.Bus) func() {
						faulty, _ := bus.(*Faulty)
						faulty.SetUp(false)
						return func() { faulty.SetUp(true) }
					},
				}
			})
		})
	}
}
