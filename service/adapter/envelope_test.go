package adapter

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// byHand are the messages that are read and written by hand, with their fields in order. A field that is added to one
// of them fails the test until the code treats it and it is named here.
var byHand = map[protoreflect.FullName]string{
	"foyer.cluster.v1.Frame":    "version from from_run to to_run epoch seq last ack_epoch ack asks over items hello check",
	"foyer.cluster.v1.Item":     "open part told interest emit counts question answer acks handler_news notices replies follow presence",
	"foyer.cluster.v1.Open":     "",
	"foyer.cluster.v1.Told":     "",
	"foyer.cluster.v1.Part":     "data last",
	"foyer.cluster.v1.Interest": "plus minus",
	"foyer.cluster.v1.Emit":     "namespace rooms except_rooms all volatile no_compress call packets collect trace",
	"foyer.cluster.v1.Counts":   "call numbers",
	"foyer.cluster.v1.Packet":   "payload attachments",

	"foyer.cluster.v1.Notices":     "stream handler opens notices",
	"foyer.cluster.v1.Notice":      "number event other",
	"foyer.cluster.v1.SocketEvent": "id generation packet wants_ack age",
	"foyer.cluster.v1.Replies":     "stream taken replies decisions",
	"foyer.cluster.v1.Reply":       "number payload attachments",
}

// generated are the messages that are left to the generated code.
var generated = []protoreflect.FullName{
	"foyer.cluster.v1.Hello", "foyer.cluster.v1.Question", "foyer.cluster.v1.Answer", "foyer.cluster.v1.Acks",
	"foyer.cluster.v1.HandlerNews", "foyer.cluster.v1.SocketNotice", "foyer.cluster.v1.Decision",
	"foyer.cluster.v1.Follow", "foyer.cluster.v1.Presence",
}

func TestEachFieldIsTreated(t *testing.T) {
	met := map[protoreflect.FullName]bool{}
	var walk func(protoreflect.MessageDescriptor)
	walk = func(d protoreflect.MessageDescriptor) {
		known, ok := byHand[d.FullName()]
		if !ok {
			t.Errorf("%s: it is not known how it is treated", d.FullName())
			return
		}
		met[d.FullName()] = true
		var has []string
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			has = append(has, string(f.Name()))
			if int(f.Number()) != i+1 || f.Number() >= 16 {
				t.Errorf("%s: number %d at place %d; wire.go has room for one byte", f.FullName(), f.Number(), i)
			}
			if f.Message() != nil && !slices.Contains(generated, f.Message().FullName()) {
				walk(f.Message())
			}
		}
		if got := strings.Join(has, " "); got != known {
			t.Errorf("%s has %q, known are %q", d.FullName(), got, known)
		}
	}
	walk((&clusterv1.Frame{}).ProtoReflect().Descriptor())
	if len(met) != len(byHand) {
		t.Errorf("met %d messages, %d are named", len(met), len(byHand))
	}
}

// someItem draws an item, with its encoding.
func someItem(t *rapid.T) (item, []byte) {
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0:
		return item{open: true}, openItem
	case 1:
		return item{told: true}, toldItem
	case 2:
		it := item{part: rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "part"), last: rapid.Bool().Draw(t, "last")}
		return it, partItem(it.part, it.last)
	case 3:
		in := &interest{}
		hashes := rapid.SliceOfN(rapid.Uint64(), 0, 20)
		in.plus, in.minus = hashes.Draw(t, "plus"), hashes.Draw(t, "minus")
		return item{interest: in}, interestItem(in)
	case 4:
		c := &counts{call: 1 + rapid.Uint64().Draw(t, "call")/2}
		for range rapid.IntRange(1, 3).Draw(t, "receipts") {
			var r service.Receipt
			for _, n := range numbers(&r) {
				*n = rapid.IntRange(0, 300).Draw(t, "count")
			}
			c.receipts = append(c.receipts, r)
		}
		b := countsItem(c.call, c.receipts)
		if alike(c.receipts) {
			c.receipts = c.receipts[:1]
		}
		return item{counts: c}, b
	case 5:
		return someNotices(t)
	case 6:
		return someReplies(t)
	}
	e := someEmit(t)
	return item{emit: e}, AppendEmit(nil, e)
}

