package adapter_test

import (
	"fmt"
	"testing"
	"time"

	"foyer/service"
	"foyer/service/adapter"
)

// TestNothingIsKeptOfWhoHasGone: clients, backends and calls come and go, and then each node keeps what it kept before.
func TestNothingIsKeptOfWhoHasGone(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		kept := func(name service.NodeID) map[string]int64 { return c.nodes[name].Info().Kept }
		before := map[service.NodeID]map[string]int64{}
		for _, name := range abc {
			before[name] = kept(name)
		}
		for range 3 {
			b := c.attach("AAAA", service.Registration{}, nil)
			s, l := c.connect("BBBB", "/")
			c.join("BBBB", s, "room")
			c.send("BBBB", s, 7, `["ask",1]`)
			c.pass(time.Second)
			want(t, "ack", l.take(), []string{`7["ok"]`})
			has := kept("AAAA")
			want(t, "meanwhile", []int64{has["cluster_handlers"], has["cluster_visits"], has["cluster_rooms_elsewhere"] - before["AAAA"]["cluster_rooms_elsewhere"]}, []int64{1, 1, 2})
			want(t, "there", []int64{kept("BBBB")["cluster_handlers_elsewhere"], kept("BBBB")["cluster_streams"], kept("BBBB")["rooms"]}, []int64{1, 1, 1})
			c.nodes["BBBB"].End(s, service.ReasonTransportClose, "")
			b.leave()
			c.pass(10 * time.Second)
		}
		for _, name := range abc {
			want(t, "kept by "+string(name), kept(name), before[name])
		}
	})
}

// TestNoInboxIsKeptOfANodeThatHasGone: nodes come and go under other names, in good order or not, while they are asked
// and have handlers.
func TestNoInboxIsKeptOfANodeThatHasGone(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		for i := range 3 {
			name := service.NodeID(fmt.Sprint("DDD", i))
			c.start(name, service.Config{}, adapter.Config{})
			c.attach(name, service.Registration{}, nil)
			s, _ := c.connect(name, "/")
			c.emit(name, service.Target{All: true}, `["x"]`)
			c.join(name, s, "room")
			c.pass(time.Second)
			want(t, "meanwhile", fmt.Sprint(c.nodes["AAAA"].Inboxes()), fmt.Sprintf("[BBBB CCCC %s]", name))
			if i == 1 {
				for _, other := range abc {
					c.faults.Cut(name, other)
				}
				c.pass(10 * time.Second)
			}
			c.stop(name)
			c.pass(2 * time.Minute)
			want(t, "then", fmt.Sprint(c.nodes["AAAA"].Inboxes()), "[BBBB CCCC]")
		}
	})
}
