package grpcapi

import (
	"context"
	"encoding/json"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
	"foyer/service/payload"
)

// FuzzRequests: whatever a client sends is checked without a panic, an error is one of ours, and what is let through
// holds what the service was promised.
func FuzzRequests(f *testing.F) {
	list, err := structpb.NewList([]any{1, "a", nil, map[string]any{"_placeholder": true, "num": 0}})
	if err != nil {
		f.Fatal(err)
	}
	seeds := []proto.Message{
		&foyerv1.EmitRequest{Target: toRoom("a", "b"), Payload: hello(), RequestId: "1"},
		&foyerv1.EmitRequest{Target: &foyerv1.Target{All: true, Namespace: "chat"}, Payload: &foyerv1.Payload{Event: "e", Args: &foyerv1.Payload_Values{Values: list}, Attachments: [][]byte{{1}}}},
		&foyerv1.WatchRequest{Rooms: []string{"a"}},
		&foyerv1.Register{Namespaces: []string{"/a*"}, Events: []string{"e"}},
		&foyerv1.ConnectReply{Decision: &foyerv1.ConnectReply_Accept{Accept: &foyerv1.Accept{Rooms: []string{"a"}}}},
		&foyerv1.EventReply{Args: &foyerv1.Args{Args: &foyerv1.Args_Json{Json: `["a"]`}}},
		&foyerv1.ListSocketsRequest{Target: toRoom("a"), PageToken: "AQ"},
		&foyerv1.UpdateSocketRequest{SocketId: "s", Change: &foyerv1.UpdateSocketRequest_MergeData{MergeData: &structpb.Struct{
			Fields: map[string]*structpb.Value{"a": structpb.NewNullValue()},
		}}},
		&foyerv1.ServerSideEmitRequest{Payload: hello(), WantsReplies: true, Timeout: durationpb.New(1)},
		&foyerv1.ListRoomsRequest{Prefix: "a", PageToken: roomsToken("ab", roomsQuery("", "a"))},
	}
	for i, m := range seeds {
		wire, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), wire)
	}
	limits := newFakeNode().Config()
	f.Fuzz(func(t *testing.T, kind uint8, wire []byte) {
		var err error
		switch kind % 10 {
		case 0, 1:
			r := &foyerv1.EmitRequest{}
			if proto.Unmarshal(wire, r) != nil {
				return
			}
			e, emitErr := emitOf(r.GetTarget(), r.GetPayload(), r.GetOptions(), r.GetRequestId(), limits.MaxPayloadBytes)
			if err = emitErr; err == nil {
				if payload.Check(e.Packet.Payload, len(e.Packet.Attachments), payload.Options{Exact: true}) != nil || len(e.Packet.Payload) > limits.MaxPayloadBytes {
					t.Errorf("let through: %q", e.Packet.Payload)
				}
				if name, _, ok := payload.EventName(e.Packet.Payload); !ok || name != e.Packet.Event {
					t.Errorf("event %q, want %q", name, e.Packet.Event)
				}
				if !e.Target.All && len(e.Target.Rooms) == 0 {
					t.Error("nobody is meant")
				}
				sent(r)
			}
		case 2:
			r := &foyerv1.WatchRequest{}
			if proto.Unmarshal(wire, r) != nil {
				return
			}
			_, err = scope(r)
		case 3:
			r := &foyerv1.Register{}
			if proto.Unmarshal(wire, r) != nil {
				return
			}
			_, _, err = registration(r)
		case 4:
			r := &foyerv1.ConnectReply{}
			if proto.Unmarshal(wire, r) != nil {
				return
			}
			d, decideErr := decision(r, &limits)
			if err = decideErr; err == nil && d.Data != nil && !json.Valid(d.Data) {
				t.Errorf("data %q", d.Data)
			}
			if d.Reject != nil && d.Reject.Data != nil && !json.Valid(d.Reject.Data) {
				t.Errorf("data %q", d.Reject.Data)
			}
		case 5:
			r := &foyerv1.EventReply{}
			if proto.Unmarshal(wire, r) != nil {
				return
			}
			_, _, err = ackArguments(r.GetArgs(), limits.MaxPayloadBytes)
		case 6:
			r := &foyerv1.ListSocketsRequest{}
			if proto.Unmarshal(wire, r) != nil {
				return
			}
			to, targetErr := target(r.GetTarget())
			if err = targetErr; err == nil {
				_, err = parsePageToken(r.GetPageToken(), listQuery(to, r.GetView()))
			}
		case 7:
			r := &foyerv1.UpdateSocketRequest{}
			if proto.Unmarshal(wire, r) != nil {
				return
			}
			_, _, u, updateErr := update(r)
			if err = updateErr; err == nil {
				for _, data := range [][]byte{u.Data, u.Merge} {
					if data != nil && (!json.Valid(data) || len(data) > service.MaxDataBytes) {
						t.Errorf("data %q", data)
					}
				}
				if u.Data == nil && u.Merge == nil && u.UserID == nil {
					t.Error("nothing is changed")
				}
			}
		case 8:
			r := &foyerv1.ServerSideEmitRequest{}
			if proto.Unmarshal(wire, r) != nil {
				return
			}
			e, serverErr := serverSideOf(context.Background(), r, limits.MaxPayloadBytes)
			if err = serverErr; err == nil && (serverSideReserved(e.Packet.Event) || e.Timeout <= 0 || e.Timeout > maxAckTimeout) {
				t.Errorf("let through: %q, %v", e.Packet.Payload, e.Timeout)
			}
		case 9:
			r := &foyerv1.ListRoomsRequest{}
			if proto.Unmarshal(wire, r) != nil {
				return
			}
			_, err = parseRoomsToken(r.GetPageToken(), roomsQuery(r.GetNamespace(), r.GetPrefix()))
		}
		if err != nil {
			if st := toStatus(err); st.Code() != codes.InvalidArgument || len(st.Details()) != 2 {
				t.Errorf("got %v with %d details, want InvalidArgument with ErrorInfo and BadRequest", st, len(st.Details()))
			}
		}
	})
}

// FuzzStruct: JSON of a client becomes a Struct or is refused, and as a message it is no larger than was estimated.
func FuzzStruct(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,2,{"b":null}],"c":"\u00e9\ud800"}`, `{"a":1e999}`, `{"":-0.5e-7}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		s, err := structOf(object)
		if err != nil || s == nil {
			return
		}
		if _, err := proto.Marshal(s); err != nil {
			t.Errorf("%q cannot be sent: %v", object, err)
		}
		if size := proto.Size(s); size > payload.Unpacked(object) {
			t.Errorf("%q: estimated %d bytes, has %d", object, payload.Unpacked(object), size)
		}
		out, err := objectJSON(s)
		if err != nil || !json.Valid(out) {
			t.Errorf("%q came back as %q, %v", object, out, err)
		}
	})
}