func someEmit(t *rapid.T) *Emit {
	e := &Emit{Call: rapid.Uint64().Draw(t, "call"), Flags: service.Flags(rapid.IntRange(0, 3).Draw(t, "flags"))}
	e.Trace = rapid.SampledFrom([]string{"", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}).Draw(t, "trace")
	e.Target.Namespace = rapid.SampledFrom([]string{"/", "/chat", "/é"}).Draw(t, "namespace")
	rooms := rapid.SliceOfN(rapid.StringN(1, 20, 255), 0, 3)
	e.Target.Rooms, e.Target.ExceptRooms = rooms.Draw(t, "rooms"), rooms.Draw(t, "except")
	e.Target.All = len(e.Target.Rooms) == 0
	for range rapid.IntRange(1, 3).Draw(t, "packets") {
		p := &service.Packet{Kind: service.KindEvent, Namespace: e.Target.Namespace, AckID: service.NoAck, Event: "é", Payload: []byte(`["é",1]`)}
		if rapid.Bool().Draw(t, "binary") {
			p.Payload = []byte(`["é",{"_placeholder":true,"num":0}]`)
			p.Attachments = [][]byte{rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "attachment")}
		}
		e.Packets = append(e.Packets, p)
	}
	e.Collect = e.Call != 0 && len(e.Packets) == 1
	return e
}

func someHeader(t *rapid.T, items int) header {
	n := func(name string) uint64 { return rapid.Uint64Range(0, 1<<40).Draw(t, name) }
	h := header{
		version: 1, from: service.Incarnation{Node: "AAAA", Run: 1 + n("run")}, to: service.Incarnation{Node: "b-_9", Run: 1 + n("to")},
		epoch: 1 + n("epoch"), last: 5 + n("last"), ackEpoch: n("ack epoch"), ack: n("ack"), asks: rapid.Bool().Draw(t, "asks"), over: rapid.Bool().Draw(t, "over"),
	}
	if items > 0 {
		h.seq = 1 + n("seq")%h.last
	}
	return h
}

// TestFramesAreWrittenAsByTheGeneratedCode: what is written by hand is byte for byte what the generated code writes,
// all of it known to that, and is read by hand as what it was.
func TestFramesAreWrittenAsByTheGeneratedCode(t *testing.T) {
	k := newKeys([]byte("secret"))
	rapid.Check(t, func(t *rapid.T) {
		var want []item
		var wire [][]byte
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			it, b := someItem(t)
			want, wire = append(want, it), append(wire, b)
		}
		h := someHeader(t, len(want))
		b := k.appendFrame(nil, &h, wire)
		m := &clusterv1.Frame{}
		if err := proto.Unmarshal(b, m); err != nil {
			t.Fatal(err)
		}
		again, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil || !slices.Equal(again, b) {
			t.Errorf("by hand\n%x\ngenerated, %v\n%x", b, err, again)
		}
		size := 0
		for _, it := range wire {
			size += len(it) + itemHead
		}
		if len(b)-size > frameOverhead {
			t.Errorf("%d bytes besides the items", len(b)-size)
		}
		f, drop := k.readFrame(b)
		if drop != 0 {
			t.Fatalf("dropped: %v", drop)
		}
		if f.header != h {
			t.Errorf("got %+v, want %+v", f.header, h)
		}
		if diff := cmp.Diff(f.items, want, cmp.AllowUnexported(item{}, interest{}, Emit{}, counts{}, notices{}, notice{}, replies{}, reply{}), cmpopts.IgnoreFields(item{}, "bytes"), cmpopts.IgnoreFields(replies{}, "bytes"), cmpopts.IgnoreUnexported(service.Notice{}), protocmp.Transform(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("items (-got +want):\n%s", diff)
		}
	})
}

