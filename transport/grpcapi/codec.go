package grpcapi

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto" // registers the codec that is wrapped here
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// codec is gRPC's own for protobuf, but for bytes that are no message. gRPC answers those itself, as a fault of the
// server and before anything of ours runs. So the message is let through, empty and marked, and the interceptors refuse
// it.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

// Marshal passes on what is encoded already.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*encoded); ok {
		return m.slice[:], nil
	}
	return c.CodecV2.Marshal(v)
}

// wireReader is what a busy stream receives into.
type wireReader interface {
	// read takes a message of the usual form. false: the message is of another form or has a fault, and other is what the
	// generated code is to decode it into. A reader that keeps parts of buf takes a reference to it.
	read(buf mem.Buffer) bool
	// other is nil after a message of the usual form.
	other() proto.Message
}

// Unmarshal lets the busy streams read for themselves.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if r, ok := v.(wireReader); ok {
		buf := data.MaterializeToBuffer(mem.DefaultBufferPool()) // a copy only of what came in several frames
		defer buf.Free()
		if r.read(buf) {
			return nil
		}
		v = r.other()
	}
	err := c.CodecV2.Unmarshal(data, v)
	m, ok := v.(proto.Message)
	if err == nil || !ok {
		return err
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	path, fault := undecodable(m.ProtoReflect().Descriptor(), buf.ReadOnlyData(), 0)
	proto.Reset(m)
	m.ProtoReflect().SetUnknown(protowire.AppendString(slices.Clone(undecodableMark), path+"\x00"+fault))
	return nil
}

// undecodableMark begins a field that no message of ours has. A client that sends it is refused, and that is all it
// gains.
var undecodableMark = protowire.AppendTag(nil, protowire.MaxValidNumber, protowire.BytesType)

// decoded refuses what codec has marked.
func decoded(v any) error {
	if r, ok := v.(wireReader); ok {
		v = r.other()
	}
	m, ok := v.(proto.Message)
	if !ok {
		return nil
	}
	marked, ok := bytes.CutPrefix(m.ProtoReflect().GetUnknown(), undecodableMark)
	if !ok {
		return nil
	}
	told, n := protowire.ConsumeString(marked)
	path, fault, ok := strings.Cut(told, "\x00")
	if n < 0 || !ok || n > maxFaultText || !utf8.ValidString(told) { // a client's own
		path, fault = "", ""
	}
	if fault == "" {
		fault = "the message is no " + string(m.ProtoReflect().Descriptor().FullName())
	}
	e := invalidField(path, "%s", fault)
	e.Cause = errors.New("undecodable message")
	return e
}

const (
	// maxFaultDepth is how deep undecodable looks; what is deeper is called by what it stands in.
	maxFaultDepth = 16
	maxFaultText  = 1024
)

// undecodable is the path of the field that keeps b from being a message, and what is wrong with it; of the whole, no
// path.
func undecodable(md protoreflect.MessageDescriptor, b []byte, depth int) (path, fault string) {
	seen := map[protowire.Number]int{} // of lists, how many items have passed
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return "", "the bytes are cut off, or are no " + string(md.FullName())
		}
		b = b[n:]
		field := md.Fields().ByNumber(number)
		n = protowire.ConsumeFieldValue(number, kind, b)
		switch value, _ := protowire.ConsumeBytes(b); {
		case n < 0 && field == nil:
			return "", "the bytes are cut off, or are no " + string(md.FullName())
		case n < 0:
			path, fault = "", "is cut off, or no protobuf"
		case field == nil || kind != protowire.BytesType:
		case field.Kind() == protoreflect.StringKind && !utf8.Valid(value):
			fault = "is not UTF-8"
		case field.Message() != nil && depth < maxFaultDepth:
			path, fault = undecodable(field.Message(), value, depth+1)
		}
		if fault != "" {
			name := string(field.Name())
			if field.IsList() {
				name += fmt.Sprintf("[%d]", seen[number])
			}
			if path != "" {
				name += "." + path
			}
			return name, fault
		}
		if field != nil && field.IsList() {
			seen[number]++
		}
		b = b[n:]
	}
	return "", ""
}
