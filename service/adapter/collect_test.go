package adapter

import (
	"testing"
	"testing/synctest"

	"go.uber.org/zap"

	"foyer/service"
)

// still is a bus on which nothing happens.
type still struct{ Bus }

func (still) MaxFrame() int { return MinFrame }

// TestOnlyWhatWasAskedBeforeIsLost: when a node begins an epoch, or a run of it is over, the events end that it was
// handed before that moment. Those that it is handed a moment later go on, though this node has not worked off yet what
// has happened.
func TestOnlyWhatWasAskedBeforeIsLost(t *testing.T) {
	synctest.Test(t, testOnlyWhatWasAskedBeforeIsLost)
}

func testOnlyWhatWasAskedBeforeIsLost(t *testing.T) {
	node, err := service.New(service.Config{Namespaces: []service.NamespaceConfig{{Pattern: "/"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	of := Member{Incarnation: service.Incarnation{Node: "BBBB", Run: 1}, State: Gone}
	for name, happens := range map[string]func(upper){
		"an epoch":         func(u upper) { u.Began(of) },
		"the end of a run": func(u upper) { u.Changed(of) },
		"both, one by one": func(u upper) { u.Began(of); u.Changed(of) },
	} {
		c, err := NewCluster(Config{Self: service.Incarnation{Node: "AAAA", Run: 1}}, still{}, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		c.Node = node
		asked := func(number uint64) *service.Acks {
			a, err := node.CollectAcks(t.Context(), service.Emit{
				Target: service.Target{Namespace: "/", All: true}, Packet: &service.Packet{Kind: service.KindEvent, Namespace: "/", AckID: service.NoAck, Payload: []byte(`["e"]`), Event: "e"},
			}, 0)
			if err != nil {
				t.Fatal(err)
			}
			c.collect.begin(a, number, []service.NodeID{"BBBB"})
			return a
		}
		before := asked(1)
		c.mu.Lock()
		happens(upper{c})
		after := asked(2)
		c.mu.Unlock()
		synctest.Wait()
		if got := before.Coverage().Unreachable; len(got) != 1 {
			t.Errorf("%s: of what was asked before, %v is named", name, got)
		}
		if got := after.Coverage().Unreachable; len(got) != 0 {
			t.Errorf("%s: of what was asked after, %v is named", name, got)
		}
		c.stop()
		c.ended.Wait()
	}
}
