package grpcapi

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// These tests hold the messages that are read and written by hand against their descriptors: a field that is added to
// one of them, or to one inside of it, fails until it is said here how it is treated, and until the code does so.

// treatment are the fields of a message: those that the code by hand knows, and those that make it leave the message to
// the generated code. A message that is written by hand has none of these.
type treatment struct{ byHand, generated string }

// inRequests are the messages that are read.
var inRequests = map[protoreflect.FullName]treatment{
	"foyer.v1.EmitStreamRequest": {byHand: "items"},
	"foyer.v1.EmitStreamItem":    {byHand: "id emit"},
	"foyer.v1.EmitRequest":       {byHand: "target payload options receipt", generated: "request_id traceparent"},
	"foyer.v1.Target":            {byHand: "namespace rooms except_rooms all local"},
	"foyer.v1.Payload":           {byHand: "event json attachments", generated: "values"},
	"foyer.v1.EmitOptions":       {byHand: "volatile compress"},
	"foyer.v1.AttachRequest":     {byHand: "event_reply", generated: "register connect_reply handled command drain"},
	"foyer.v1.EventReply":        {byHand: "call_id args"},
	"foyer.v1.Args":              {byHand: "json attachments", generated: "values"},
}

// inResponses are the messages that are written.
var inResponses = map[protoreflect.FullName]treatment{
	"foyer.v1.EmitStreamResponse": {byHand: "results"},
	"foyer.v1.EmitStreamResult":   {byHand: "id ok", generated: "error"},
	"foyer.v1.EmitResponse":       {byHand: "matched enqueued dropped_volatile dropped_slow coverage", generated: "deduplicated"},
	"foyer.v1.Coverage":           {byHand: "unreachable unreachable_unnamed uncounted_nodes"},
	"foyer.v1.AttachResponse": {
		byHand:    "event",
		generated: "registered connect connected assigned disconnected server_side_event command_result draining",
	},
	"foyer.v1.Event":            {byHand: "call_id socket payload wants_ack time traceparent"},
	"foyer.v1.Payload":          {byHand: "event json attachments", generated: "values"},
	"google.protobuf.Timestamp": {byHand: "seconds nanos"},
	"foyer.v1.Socket": { // as SOCKET_VIEW_REF shows it
		byHand:    "id generation namespace node_id",
		generated: "session_id transport connected_at rooms data user_id handshake",
	},
}

func TestEachFieldOfTheBusyStreamsIsTreated(t *testing.T) {
	for _, side := range []struct {
		treated map[protoreflect.FullName]treatment
		roots   []proto.Message
	}{
		{inRequests, []proto.Message{&foyerv1.EmitStreamRequest{}, &foyerv1.AttachRequest{}}},
		{inResponses, []proto.Message{&foyerv1.EmitStreamResponse{}, &foyerv1.AttachResponse{}}},
	} {
		met := map[protoreflect.FullName]bool{}
		var walk func(protoreflect.MessageDescriptor)
		walk = func(d protoreflect.MessageDescriptor) {
			if met[d.FullName()] {
				return
			}
			met[d.FullName()] = true
			byHand, generated := strings.Fields(side.treated[d.FullName()].byHand), strings.Fields(side.treated[d.FullName()].generated)
			named := slices.Concat(byHand, generated)
			var has []string
			for i := range d.Fields().Len() {
				f := d.Fields().Get(i)
				has = append(has, string(f.Name()))
				if f.Message() != nil && slices.Contains(byHand, string(f.Name())) {
					walk(f.Message())
				}
				if f.Number() >= 16 && slices.Contains(byHand, string(f.Name())) {
					t.Errorf("%s: its tag has two bytes, and wire.go has room for one", f.FullName())
				}
			}
			if diff := cmp.Diff(has, named, cmpopts.SortSlices(strings.Compare)); diff != "" {
				t.Errorf("%s: its fields, and those whose treatment is known (-has +known):\n%s", d.FullName(), diff)
			}
		}
		for _, m := range side.roots {
			walk(m.ProtoReflect().Descriptor())
		}
		for name := range side.treated {
			if !met[name] {
				t.Errorf("%s is named and not met", name)
			}
		}
	}
}

