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

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
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
	m, ok := v.(proto.Message)
	if !ok || string(m.ProtoReflect().GetUnknown()) != string(undecodableMark) {
		return nil
	}
	e := invalidField("", "the message can not be decoded: it is not of its type, or has text that is not UTF-8")
	e.Cause = errors.New("undecodable message")
	return e
}
