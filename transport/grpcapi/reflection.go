package grpcapi

import (
	_ "embed"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// describedAPI are the files of proto/foyer/v1 with their comments, which generated code leaves out: by them `grpcurl
// describe` is the manual. Built by buf; a test compares it with the generated code.
//
//go:embed api.binpb
var describedAPI []byte

// registerReflection serves both versions of reflection.
func registerReflection(s *grpc.Server) error {
	files, err := describedFiles()
	if err != nil {
		return fmt.Errorf("read the description of the API: %w", err)
	}
	options := reflection.ServerOptions{Services: s, DescriptorResolver: files}
	reflectionv1.RegisterServerReflectionServer(s, reflection.NewServerV1(options))
	reflectionv1alpha.RegisterServerReflectionServer(s, reflection.NewServer(options))
	return nil
}

// described finds the files of the API as they are described, and all others as they are compiled in.
type described struct{ files *protoregistry.Files }

func describedFiles() (described, error) {
	d := described{new(protoregistry.Files)}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(describedAPI, &set); err != nil {
		return d, err
	}
	for _, f := range set.GetFile() { // in the order in which they import each other
		file, err := protodesc.NewFile(f, d)
		if err != nil {
			return d, err
		}
		if err := d.files.RegisterFile(file); err != nil {
			return d, err
		}
	}
	return d, nil
}

// FindFileByPath implements protodesc.Resolver.
func (d described) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if f, err := d.files.FindFileByPath(path); err == nil {
		return f, nil
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

// FindDescriptorByName implements protodesc.Resolver.
func (d described) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if f, err := d.files.FindDescriptorByName(name); err == nil {
		return f, nil
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}