// TestFramesThatAreNotHeard: what is cut, changed or strange is dropped for its reason.
func TestFramesThatAreNotHeard(t *testing.T) {
	k := newKeys([]byte("secret"))
	emit := AppendEmit(nil, &Emit{Target: service.Target{Namespace: "/", All: true}, Packets: []*service.Packet{{Payload: []byte(`["e"]`)}}})
	good := header{version: 1, from: service.Incarnation{Node: "AAAA", Run: 1}, to: service.Incarnation{Node: "BBBB", Run: 1}, epoch: 1, seq: 2, last: 2}
	frame := k.appendFrame(nil, &good, [][]byte{emit, emit})
	if _, drop := k.readFrame(frame); drop != 0 {
		t.Fatalf("the good one: %v", drop)
	}
	for i := range frame {
		if _, drop := k.readFrame(frame[:i]); drop != DropCheck {
			t.Errorf("cut at %d: %v", i, drop)
		}
		changed := slices.Clone(frame)
		changed[i] ^= 1
		if _, drop := k.readFrame(changed); drop != DropCheck {
			t.Errorf("changed at %d: %v", i, drop)
		}
	}
	for name, other := range map[string]*keys{"another key": newKeys([]byte("other")), "no key": newKeys(nil)} {
		if _, drop := k.readFrame(other.appendFrame(nil, &good, [][]byte{emit})); drop != DropCheck {
			t.Errorf("%s: %v", name, drop)
		}
	}
	with := func(change func(h *header)) []byte {
		h := good
		change(&h)
		return k.appendFrame(nil, &h, [][]byte{emit})
	}
	for _, c := range []struct {
		name  string
		frame []byte
		drop  Drop
	}{
		{"a later version", with(func(h *header) { h.version = wireTo + 1 }), DropVersion},
		{"no version", with(func(h *header) { h.version = 0 }), DropVersion},
		{"no sender", with(func(h *header) { h.from.Node = "" }), DropUnreadable},
		{"a long name", with(func(h *header) { h.from.Node = "AAAAA" }), DropUnreadable},
		{"a name that is a wildcard", with(func(h *header) { h.from.Node = "AA.>" }), DropUnreadable},
		{"no run", with(func(h *header) { h.from.Run = 0 }), DropUnreadable},
		{"for nobody", with(func(h *header) { h.to = service.Incarnation{} }), DropUnreadable},
		{"no number", with(func(h *header) { h.seq = 0 }), DropUnreadable},
		{"a number behind the last", with(func(h *header) { h.seq = 3 }), DropUnreadable},
		{"no epoch", with(func(h *header) { h.epoch = 0 }), DropUnreadable},
		{"a number without items", k.appendFrame(nil, &good, nil), DropUnreadable},
		{"a flag of another form", k.seal([]byte("\b\x01\x12\x04AAAM\x18\x01\"\x04BBBB(\x010\x018\x02@\x02H\x01X\tj\a\x12\x05\n\x03x\x10\x01")), DropUnreadable},
		{"too many items", k.appendFrame(nil, &good, slices.Repeat([][]byte{toldItem}, maxFrameItems+1)), DropUnreadable},
		{"a field twice", k.seal(append(good.append(nil), 12<<3, 1, 12<<3, 1)), DropUnreadable},
		{"fields out of order", k.seal(append(good.append(nil), 1<<3, 1)), DropUnreadable},
		{"a long number", k.seal([]byte{1 << 3, 0x81, 0}), DropUnreadable},
		{"nothing", k.seal(nil), DropVersion},
		{"a hello with a version", k.helloFrame(&good, &clusterv1.Hello{Count: 1}), DropVersion},
		{"a hello that is not counted", k.helloFrame(&header{from: good.from}, &clusterv1.Hello{}), DropUnreadable},
		{"a hello that knows a strange name", k.helloFrame(&header{from: good.from}, &clusterv1.Hello{
			Count: 1, Members: []*clusterv1.Known{{Name: "A", Run: 1}},
		}), DropUnreadable},
	} {
		if _, drop := k.readFrame(c.frame); drop != c.drop {
			t.Errorf("%s: %v, want %v", c.name, drop, c.drop)
		}
	}
}

