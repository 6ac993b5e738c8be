package engineio

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// compressFrom is the size in bytes under which compression costs more than it saves (the reference server's
// threshold).
const compressFrom = 1024

// Without context takeover (RFC 7692 section 7.1.1) a compressed frame depends on nothing but its payload, so it is
// made once and shared. Level 1: most of the gain for a third of the CPU.
var flatePool = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.BestSpeed) // fails only on a bad level
	return w
}}

var gzipPool = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	return w
}}

func (m *Message) worthDeflating() bool {
	if m.hasText && m.textLen() >= compressFrom {
		return true
	}
	for _, a := range m.attachments {
		if len(a) >= compressFrom {
			return true
		}
	}
	return false
}

func (m *Message) buildDeflate() []byte {
	var b []byte
	if m.hasText {
		b = appendDeflated(b, opText, m.appendText(make([]byte, 0, m.textLen())))
	}
	for _, a := range m.attachments {
		b = appendDeflated(b, opBinary, a)
	}
	return b
}

// appendDeflated appends one frame, compressed when that makes it smaller. A sender may leave any message uncompressed
// (RFC 7692 section 6.1).
func appendDeflated(b []byte, op byte, payload []byte) []byte {
	if len(payload) >= compressFrom {
		if z := deflate(payload); len(z) < len(payload) {
			return append(appendFrameHeader(b, op|rsv1Bit, len(z)), z...)
		}
	}
	return append(appendFrameHeader(b, op, len(payload)), payload...)
}

func deflate(payload []byte) []byte {
	var buf bytes.Buffer
	w := flatePool.Get().(*flate.Writer)
	defer flatePool.Put(w)
	w.Reset(&buf)
	// A bytes.Buffer does not fail. Flush ends with an empty stored block, 00 00 ff ff, that RFC 7692 section 7.2.1
	// strips.
	_, _ = w.Write(payload)
	_ = w.Flush()
	return bytes.TrimSuffix(buf.Bytes(), []byte{0, 0, 0xff, 0xff})
}

// offersDeflate reports whether the client offers a permessage-deflate that can be answered with no_context_takeover
// both ways and the full window. An offer that demands a smaller server window must be declined (RFC 7692 section
// 7.1.2.1), because compress/flate has only the full one.
func offersDeflate(h http.Header) bool {
	for _, line := range h["Sec-Websocket-Extensions"] {
		for offer := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(offer, ";")
			if strings.TrimSpace(name) != "permessage-deflate" {
				continue
			}
			if acceptableParams(params) {
				return true
			}
		}
	}
	return false
}

func acceptableParams(params string) bool {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		value = strings.Trim(strings.TrimSpace(value), `"`)
		switch strings.TrimSpace(name) {
		case "", "server_no_context_takeover", "client_no_context_takeover", "client_max_window_bits":
		case "server_max_window_bits":
			if value != "15" {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// acceptsGzip reports whether the request lets the response be gzip (RFC 9110 section 12.5.3).
func acceptsGzip(h http.Header) bool {
	for _, line := range h["Accept-Encoding"] {
		for part := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(part, ";")
			if name = strings.TrimSpace(name); !strings.EqualFold(name, "gzip") && name != "*" {
				continue
			}
			q, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
			if !ok {
				return true
			}
			v, err := strconv.ParseFloat(q, 64)
			return err == nil && v > 0
		}
	}
	return false
}