// values are those of fields that are mostly refused with other ones.
var values = map[protoreflect.FullName]*rapid.Generator[protoreflect.Value]{
	"foyer.v1.Target.namespace":    anyOf("", "/", "chat", "/chat", "/é"),
	"foyer.v1.Target.rooms":        anyOf("a", "é", "b"),
	"foyer.v1.Target.except_rooms": anyOf("a", "c"),
	"foyer.v1.Payload.event":       anyOf("e", "é\"", "f", "g", "connect"),
	"foyer.v1.Payload.json":        anyOf(`[]`, ` [ 1 , "é" ] `, `["x"]`, `[{"_placeholder":true,"num":0}]`, `{}`),
	"foyer.v1.Args.json":           anyOf(`[]`, ` [ 1 , "é" ] `, `["x"]`, `[{"_placeholder":true,"num":0}]`, `{}`),
	"foyer.v1.EmitRequest.receipt": rapid.Map(rapid.Int32Range(0, 3), func(n int32) protoreflect.Value {
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n))
	}),
	"foyer.v1.Event.traceparent":        anyOf("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
	"google.protobuf.Timestamp.seconds": rapid.Map(rapid.Int64Range(1, 1<<34), protoreflect.ValueOfInt64),
	"google.protobuf.Timestamp.nanos":   rapid.Map(rapid.Int32Range(1, 999_999_999), protoreflect.ValueOfInt32),
}

func anyOf(list ...string) *rapid.Generator[protoreflect.Value] {
	return rapid.Map(rapid.SampledFrom(list), protoreflect.ValueOfString)
}

// filler gives fields random values.
type filler struct {
	*rapid.T
	treated map[protoreflect.FullName]treatment
	some    bool // of the fields that are known by hand only some; of a list one item or two
}

func (f *filler) fill(m protoreflect.Message) {
	for _, name := range strings.Fields(f.treated[m.Descriptor().FullName()].byHand) {
		d := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		if f.some && rapid.IntRange(0, 3).Draw(f.T, "leave "+name) == 0 {
			continue
		}
		f.set(m, d)
	}
}

// set gives one field a value; of numbers and bools, one that is not left out on the wire.
func (f *filler) set(m protoreflect.Message, d protoreflect.FieldDescriptor) {
	if !d.IsList() {
		m.Set(d, f.value(d, m.NewField(d)))
		return
	}
	list := m.Mutable(d).List()
	for range rapid.IntRange(1, 2).Draw(f.T, "length of "+string(d.Name())) {
		list.Append(f.value(d, list.NewElement()))
	}
}

func (f *filler) value(d protoreflect.FieldDescriptor, empty protoreflect.Value) protoreflect.Value {
	name := string(d.Name())
	if g := values[d.FullName()]; g != nil {
		return g.Draw(f.T, name)
	}
	switch d.Kind() {
	case protoreflect.MessageKind:
		f.fill(empty.Message())
		return empty
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(rapid.StringN(1, 40, -1).Draw(f.T, name))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(f.T, name))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(!d.HasPresence() || rapid.Bool().Draw(f.T, name))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(rapid.Uint64Min(1).Draw(f.T, name))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(rapid.Int32Range(1, 1<<31-1).Draw(f.T, name))
	}
	f.Fatalf("%s: a kind that no message of the busy streams had", d.FullName())
	return empty
}

