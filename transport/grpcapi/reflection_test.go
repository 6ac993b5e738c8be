package grpcapi

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/descriptorpb"
)

// TestDescribedAPI: the embedded files are those that the code was generated from, and every method has its comment.
func TestDescribedAPI(t *testing.T) {
	d, err := describedFiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range published {
		found, err := d.FindDescriptorByName(protoreflect.FullName(s.ServiceName))
		if err != nil {
			t.Fatal(err)
		}
		file := found.ParentFile()
		methods := found.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			if file.SourceLocations().ByDescriptor(methods.Get(i)).LeadingComments == "" {
				t.Errorf("%s has no comment", methods.Get(i).FullName())
			}
		}
		compiled, err := protoregistry.GlobalFiles.FindFileByPath(file.Path())
		if err != nil {
			t.Fatal(err)
		}
		got, want := protodesc.ToFileDescriptorProto(file), protodesc.ToFileDescriptorProto(compiled)
		got.SourceCodeInfo = nil
		if diff := cmp.Diff(got, want, protocmp.Transform()); diff != "" {
			t.Errorf("%s is not what the code was generated from: build api.binpb anew (-embedded +generated):\n%s", file.Path(), diff)
		}
	}
}

// TestReflectionDescribes: both versions of reflection give the comments, and the files that are not ours.
func TestReflectionDescribes(t *testing.T) {
	_, client := start(t, Config{}, newFakeNode())
	commented := func(files [][]byte) (comments bool) {
		for _, raw := range files {
			f := &descriptorpb.FileDescriptorProto{}
			if err := proto.Unmarshal(raw, f); err != nil {
				t.Fatal(err)
			}
			comments = comments || len(f.GetSourceCodeInfo().GetLocation()) > 0
		}
		return comments
	}
	symbols := map[string]bool{"foyer.v1.EmitService": true, "foyer.v1.Socket": true, "grpc.health.v1.Health": false, "google.protobuf.Struct": false}
	t.Run("v1", func(t *testing.T) {
		stream, err := reflectionv1.NewServerReflectionClient(client.conn).ServerReflectionInfo(t.Context())
		for symbol, ours := range symbols {
			if err == nil {
				err = stream.Send(&reflectionv1.ServerReflectionRequest{
					MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol},
				})
			}
			if err != nil {
				t.Fatal(err)
			}
			resp, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if files := resp.GetFileDescriptorResponse().GetFileDescriptorProto(); len(files) == 0 || commented(files) != ours {
				t.Errorf("%s: got %d files, comments %t", symbol, len(files), commented(files))
			}
		}
		closeStream(t, stream)
	})
	t.Run("v1alpha", func(t *testing.T) {
		stream, err := reflectionv1alpha.NewServerReflectionClient(client.conn).ServerReflectionInfo(t.Context())
		if err == nil {
			//nolint:staticcheck // deprecated, and still what many clients ask first
			err = stream.Send(&reflectionv1alpha.ServerReflectionRequest{
				MessageRequest: &reflectionv1alpha.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "foyer.v1.EmitService"},
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		//nolint:staticcheck // as above
		if err != nil || !commented(resp.GetFileDescriptorResponse().GetFileDescriptorProto()) {
			t.Errorf("got %v, %v, want the comments", resp, err)
		}
		closeStream(t, stream)
	})
}

func closeStream(t *testing.T, stream grpc.ClientStream) {
	t.Helper()
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
}

// TestPackagesOfLanguages: generated code has a package of its own in each language. In Java the class of a file must
// not be called like a message of the package: with a class for each message, both would be one file.
func TestPackagesOfLanguages(t *testing.T) {
	d, err := describedFiles()
	if err != nil {
		t.Fatal(err)
	}
	messages, classes := map[string]bool{}, map[string]string{}
	d.files.RangeFilesByPackage("foyer.v1", func(f protoreflect.FileDescriptor) bool {
		got := proto.CloneOf(f.Options().(*descriptorpb.FileOptions))
		classes[got.GetJavaOuterClassname()] = f.Path()
		got.JavaOuterClassname, got.GoPackage = nil, nil
		want := &descriptorpb.FileOptions{
			CsharpNamespace: proto.String("Foyer.V1"), JavaPackage: proto.String("dev.foyer.v1"), JavaMultipleFiles: proto.Bool(true),
			ObjcClassPrefix: proto.String("FYR"), PhpNamespace: proto.String(`Foyer\V1`), RubyPackage: proto.String("Foyer::V1"),
		}
		if diff := cmp.Diff(got, want, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-got +want):\n%s", f.Path(), diff)
		}
		for i := range f.Messages().Len() {
			messages[string(f.Messages().Get(i).Name())] = true
		}
		for i := range f.Enums().Len() {
			messages[string(f.Enums().Get(i).Name())] = true
		}
		return true
	})
	if files := d.files.NumFilesByPackage("foyer.v1"); len(classes) != files {
		t.Errorf("%d files share %d classes of Java", files, len(classes))
	}
	for class, path := range classes {
		if class == "" || messages[class] {
			t.Errorf("%s: its class of Java is called %q: none, or as a message is", path, class)
		}
	}
}

