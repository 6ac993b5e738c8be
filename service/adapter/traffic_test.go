package adapter

import (
	"testing"
	"time"
)

// TestTraffic: what one end sends, the other end hears, in frames, items and bytes. What is sent again counts as such.
// Traffic also says for how long a peer has confirmed nothing.
func TestTraffic(t *testing.T) {
	s, a, b := pair(t)
	from, to := a.p.Traffic(s.now), b.p.Traffic(s.now)
	if from.Epochs != 1 || from.Out.Frames == 0 || from.Out.Bytes == 0 || from.Resent != 0 || from.Unheard != 0 {
		t.Errorf("when they have met: %+v", from)
	}
	for range 3 {
		a.publish(10)
	}
	a.p.Flush(s.now)
	now := a.p.Traffic(s.now)
	if got := now.Out; got.Frames != from.Out.Frames+1 || got.Items != from.Out.Items+3 || got.Bytes < from.Out.Bytes+30 {
		t.Errorf("three emits: %+v, and %+v before", got, from.Out)
	}
	lost := a.p.Take()
	if len(lost) != 1 || int(now.Out.Bytes-from.Out.Bytes) != len(lost[0].Frame) {
		t.Errorf("%d frames, and %d bytes are counted", len(lost), now.Out.Bytes-from.Out.Bytes)
	}
	a.done()
	s.run(s.now + 100*time.Millisecond)
	if got := a.p.Traffic(s.now).Unheard; got != 100*time.Millisecond {
		t.Errorf("unheard for %v", got)
	}
	s.run(s.now + 900*time.Millisecond)
	heard := b.p.Traffic(s.now)
	if got := heard.In.Items - to.In.Items; got != 3 || len(b.got) != 3 {
		t.Errorf("%d items are heard, and %d emits", got, len(b.got))
	}
	if got := a.p.Traffic(s.now); got.Resent != 1 || got.Unheard != 0 || got.Epochs != 1 {
		t.Errorf("repaired: %+v", got)
	}
	if frames := heard.In.Frames - to.In.Frames; frames == 0 || heard.In.Bytes-to.In.Bytes < 30 {
		t.Errorf("%d frames of %d bytes", frames, heard.In.Bytes-to.In.Bytes)
	}
}
