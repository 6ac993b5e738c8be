package adapter

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// laterFields are fields of each type that a later version may have.
func laterFields() (b []byte) {
	b = protowire.AppendVarint(protowire.AppendTag(nil, 15, protowire.VarintType), 0)
	b = protowire.AppendVarint(protowire.AppendTag(b, 100, protowire.VarintType), 7)
	b = protowire.AppendFixed32(protowire.AppendTag(b, 101, protowire.Fixed32Type), 7)
	b = protowire.AppendFixed64(protowire.AppendTag(b, 102, protowire.Fixed64Type), 7)
	for range 2 {
		b = protowire.AppendBytes(protowire.AppendTag(b, 1<<29-1, protowire.BytesType), []byte("later"))
	}
	return b
}

// TestFieldsOfLaterVersionsAreSkipped: with fields that nobody knows in each of its messages, a frame is what it was.
func TestFieldsOfLaterVersionsAreSkipped(t *testing.T) {
	k := newKeys(nil)
	rapid.Check(t, func(t *rapid.T) {
		var wire [][]byte
		for range rapid.IntRange(1, 3).Draw(t, "items") {
			_, b := someItem(t)
			wire = append(wire, b)
		}
		wire = append(wire,
			questionItem(&clusterv1.Question{Call: 7, Ask: &clusterv1.Question_Count{Count: &clusterv1.Target{Namespace: "/", All: true}}}),
			answerItem(&clusterv1.Answer{Call: 7, Explanation: explanationMessage("/", someExplanation())}),
			handlerNewsItem(&clusterv1.HandlerNews{News: &clusterv1.HandlerNews_Gone{Gone: 7}}),
			followItem(&clusterv1.Follow{Namespace: "/", Number: 2, Next: 3}), presenceItem(somePresence()),
		)
		h := someHeader(t, len(wire))
		frame := k.appendFrame(nil, &h, wire)
		want, drop := k.readFrame(frame)
		if drop != 0 {
			t.Fatalf("dropped: %v", drop)
		}
		m := &clusterv1.Frame{}
		if err := proto.Unmarshal(frame, m); err != nil {
			t.Fatal(err)
		}
		messages := 0
		err := protorange.Range(m.ProtoReflect(), func(p protopath.Values) error {
			if m, ok := p.Index(-1).Value.Interface().(protoreflect.Message); ok {
				fields := laterFields()
				if m.Descriptor().FullName() == "foyer.cluster.v1.Frame" {
					fields = fields[2:] // number 15 is its check
				}
				m.SetUnknown(fields)
				messages++
			}
			return nil
		})
		if m.Check = nil; err != nil || messages < 10 {
			t.Fatal(err, messages)
		}
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got, drop := k.readFrame(k.seal(b))
		if drop != 0 {
			t.Fatalf("with what is later, dropped: %v", drop)
		}
		for i := range got.items {
			if why := got.items[i].skipped; why != 0 {
				t.Errorf("item %d is skipped as %v", i, why)
			}
		}
		later := cmp.FilterPath(func(p cmp.Path) bool {
			return p.Last().String() == "[\"@unknown\"]"
		}, cmp.Ignore())
		if diff := cmp.Diff(got.items, want.items, cmp.AllowUnexported(item{}, interest{}, Emit{}, counts{}, notices{}, notice{}, replies{}, reply{}),
			cmpopts.IgnoreFields(item{}, "bytes"), cmpopts.IgnoreFields(replies{}, "bytes"), cmpopts.IgnoreUnexported(service.Notice{}),
			protocmp.Transform(), protocmp.IgnoreUnknown(), later, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("items (-got +want):\n%s", diff)
		}
		if got.header != want.header {
			t.Errorf("header %+v, want %+v", got.header, want.header)
		}
	})
}

// TestAnItemThatIsNotHeardHoldsNobodyUp: what stands around it in its frame, and behind it, is heard at once, and
// nothing is sent again.
func TestAnItemThatIsNotHeardHoldsNobodyUp(t *testing.T) {
	for name, c := range map[string]struct {
		item []byte
		why  Skip
	}{
		"a kind of later": {[]byte{15<<3 | 2, 0}, SkipUnknown},
		"no emit":         {[]byte{5<<3 | 2, 0}, SkipUnreadable},
		"a large one":     {slices.Concat(appendHead(nil, 5, 2000), make([]byte, 2000)), SkipUnreadable}, // in parts
	} {
		s, a, b := pair(t)
		a.publish(10)
		if !a.p.Give("BBBB", c.item) {
			t.Fatal("it is not given")
		}
		a.publish(10)
		a.p.Flush(s.now)
		a.done()
		s.run(s.now + 100*time.Millisecond)
		a.publish(10)
		a.p.Flush(s.now)
		a.done()
		s.run(s.now + 100*time.Millisecond)
		m := a.p.member("BBBB")
		if len(b.got) != 3 || m.out.bytes != 0 || m.out.epoch != 1 || b.p.Skipped(c.why) != 1 || b.p.Dropped(DropUnreadable)+b.p.Dropped(DropRepeated) != 0 {
			t.Errorf("%s: %d are heard, %d bytes wait, epoch %d, skipped %d", name, len(b.got), m.out.bytes, m.out.epoch, b.p.Skipped(c.why))
		}
	}
}

