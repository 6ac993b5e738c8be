package grpcapi

import (
	"errors"

	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto" // registers the codec that is wrapped here
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// codec is gRPC's own for protobuf, but for bytes that are no message. gRPC answers those itself, as a fault of the server
// and before anything of ours runs. So the message is let through, empty and marked, and the interceptors refuse it.
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
	// read takes a message of the usual form. false: it is another or has a fault, and other is what the generated code is to
	// decode it into. Who keeps parts of buf takes a reference to it.
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
	proto.Reset(m)
	m.ProtoReflect().SetUnknown(undecodableMark)
	return nil
}

// undecodableMark is a field that no message of ours has. A client that sends it is refused, and that is all it gains.
var undecodableMark = protowire.AppendVarint(protowire.AppendTag(nil, protowire.MaxValidNumber, protowire.VarintType), 1)

// decoded refuses what codec has marked.
func decoded(v any) error {
	if r, ok := v.(wireReader); ok {
		v = r.other()
	}
	m, ok := v.(proto.Message)
	if !ok || string(m.ProtoReflect().GetUnknown()) != string(undecodableMark) {
		return nil
	}
	e := invalidField("", "the message can not be decoded: it is not of its type, or has text that is not UTF-8")
	e.Cause = errors.New("undecodable message")
	return e
}
