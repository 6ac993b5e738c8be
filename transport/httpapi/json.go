package httpapi

import (
	"bytes"
	"encoding/json"
	"strings"

	"connectrpc.com/connect"
	"connectrpc.com/vanguard"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	foyerv1 "foyer/gen/foyer/v1"
)

// decoders is how many requests are decoded at once: a list of numbers in JSON takes some fifty times its bytes as a
// message.
const decoders = 2

// jsonCodec is JSON as grpcurl takes it: a field that is not known is an error, so that a wrong letter does nothing
// else than what was meant.
type jsonCodec struct {
	vanguard.JSONCodec
	slots chan struct{}
}

// newJSON makes what makes codecs, of which vanguard has one for each method.
func newJSON() func(vanguard.TypeResolver) vanguard.Codec {
	slots := make(chan struct{}, decoders)
	return func(res vanguard.TypeResolver) vanguard.Codec {
		return jsonCodec{
			JSONCodec: vanguard.JSONCodec{
				MarshalOptions:   protojson.MarshalOptions{Resolver: res},
				UnmarshalOptions: protojson.UnmarshalOptions{Resolver: res},
			},
			slots: slots,
		}
	}
}

// MarshalAppend leaves out the spaces that protojson puts in at random, so that the same answer is the same text.
func (c jsonCodec) MarshalAppend(base []byte, m proto.Message) ([]byte, error) {
	text, err := c.JSONCodec.MarshalAppend(nil, m)
	if err != nil {
		return nil, err
	}
	out := bytes.NewBuffer(base)
	if err := json.Compact(out, text); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Unmarshal decodes when it is its turn. It waits for nothing but other decoding.
func (c jsonCodec) Unmarshal(data []byte, m proto.Message) error {
	c.slots <- struct{}{}
	defer func() { <-c.slots }()
	err := c.JSONCodec.Unmarshal(data, m)
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto:"))
	e := fault(connect.CodeInvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD, "the JSON is no %s: %.300s", m.ProtoReflect().Descriptor().FullName(), text)
	if d, err := connect.NewErrorDetail(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Description: e.Message()}}}); err == nil {
		e.AddDetail(d)
	}
	return e
}