// strangers are copies of a message, each with one more field that is left to the generated code, at every place.
func (f *filler) strangers(of proto.Message) []proto.Message {
	var list []proto.Message
	var walk func(at func(root protoreflect.Message) protoreflect.Message)
	walk = func(at func(protoreflect.Message) protoreflect.Message) {
		here := at(of.ProtoReflect())
		known, fields := f.treated[here.Descriptor().FullName()], here.Descriptor().Fields()
		for _, name := range strings.Fields(known.generated) {
			c := proto.Clone(of)
			f.set(at(c.ProtoReflect()), fields.ByName(protoreflect.Name(name)))
			list = append(list, c)
		}
		for _, name := range strings.Fields(known.byHand) {
			if d := fields.ByName(protoreflect.Name(name)); d.Message() != nil && !d.IsList() && here.Has(d) {
				walk(func(root protoreflect.Message) protoreflect.Message { return at(root).Mutable(d).Message() })
			}
		}
	}
	walk(func(root protoreflect.Message) protoreflect.Message { return root })
	return list
}

// placeholders are arguments that refer to attachments.
func placeholders(attachments [][]byte) string {
	list := []string{`"é"`}
	for i := range attachments {
		list = append(list, fmt.Sprintf(`{"_placeholder":true,"num":%d}`, i))
	}
	return "[" + strings.Join(list, " , ") + "]"
}

// mend makes an item valid that chance has not.
func mend(m *foyerv1.EmitStreamItem) {
	if m.Emit == nil {
		m.Emit = &foyerv1.EmitRequest{}
	}
	e := m.GetEmit()
	if e.Target == nil {
		e.Target = &foyerv1.Target{}
	}
	if e.Payload == nil {
		e.Payload = &foyerv1.Payload{}
	}
	e.Target.All = len(e.GetTarget().GetRooms()) == 0
	e.Payload.Event = "e"
	if e.GetPayload().Args != nil || len(e.GetPayload().GetAttachments()) > 0 {
		e.Payload.Args = &foyerv1.Payload_Json{Json: placeholders(e.GetPayload().GetAttachments())}
	}
	e.Receipt %= 3
}

const wireTestBytes = 1000

// TestItemsAreReadByHandAsByTheGeneratedCode: an item of known fields is read by hand if it is valid, and is the same
// emit then; one with any other field is not.
func TestItemsAreReadByHandAsByTheGeneratedCode(t *testing.T) {
	usual := 0
	rapid.Check(t, func(rt *rapid.T) {
		f, m := &filler{rt, inRequests, true}, &foyerv1.EmitStreamItem{}
		f.fill(m.ProtoReflect())
		if rapid.Bool().Draw(rt, "mend") {
			mend(m)
		}
		r := &emitStreamRequest{maxBytes: wireTestBytes}
		id, got, ok := r.usual(wireOf(t, m))
		want, err := service.Emit{}, error(nil)
		if m.GetEmit() != nil {
			want, err = emitRequest(m.GetEmit(), wireTestBytes, true)
		}
		if valid := m.GetEmit() != nil && err == nil; ok != valid {
			rt.Fatalf("%v: read by hand: %t, valid: %t, %v", m, ok, valid, err)
		}
		if ok {
			usual++
			if id != m.GetId() {
				rt.Errorf("id %d, want %d", id, m.GetId())
			}
			if diff := cmp.Diff(got, want, cmpopts.IgnoreUnexported(service.Emit{}), cmpopts.EquateEmpty()); diff != "" {
				rt.Errorf("%v (-got +want):\n%s", m, diff)
			}
		}
		for _, m := range f.strangers(m) {
			if _, _, ok := r.usual(wireOf(t, m)); ok {
				rt.Errorf("%v is read by hand", m)
			}
		}
	})
	if usual == 0 {
		t.Error("no item was valid: the test shows nothing")
	}
}