// TestItemsThatAreNotHeard: they have no effect for their reason, and the frame has.
func TestItemsThatAreNotHeard(t *testing.T) {
	k := newKeys(nil)
	emit := AppendEmit(nil, &Emit{Target: service.Target{Namespace: "/", All: true}, Packets: []*service.Packet{{Payload: []byte(`["e"]`)}}})
	good := header{version: 1, from: service.Incarnation{Node: "AAAA", Run: 1}, to: service.Incarnation{Node: "BBBB", Run: 1}, epoch: 1, seq: 2, last: 2}
	for _, c := range []struct {
		name  string
		frame []byte
		skip  Skip
	}{
		{"an unknown item", k.appendFrame(nil, &good, [][]byte{{15<<3 | 2, 0}}), SkipUnknown},
		{"an empty item", k.appendFrame(nil, &good, [][]byte{{}}), SkipUnreadable},
		{"two items in one", k.appendFrame(nil, &good, [][]byte{slices.Concat(emit, emit)}), SkipUnreadable},
		{"an item that is cut", k.appendFrame(nil, &good, [][]byte{emit[:len(emit)-1]}), SkipUnreadable},
		{"an item in the rooms of none", k.appendFrame(nil, &good, [][]byte{AppendEmit(nil, &Emit{Target: service.Target{Namespace: "/"}})}), SkipUnreadable},
		{"JSON that is none", k.appendFrame(nil, &good, [][]byte{AppendEmit(nil, &Emit{
			Target: service.Target{Namespace: "/", All: true}, Packets: []*service.Packet{{Payload: []byte(`["e",}]`)}},
		})}), SkipUnreadable},
		{"a placeholder of nothing", k.appendFrame(nil, &good, [][]byte{AppendEmit(nil, &Emit{
			Target: service.Target{Namespace: "/", All: true}, Packets: []*service.Packet{{
				Payload: []byte(`["e",{"_placeholder":true,"num":3}]`), Attachments: [][]byte{nil},
			}},
		})}), SkipUnreadable},
		{"news of another kind", k.appendFrame(nil, &good, [][]byte{{10<<3 | 2, 3, 15<<3 | 2, 1, 0}}), SkipUnknown},
		{"news of nothing", k.appendFrame(nil, &good, [][]byte{{10<<3 | 2, 0}}), SkipUnreadable},
	} {
		f, drop := k.readFrame(c.frame)
		if drop != 0 || len(f.items) != 1 || f.items[0].skipped != c.skip || !f.items[0].empty() {
			t.Errorf("%s: %v, %+v, want it skipped as %v", c.name, drop, f.items, c.skip)
		}
	}
}

