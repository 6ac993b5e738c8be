package httpapi

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net/http"

	"connectrpc.com/connect"
)

// lines turns an answer of Connect's streams (https://connectrpc.com/docs/protocol#streaming-rpcs) into lines of JSON:
// each is {"result":…}, and the last one may be {"error":…}. An error before the first result is the whole answer and
// has its HTTP status, as with a call that has one answer.
type lines struct {
	http.ResponseWriter
	begun   bool
	other   bool   // the answer is no stream: it has failed before there was one
	pending []byte // of an envelope that has not come whole
}

const endOfStream = 2 // the flag of Connect's last envelope

func (l *lines) Unwrap() http.ResponseWriter { return l.ResponseWriter }

// WriteHeader waits for what comes first. Streams of Connect have 200 however they end, so an answer of another status
// is none, and passes as it is.
func (l *lines) WriteHeader(code int) {
	if code < http.StatusBadRequest || l.begun {
		return
	}
	l.begun, l.other = true, true
	l.ResponseWriter.WriteHeader(code)
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	if l.other {
		return l.ResponseWriter.Write(p)
	}
	l.pending = append(l.pending, p...)
	for len(l.pending) >= envelopeBytes {
		size := int64(binary.BigEndian.Uint32(l.pending[1:]))
		if int64(len(l.pending)-envelopeBytes) < size {
			break
		}
		message := l.pending[envelopeBytes : envelopeBytes+size]
		if err := l.message(l.pending[0], message); err != nil {
			return 0, err
		}
		l.pending = l.pending[envelopeBytes+size:]
	}
	if len(l.pending) == 0 {
		l.pending = nil // a large one is not kept
	}
	return len(p), nil
}

func (l *lines) message(flags byte, message []byte) error {
	if flags&endOfStream == 0 {
		l.begin(http.StatusOK)
		return l.line("result", message)
	}
	var end struct {
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(message, &end); err != nil {
		return err
	}
	switch {
	case end.Error == nil:
		l.begin(http.StatusOK)
		return nil
	case l.begun:
		return l.line("error", end.Error)
	}
	var is struct {
		Code connect.Code `json:"code"`
	}
	_ = json.Unmarshal(end.Error, &is) // else it is an unknown one
	l.Header().Set("Content-Type", "application/json")
	l.begun = true
	l.ResponseWriter.WriteHeader(httpStatus(is.Code))
	_, err := l.ResponseWriter.Write(end.Error)
	return err
}

func (l *lines) begin(code int) {
	if !l.begun {
		l.begun = true
		l.Header().Set("Content-Type", "application/x-ndjson")
		l.ResponseWriter.WriteHeader(code)
	}
}

func (l *lines) line(key string, value []byte) error {
	var out bytes.Buffer
	out.Grow(len(key) + len(value) + 8)
	out.WriteString(`{"` + key + `":`)
	out.Write(value)
	out.WriteString("}\n")
	_, err := l.ResponseWriter.Write(out.Bytes())
	return err
}

// Flush implements http.Flusher: nothing is sent before it is known how the call fares.
func (l *lines) Flush() {
	if f, ok := l.ResponseWriter.(http.Flusher); ok && l.begun {
		f.Flush()
	}
}

// end sends the header of an answer that has nothing else.
func (l *lines) end() { l.begin(http.StatusOK) }

// httpStatus is that of an error of Connect's (https://connectrpc.com/docs/protocol#error-codes).
func httpStatus(code connect.Code) int {
	switch code {
	case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeOutOfRange:
		return http.StatusBadRequest
	case connect.CodeUnauthenticated:
		return http.StatusUnauthorized
	case connect.CodePermissionDenied:
		return http.StatusForbidden
	case connect.CodeNotFound:
		return http.StatusNotFound
	case connect.CodeAlreadyExists, connect.CodeAborted:
		return http.StatusConflict
	case connect.CodeResourceExhausted:
		return http.StatusTooManyRequests
	case connect.CodeCanceled:
		return 499
	case connect.CodeUnimplemented:
		return http.StatusNotImplemented
	case connect.CodeUnavailable:
		return http.StatusServiceUnavailable
	case connect.CodeDeadlineExceeded:
		return http.StatusGatewayTimeout
	case connect.CodeUnknown, connect.CodeInternal, connect.CodeDataLoss:
	}
	return http.StatusInternalServerError
}
