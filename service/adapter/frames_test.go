package adapter_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"foyer/service"
)

// TestFramesOfAnEmit: an emit costs one frame to each node that has recipients, and none to others; those that come
// at once share a frame.
func TestFramesOfAnEmit(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		c.connect("AAAA", "/", "here")
		c.connect("BBBB", "/", "one", "two")
		c.connect("CCCC", "/", "two")
		synctest.Wait()
		for room, frames := range map[string]int64{"nobody": 0, "here": 0, "one": 1, "two": 2} {
			// News of the rooms above may share the first frame.
			c.emit("AAAA", service.Target{Rooms: []string{room}}, `["x"]`)
			synctest.Wait()
			before := c.sent["AAAA"].Load()
			c.emit("AAAA", service.Target{Rooms: []string{room}}, `["x"]`)
			want(t, fmt.Sprintf("frames of an emit to %q", room), c.sent["AAAA"].Load()-before, frames)
		}
		const batch = 64
		emits := make([]service.Emit, batch)
		for i := range emits {
			emits[i] = service.Emit{Target: service.Target{Namespace: "/", Rooms: []string{"two"}}, Packet: event(`["x"]`)}
		}
		before := c.sent["AAAA"].Load()
		for i, r := range c.nodes["AAAA"].EmitBatch(t.Context(), emits) {
			want(t, fmt.Sprintf("recipients of emit %d", i), r.Enqueued, 2)
		}
		want(t, "frames of many emits at once", c.sent["AAAA"].Load()-before, 2)
	})
}