// FuzzFrame: no frame makes the decoder fail, and one that is heard has one form.
func FuzzFrame(f *testing.F) {
	k := newKeys(nil)
	h := header{version: 1, from: service.Incarnation{Node: "AAAA", Run: 1}, to: service.Incarnation{Node: "BBBB", Run: 1}, epoch: 3, seq: 2, last: 2, ackEpoch: 1, ack: 9}
	emit := AppendEmit(nil, &Emit{Target: service.Target{Namespace: "/", Rooms: []string{"a"}, ExceptRooms: []string{"b"}}, Flags: 3, Call: 7, Packets: []*service.Packet{
		{Payload: []byte(`["e",{"_placeholder":true,"num":0}]`), Attachments: [][]byte{{1}}},
	}})
	for _, items := range [][][]byte{
		{openItem},
		{toldItem},
		{partItem([]byte("x"), true)},
		{interestItem(&interest{[]uint64{1}, []uint64{2}})},
		{emit, emit},
		{handlerNewsItem(&clusterv1.HandlerNews{News: &clusterv1.HandlerNews_Gone{Gone: 7}})},
		{(&notices{stream: 1, handler: 2, opens: true}).append(nil, appendOther(nil, 3, &clusterv1.SocketNotice{Kind: uint32(service.NoticeWithdrawn), Withdrawn: 2}))},
		{(&notices{stream: 1, handler: 2}).append(nil, appendEvent(nil, 3, &service.Notice{
			From: ref{id: "AAAA0123456789abcdef"}, Packet: &service.Packet{Payload: []byte(`["e",{"_placeholder":true,"num":0}]`), Attachments: [][]byte{{1}}},
		}, time.Time{}))},
		{(&replies{stream: 1, taken: []uint64{3, 4}, list: []reply{{number: 3}, {number: 4, payload: []byte(`[1]`)}}}).item()},
		{countsItem(7, []service.Receipt{{Matched: 2, Enqueued: 1, DroppedSlow: 1}, {}})},
		{questionItem(&clusterv1.Question{Call: 7, Ask: &clusterv1.Question_Join{Join: &clusterv1.Rooms{
			Target: &clusterv1.Target{Namespace: "/", All: true}, Rooms: []string{"a"},
		}}})},
		{questionItem(&clusterv1.Question{Call: 7, Ask: &clusterv1.Question_Explain{Explain: &clusterv1.Explain{
			Target: &clusterv1.Target{Namespace: "/", All: true}, SocketId: "x",
		}}})},
		{answerItem(&clusterv1.Answer{Call: 7, Explanation: explanationMessage("/", someExplanation())})},
		{followItem(&clusterv1.Follow{Namespace: "/", Number: 2, Next: 3})},
		{presenceItem(somePresence())},
		{answerItem(&clusterv1.Answer{Call: 7, Sockets: []*clusterv1.Socket{{Id: strings.Repeat("a", 20), Data: []byte("{}")}}})},
		{acksItem(&clusterv1.Acks{Call: 7, Outcomes: []*clusterv1.AckOutcome{{Id: strings.Repeat("a", 20), Payload: []byte("[]")}}})},
	} {
		f.Add(k.appendFrame(nil, &h, items)[:len(k.appendFrame(nil, &h, items))-sealBytes])
	}
	hello := k.helloFrame(&header{from: h.from}, &clusterv1.Hello{Cluster: "foyer", Count: 1, Members: []*clusterv1.Known{{Name: "BBBB", Run: 3}}})
	f.Add(hello[:len(hello)-sealBytes])
	f.Fuzz(func(t *testing.T, b []byte) {
		sealed := k.seal(slices.Clone(b))
		fr, drop := k.readFrame(sealed)
		if drop != 0 || fr.hello != nil || hasUnknown(sealed) {
			return
		}
		var items [][]byte
		for _, it := range fr.items {
			switch {
			case it.skipped != 0:
				return
			case it.open:
				items = append(items, openItem)
			case it.told:
				items = append(items, toldItem)
			case it.part != nil:
				items = append(items, partItem(it.part, it.last))
			case it.interest != nil:
				items = append(items, interestItem(it.interest))
			case it.emit != nil:
				items = append(items, AppendEmit(nil, it.emit))
			case it.counts != nil:
				items = append(items, countsItem(it.counts.call, it.counts.receipts))
			default: // of the generated code, which has more than one form
				return
			}
		}
		if again := k.appendFrame(nil, &fr.header, items); !slices.Equal(again, sealed) {
			t.Errorf("read\n%x\nwritten\n%x", sealed, again)
		}
	})
}

// hasUnknown says whether a frame has a field that came with a later version.
func hasUnknown(frame []byte) bool {
	m := &clusterv1.Frame{}
	return proto.Unmarshal(frame, m) != nil || protorange.Range(m.ProtoReflect(), func(p protopath.Values) error {
		if m, ok := p.Index(-1).Value.Interface().(protoreflect.Message); ok && len(m.GetUnknown()) > 0 {
			return errors.New("it has")
		}
		return nil
	}) != nil
}

// TestSipHash holds the hash against the vectors of its authors: the message 00 01 02 … under the key 00 01 … 0f.
func TestSipHash(t *testing.T) {
	message := make([]byte, 16)
	for i := range message {
		message[i] = byte(i)
	}
	for n, want := range map[int]uint64{0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5} {
		if got := sipHash(0x0706050403020100, 0x0f0e0d0c0b0a0908, message[:n]); got != want {
			t.Errorf("%d bytes: %x, want %x", n, got, want)
		}
	}
	a, b := newKeys(nil), newKeys([]byte("secret"))
	if a.room("/a", "b") == a.room("/ab", "") || a.room("/a", "b") == b.room("/a", "b") || a.room("/", "x") != newKeys(nil).room("/", "x") {
		t.Error("rooms are not told apart, or not found again")
	}
}