// TestErrorDetailsAsPublished: the messages of proto/google/rpc/error_details.proto are the published ones, as far as
// they go, and describe gives their comments.
func TestErrorDetailsAsPublished(t *testing.T) {
	d, err := describedFiles()
	if err != nil {
		t.Fatal(err)
	}
	file, err := d.files.FindFileByPath("google/rpc/error_details.proto")
	if err != nil {
		t.Fatal(err)
	}
	published := errdetails.File_google_rpc_error_details_proto
	if diff := cmp.Diff(file.Options(), published.Options(), protocmp.Transform()); diff != "" {
		t.Errorf("options (-got +want):\n%s", diff)
	}
	var compare func(got, want protoreflect.MessageDescriptors)
	compare = func(got, want protoreflect.MessageDescriptors) {
		for i := range got.Len() {
			m := got.Get(i)
			of := want.ByName(m.Name())
			if of == nil {
				t.Fatalf("%s is not published", m.FullName())
			}
			if m.ParentFile().SourceLocations().ByDescriptor(m).LeadingComments == "" {
				t.Errorf("%s has no comment", m.FullName())
			}
			for i := range m.Fields().Len() {
				f := protodesc.ToFieldDescriptorProto(m.Fields().Get(i))
				p := of.Fields().ByName(m.Fields().Get(i).Name())
				if p == nil {
					t.Fatalf("%s.%s is not published", m.FullName(), f.GetName())
				}
				if diff := cmp.Diff(f, protodesc.ToFieldDescriptorProto(p), protocmp.Transform()); diff != "" {
					t.Errorf("%s (-got +want):\n%s", m.FullName(), diff)
				}
			}
			compare(m.Messages(), of.Messages())
		}
	}
	compare(file.Messages(), published.Messages())
}

// TestReflectionEnds: a stream of reflection that asks for nothing holds up no end of the server, and ends with its
// token.
func TestReflectionEnds(t *testing.T) { bubble(t, testReflectionEnds) }

func testReflectionEnds(t *testing.T) {
	s, client := start(t, Config{Tokens: []string{"old", "new"}}, newFakeNode())
	open := func(token string) grpc.BidiStreamingClient[reflectionv1.ServerReflectionRequest, reflectionv1.ServerReflectionResponse] {
		t.Helper()
		stream, err := reflectionv1.NewServerReflectionClient(client.conn).ServerReflectionInfo(withToken(t.Context(), token))
		if err == nil {
			err = stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
		}
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	old, stays := open("old"), open("new")
	if err := s.SetTokens([]string{"new"}); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Recv(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("the stream of a token that is known no more ends with %v", err)
	}
	began := time.Now()
	if err := s.Shutdown(t.Context()); err != nil || time.Since(began) > 0 || s.Cut() != 0 {
		t.Errorf("the end: %v after %v, %d were cut", err, time.Since(began), s.Cut())
	}
	if _, err := stays.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream that was open ends with %v", err)
	}
}