// TestRepliesAreReadByHandAsByTheGeneratedCode is the same for what handlers say.
func TestRepliesAreReadByHandAsByTheGeneratedCode(t *testing.T) {
	usual := 0
	rapid.Check(t, func(rt *rapid.T) {
		f, m := &filler{rt, inRequests, true}, &foyerv1.AttachRequest{}
		f.set(m.ProtoReflect(), m.ProtoReflect().Descriptor().Fields().ByName("event_reply"))
		if args := m.GetEventReply().GetArgs(); args != nil && rapid.Bool().Draw(rt, "mend") {
			args.Args = &foyerv1.Args_Json{Json: placeholders(args.GetAttachments())}
		}
		r := &attachRequest{maxBytes: wireTestBytes}
		ok := r.read(mem.SliceBuffer(wireOf(t, m)))
		array, attachments, err := ackArguments(m.GetEventReply().GetArgs(), wireTestBytes)
		_, isList, isJSON := argsForm(m.GetEventReply().GetArgs())
		if valid := err == nil && isJSON && !isList; ok != valid {
			rt.Fatalf("%v: read by hand: %t, valid: %t, %v", m, ok, valid, err)
		}
		if ok {
			usual++
			if r.callID != m.GetEventReply().GetCallId() || string(r.json) != string(array) || !cmp.Equal(r.attachments, attachments, cmpopts.EquateEmpty()) {
				rt.Errorf("%v: got %d %q %q", m, r.callID, r.json, r.attachments)
			}
		}
		for _, m := range f.strangers(m) {
			if r.read(mem.SliceBuffer(wireOf(t, m))) {
				rt.Errorf("%v is read by hand", m)
			}
		}
	})
	if usual == 0 {
		t.Error("no reply was valid: the test shows nothing")
	}
}

// TestReceiptsAreWrittenWhole: a result with all that is written by hand is what the generated code reads.
func TestReceiptsAreWrittenWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want := &foyerv1.EmitStreamResponse{}
		(&filler{rt, inResponses, false}).fill(want.ProtoReflect())
		var wire []byte
		for _, r := range want.GetResults() {
			ok := r.GetOk()
			wire = appendReceipt(wire, r.GetId(), &service.Receipt{
				Matched: int(ok.GetMatched()), Enqueued: int(ok.GetEnqueued()), DroppedVolatile: int(ok.GetDroppedVolatile()),
				DroppedSlow: int(ok.GetDroppedSlow()), Coverage: service.Coverage{
					Unreachable:        ok.GetCoverage().GetUnreachable(),
					UnreachableUnnamed: int(ok.GetCoverage().GetUnreachableUnnamed()), UncountedNodes: int(ok.GetCoverage().GetUncountedNodes()),
				},
			})
		}
		wantWritten(rt, wire, &foyerv1.EmitStreamResponse{}, want)
	})
}

// TestEventsAreWrittenWhole is the same for what handlers are told of events. Its sender is a socket that is there.
func TestEventsAreWrittenWhole(t *testing.T) {
	n := realNode(t)
	defer n.Close()
	from := join(n, "one", "/chat", "").socket
	rapid.Check(t, func(rt *rapid.T) {
		want := &foyerv1.AttachResponse{}
		(&filler{rt, inResponses, false}).fill(want.ProtoReflect())
		e := want.GetEvent()
		e.Socket.Id, e.Socket.Namespace, e.Socket.NodeId = string(from.ID()), from.Namespace(), string(from.NodeID())
		e.Payload.Args = &foyerv1.Payload_Json{Json: `[1,"é"]`}
		packet := &service.Packet{
			Kind: service.KindEvent, Event: e.GetPayload().GetEvent(), Payload: []byte(`["any",1,"é"]`), Attachments: e.GetPayload().GetAttachments(),
			AckID: service.NoAck,
		}
		if e.GetWantsAck() {
			packet.AckID = 7
		}
		trace, _ := service.NewTracer(nil, 0).Parse(e.GetTraceparent())
		m := encodeEvent(&service.Notice{
			Trace: trace,
			Kind:  service.NoticeEvent, From: from, CallID: e.GetCallId(), Generation: e.GetSocket().GetGeneration(), Packet: packet,
			Time: time.Unix(e.GetTime().GetSeconds(), int64(e.GetTime().GetNanos())),
		})
		wantWritten(rt, wireOf(t, m), &foyerv1.AttachResponse{}, want)
	})
}

func wantWritten(t *rapid.T, wire []byte, got, want proto.Message) {
	t.Helper()
	if err := proto.Unmarshal(wire, got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, want, protocmp.Transform(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("written by hand (-got +want):\n%s", diff)
	}
}
