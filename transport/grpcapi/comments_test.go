package grpcapi

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service/payload"
)

// shown are the JSON documents of a comment: what is indented in it.
func shown(t *testing.T, d protoreflect.Descriptor) (documents []string) {
	t.Helper()
	document := ""
	for line := range strings.Lines(d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments + "\n") {
		if strings.HasPrefix(line, "  ") {
			if document += line; json.Valid([]byte(document)) {
				documents = append(documents, document)
				document = ""
			}
		} else if document != "" {
			t.Errorf("%s shows what is no JSON: %s", d.FullName(), document)
			document = ""
		}
	}
	return documents
}

// parsed is a document as a message of a type.
func parsed(of protoreflect.MessageDescriptor, document string) (proto.Message, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(of.FullName())
	if err != nil {
		return nil, err
	}
	m := kind.New().Interface()
	return m, protojson.Unmarshal([]byte(document), m)
}

// TestCommentsShowMessages: the JSON of comments is what they say, requests before responses, and a node takes the
// requests.
func TestCommentsShowMessages(t *testing.T) {
	d, err := describedFiles()
	if err != nil {
		t.Fatal(err)
	}
	x := newTexts(t)
	messages := 0
	d.files.RangeFilesByPackage("foyer.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for i := range methods.Len() {
				t.Run(string(methods.Get(i).FullName()), func(t *testing.T) { x.methodComment(t, methods.Get(i)) })
			}
		}
		for i := range f.Messages().Len() {
			m := f.Messages().Get(i)
			for _, document := range shown(t, m) {
				messages++
				shown, err := parsed(m, document)
				if err == nil {
					switch shown := shown.(type) {
					case *foyerv1.Payload:
						_, err = eventPacket(shown, "/", payload.Reserved, 1000)
					case *foyerv1.Args:
						_, _, err = ackArguments(shown, 1000)
					}
				}
				if err != nil {
					t.Errorf("%s: %v: %s", m.FullName(), err, document)
				}
			}
		}
		return true
	})
	if messages < 8 {
		t.Errorf("%d documents in the comments of messages", messages)
	}
}

// methodComment pastes what the comment of a method shows.
func (x *texts) methodComment(t *testing.T, m protoreflect.MethodDescriptor) {
	var requests, responses []proto.Message
	for _, document := range shown(t, m) {
		asks, asksErr := parsed(m.Input(), document)
		tells, tellsErr := parsed(m.Output(), document)
		switch turns := m.IsStreamingClient() || len(requests) == 0; { // else there is one request, the first
		case turns && asksErr == nil:
			requests = append(requests, asks)
		case tellsErr == nil && len(requests) > 0:
			responses = append(responses, tells)
		default:
			t.Errorf("%v, %v: %s", asksErr, tellsErr, document)
		}
	}
	if len(requests) == 0 || len(responses) == 0 {
		t.Fatalf("%d requests and %d responses are shown", len(requests), len(responses))
	}
	switch name := "/" + string(m.Parent().FullName()) + "/" + string(m.Name()); name {
	case foyerv1.EmitService_EmitStream_FullMethodName:
		x.pasteItems(t, requests[0].(*foyerv1.EmitStreamRequest), responses[0].(*foyerv1.EmitStreamResponse))
	case foyerv1.HandlerService_Attach_FullMethodName:
		x.pasteAttach(t, requests)
	default:
		switch st := status.Convert(x.ask(name, requests[0])); {
		case st.Code() == codes.NotFound && strings.HasPrefix(st.Message(), "socket_id: "): // the comment has none that is there
		case st.Code() != codes.OK:
			t.Errorf("the request is refused: %v", st)
		}
	}
}

// pasteItems wants the errors of the items that are shown.
func (x *texts) pasteItems(t *testing.T, request *foyerv1.EmitStreamRequest, response *foyerv1.EmitStreamResponse) {
	stream, err := x.client.emit.EmitStream(x.as("Bearer secret"))
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(request)
	_ = stream.CloseSend()
	for results := response.GetResults(); len(results) > 0; {
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range got.GetResults() {
			want := results[0].GetError()
			if r.GetId() != results[0].GetId() || r.GetError().GetMessage() != want.GetMessage() || r.GetError().GetCode() != want.GetCode() ||
				want != nil && reasonOf(t, status.FromProto(r.GetError())) != reasonOf(t, status.FromProto(want)) {
				t.Errorf("got %v, shown is %v", r, results[0])
			}
			results = results[1:]
		}
	}
}

// pasteAttach wants the results of the commands that are shown, and that the stream goes on until the handler leaves.
func (x *texts) pasteAttach(t *testing.T, requests []proto.Message) {
	ctx, cancel := context.WithCancel(x.as("Bearer secret"))
	defer cancel()
	stream, err := x.client.handler.Attach(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var commands []uint64
	for _, m := range requests {
		_ = stream.Send(m.(*foyerv1.AttachRequest))
		if c := m.(*foyerv1.AttachRequest).GetCommand(); c != nil {
			commands = append(commands, c.GetId())
		}
	}
	for len(commands) > 0 {
		heard, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if r := heard.GetCommandResult(); r != nil {
			if r.GetId() != commands[0] || r.GetError() != nil {
				t.Errorf("got %v of command %d", r, commands[0])
			}
			commands = commands[1:]
		}
	}
}
