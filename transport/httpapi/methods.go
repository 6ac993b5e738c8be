package httpapi

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// method is one of the API's.
type method struct {
	name   string // without a slash before it
	upload bool   // a stream of requests
	stream bool   // a stream of answers
}

// methodsOf are the methods of a package by their paths.
func methodsOf(pkg protoreflect.FullName) map[string]*method {
	all := map[string]*method{}
	protoregistry.GlobalFiles.RangeFilesByPackage(pkg, func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				name := string(service.FullName()) + "/" + string(m.Name())
				all["/"+name] = &method{name: name, upload: m.IsStreamingClient(), stream: m.IsStreamingServer()}
			}
		}
		return true
	})
	return all
}

// servicesOf are the services of methods.
func servicesOf(methods map[string]*method) []string {
	names := map[string]bool{}
	for _, m := range methods {
		name, _, _ := strings.Cut(m.name, "/")
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names))
}