// TestAWayThatIsStuckBeginsAnew: a frame that its receiver drops each time that it comes holds the way up for six
// leases. Then what waits is lost and counted, and the rest passes.
func TestAWayThatIsStuckBeginsAnew(t *testing.T) {
	s, a, b := pair(t)
	a.p.Give("BBBB", openItem) // it is not the first of its epoch
	for range 28 {
		a.publish(10)
		a.p.Flush(s.now)
		a.done()
		s.run(s.now + time.Second)
	}
	m := a.wantState(t, "BBBB", Up)
	if len(b.got) != 0 || m.out.epoch != 1 || b.p.Dropped(DropUnreadable) < 20 {
		t.Fatalf("%d are heard, epoch %d, %d are dropped", len(b.got), m.out.epoch, b.p.Dropped(DropUnreadable))
	}
	s.run(s.now + 3*time.Second)
	if n := b.p.Dropped(DropUnreadable); m.out.epoch != 2 || m.out.bytes != 0 || len(m.rooms) != 1 {
		t.Errorf("epoch %d, %d bytes wait, %d rooms, %d are dropped", m.out.epoch, m.out.bytes, len(m.rooms), n)
	}
	a.publish(10)
	a.p.Flush(s.now)
	a.done()
	s.run(s.now + 100*time.Millisecond)
	if a.wantState(t, "BBBB", Up); len(b.got) != 1 || a.ended[EndStuck] != 29 {
		t.Errorf("%d are heard behind it, and %d are lost, want 1 and 29", len(b.got), a.ended[EndStuck])
	}
	// Who is asleep is not stuck.
	b.freeze()
	a.publish(10)
	a.p.Flush(s.now)
	a.done()
	s.run(s.now + 4*time.Second)
	b.thaw()
	s.run(s.now + 40*time.Second)
	if m.out.epoch != 2 || len(b.got) != 2 {
		t.Errorf("epoch %d, %d are heard", m.out.epoch, len(b.got))
	}
}

// TestWhatIsToldOnAStreamIsAnswered: a notice or a reply that cannot be read is of no kind, so that its number is
// answered and nobody waits for it.
func TestWhatIsToldOnAStreamIsAnswered(t *testing.T) {
	event := appendEvent(nil, 3, &service.Notice{From: ref{id: "AAAA0123456789abcdef"}, Packet: &service.Packet{Payload: []byte(`["e"]`)}}, time.Time{})
	for name, bad := range map[string][]byte{
		"JSON that is none": appendEvent(nil, 4, &service.Notice{From: ref{id: "AAAA0123456789abcdef"}, Packet: &service.Packet{Payload: []byte(`["e"`)}}, time.Time{}),
		"a kind of later":   appendOther(nil, 4, &clusterv1.SocketNotice{Kind: 99}),
		"another one":       {4<<3 | 2, 4, 1 << 3, 4, 15<<3 | 2, 0},
	} {
		it := readItem((&notices{stream: 1, handler: 2}).append(nil, slices.Concat(event, bad)))
		if it.skipped != SkipUnreadable || it.empty() || len(it.notices.list) != 2 || it.notices.list[0].Kind != service.NoticeEvent ||
			it.notices.list[1].Kind != 0 || it.notices.list[1].number != 4 {
			t.Errorf("%s is read as %+v", name, it)
		}
	}
	answers := replies{
		stream: 1, list: []reply{{number: 3, payload: []byte(`[`)}, {number: 4, payload: []byte(`[1]`)}},
		decisions: []*clusterv1.Decision{{Number: 5, Data: []byte(`[`)}},
	}
	it := readItem(answers.item())
	if it.skipped != SkipUnreadable || it.empty() || len(it.replies.list) != 2 || it.replies.list[0].payload != nil || it.replies.list[0].number != 3 ||
		string(it.replies.list[1].payload) != `[1]` || len(it.replies.decisions) != 0 {
		t.Errorf("replies are read as %+v", it)
	}
}
