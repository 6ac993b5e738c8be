package adapter_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"foyer/service"
	"foyer/service/adapter"
)

// listed are the nodes as one of them lists them, with how long each has been so and how long ago it was heard.
func (c *cluster) listed(at service.NodeID) (list []string) {
	words := map[service.NodeState]string{
		service.NodeUp: "up", service.NodeJoining: "joining", service.NodeSilent: "silent", service.NodeDraining: "draining",
		service.NodeLost: "lost", service.NodeIncompatible: "incompatible",
	}
	for _, n := range c.nodes[at].Nodes() {
		list = append(list, fmt.Sprintf("%s %s %v %v", n.Node, words[n.State], time.Since(n.Since).Round(time.Second), time.Since(n.Heard).Round(time.Second)))
	}
	return list
}

// TestNodes: a node lists itself and the others, each as it is: silent and lost in their time, draining when it says
// so, and not at all when it has gone. Nobody is asked.
func TestNodes(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		want(t, "at rest", c.listed("BBBB"), []string{"AAAA up 3s 0s", "BBBB up 3s 0s", "CCCC up 3s 0s"})
		c.faults.Part("BBBB", "CCCC")
		time.Sleep(3 * time.Second)
		want(t, "silent", c.listed("BBBB"), []string{"AAAA up 6s 0s", "BBBB up 6s 0s", "CCCC silent 1s 3s"})
		time.Sleep(3 * time.Second)
		want(t, "lost", c.listed("BBBB"), []string{"AAAA up 9s 0s", "BBBB up 9s 0s", "CCCC lost 1s 6s"})
		c.faults.Clear()
		time.Sleep(3 * time.Second)
		if got := c.listed("BBBB"); got[2][:7] != "CCCC up" {
			t.Errorf("back: %v", got)
		}
		c.nodes["AAAA"].Depart()
		synctest.Wait()
		time.Sleep(100 * time.Millisecond)
		want(t, "draining", c.listed("BBBB")[0], "AAAA draining 0s 0s")
		want(t, "draining, by itself", c.listed("AAAA")[0][:13], "AAAA draining")
		c.stop("AAAA")
		time.Sleep(100 * time.Millisecond)
		want(t, "gone", len(c.listed("BBBB")), 2)
	})
}

// TestMissing: a node that joins names those that it waits for, which is nobody once it serves without them.
func TestMissing(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		c.faults.Part("CCCC", "DDDD")
		bus := c.faults.Wrap("DDDD", c.net.Open("DDDD"))
		n, err := adapter.NewCluster(adapter.Config{Self: service.NewIncarnation("DDDD"), Version: "v1", Address: "here:1"}, bus, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		node, err := service.New(service.Config{NodeID: "DDDD", Remote: n})
		if err != nil {
			t.Fatal(err)
		}
		n.Node = node
		began, started := time.Now(), make(chan error, 1)
		go func() { started <- n.Start(t.Context(), node) }()
		time.Sleep(time.Second)
		want(t, "that are missing", n.Missing(), []service.NodeID{"CCCC"})
		c.nodes["DDDD"] = n
		if got := c.listed("DDDD"); got[2][:11] != "CCCC silent" || got[3][:12] != "DDDD joining" {
			t.Errorf("while it joins: %v", got)
		}
		if err := <-started; err != nil || time.Since(began) != 2*time.Second {
			t.Errorf("it serves after %v, %v", time.Since(began), err)
		}
		self := n.Nodes()[3]
		want(t, "itself", fmt.Sprintln(self.State == service.NodeUp, self.Version, self.Address), "true v1 here:1\n")
		c.stop("DDDD")
	})
}

// TestDroppedOnTheWay: what is dropped between nodes is counted by its reason beside what the node drops.
func TestDroppedOnTheWay(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		want(t, "at rest", c.nodes["AAAA"].Info().Dropped, map[string]int64{})
		bus := c.net.Open("XXXX")
		for _, frame := range []string{"nonsense", ""} {
			_ = bus.SendAll([]byte(frame))
		}
		synctest.Wait()
		want(t, "of a stranger", c.nodes["AAAA"].Info().Dropped, map[string]int64{"cluster_frame_check": 1})
		bus.Close()

		_, _ = c.connect("BBBB", "/", "room")
		c.faults.Part("AAAA", "BBBB")
		c.emit("AAAA", service.Target{Rooms: []string{"room"}}, `["x"]`)
		time.Sleep(7 * time.Second)
		if got := c.nodes["AAAA"].Info().Dropped["cluster_epoch"]; got != 1 {
			t.Errorf("%d emits are counted as lost with the way to a node, want 1", got)
		}
	})
}
