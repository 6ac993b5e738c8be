package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	foyerv1 "foyer/gen/foyer/v1"
)

// passedOn are the headers that the gRPC server hears of. The others are of HTTP, or nobody's business.
var passedOn = []string{"authorization", "traceparent", "tracestate"}

// call makes the call that vanguard has put into gRPC's form (gRPC over HTTP/2, "Requests" and "Responses") and gives
// it the answer in that form.
func (s *Server) call(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Type", "application/grpc+proto")
	head.Set("Trailer", "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin")
	st := status.Convert(s.exchange(w, r))
	head.Set("Grpc-Status", strconv.Itoa(int(st.Code())))
	head.Set("Grpc-Message", percent(st.Message()))
	if raw, err := proto.Marshal(st.Proto()); err == nil && st.Code() != codes.OK {
		head.Set("Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(raw))
	}
}

func (s *Server) exchange(w http.ResponseWriter, r *http.Request) error {
	b, _ := r.Context().Value(bodyKey{}).(*body)
	ctx, cancel, err := s.deadline(r)
	defer cancel()
	if err != nil {
		return err
	}
	message, err := readMessage(r.Body)
	_ = r.Body.Close() // vanguard lets go of it
	if err != nil {
		return err // unless vanguard has said already what is wrong with it
	}
	md := metadata.MD{}
	for _, name := range passedOn {
		md.Append(name, r.Header.Values(name)...)
	}
	if s.cfg.AddressKey != "" { // all calls come to it by one connection
		md.Set(s.cfg.AddressKey, s.address(r))
	}
	stream, err := s.conn.NewStream(metadata.NewOutgoingContext(ctx, md), &grpc.StreamDesc{ServerStreams: true}, r.URL.Path)
	if err != nil {
		return ended(err)
	}
	if err := stream.SendMsg(message); err == nil {
		_ = stream.CloseSend() // how the call fares, the answer says
	}
	b.release()
	for {
		var answer []byte
		switch err := stream.RecvMsg(&answer); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return ended(err)
		}
		if _, err := w.Write(envelope(answer)); err != nil {
			return status.FromContextError(context.Canceled).Err() // the client is gone
		}
	}
}

// deadline is the context of a call: its client's, and of a call with one answer a time that we set.
func (s *Server) deadline(r *http.Request) (context.Context, context.CancelFunc, error) {
	wait := time.Duration(0)
	if !s.methods[r.URL.Path].stream {
		wait = callTimeout
	}
	if text := r.Header.Get("Grpc-Timeout"); text != "" {
		asked, err := parseTimeout(text)
		if err != nil {
			return nil, func() {}, err
		}
		if wait == 0 || asked < wait {
			wait = asked
		}
	}
	if wait == 0 {
		ctx, cancel := context.WithCancel(r.Context())
		return ctx, cancel, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	return ctx, cancel, nil
}

var timeoutUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// parseTimeout reads a timeout of gRPC's: at most 8 digits and a unit.
func parseTimeout(text string) (time.Duration, error) {
	unit := timeoutUnits[text[len(text)-1]]
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
	if unit == 0 || err != nil || len(text) > 9 {
		return 0, refusedStatus(foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD, codes.InvalidArgument, fmt.Sprintf("the timeout %.20q is none", text))
	}
	if n > uint64(24*time.Hour/unit) { // longer than any call
		return 24 * time.Hour, nil
	}
	return time.Duration(n) * unit, nil //nolint:gosec // was compared
}

// readMessage is the one message of a request.
func readMessage(r io.Reader) ([]byte, error) {
	all, err := io.ReadAll(r)
	switch {
	case err != nil, len(all) < envelopeBytes, int64(len(all)-envelopeBytes) != int64(binary.BigEndian.Uint32(all[1:])):
		return nil, refusedStatus(foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD, codes.InvalidArgument,
			"the request is not one message: a byte 0, the number of its bytes in four, and these")
	case all[0] != 0:
		return nil, refusedStatus(foyerv1.ErrorReason_ERROR_REASON_NOT_IMPLEMENTED, codes.Unimplemented, "requests are taken uncompressed")
	}
	return all[envelopeBytes:], nil
}

// ended is what a caller is told when the connection in memory has ended: its server stops.
func ended(err error) error {
	if st := status.Convert(err); st.Code() == codes.Unavailable && len(st.Details()) == 0 {
		return refusedStatus(foyerv1.ErrorReason_ERROR_REASON_DRAINING, codes.Unavailable, "the node is going down")
	}
	return err
}

// envelopeBytes is the length of what stands before a message: flags, and its length.
const envelopeBytes = 5

func envelope(message []byte) []byte {
	out := make([]byte, envelopeBytes, envelopeBytes+len(message))
	binary.BigEndian.PutUint32(out[1:], uint32(len(message))) //nolint:gosec // messages have a bound
	return append(out, message...)
}

// percent encodes a status message as gRPC does.
func percent(text string) string {
	var out strings.Builder
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&out, "%%%02X", c)
		} else {
			out.WriteByte(c)
		}
	}
	return out.String()
}

// bytesCodec leaves messages as they are.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T is not bytes", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T is not bytes", v)
	}
	*b = data.Materialize() //nolint:misspell // the name that gRPC has for it
	return nil
}
