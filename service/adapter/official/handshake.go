package official

import (
	"maps"
	"slices"
	"time"

	"foyer/service/payload"
)

// Handshake is the request that opened a socket's link, as the official servers describe it to each other.
type Handshake struct {
	Address        string
	Time           time.Time // whole milliseconds
	URL            string
	Query, Headers map[string]string
	XDomain        bool   // the request had an Origin
	Secure         bool   // it came by TLS
	Auth           []byte // a JSON object; nil for none
}

// nodeTime is how Date.toString writes a time in a process whose zone is UTC.
const nodeTime = "Mon Jan 02 2006 15:04:05 GMT+0000 (Coordinated Universal Time)"

// Append appends the handshake as a JSON object, for Socket.Handshake. The error is a Fault: some text is not UTF-8, or
// Auth is no JSON; dst is then as before.
func (h *Handshake) Append(dst []byte) ([]byte, error) {
	w := writer{b: dst, maxDepth: maxDepth}
	w.open('{', 0)
	w.pairs("headers", h.Headers)
	w.field("time", h.Time.UTC().Format(nodeTime))
	w.field("address", h.Address)
	w.bool("xdomain", h.XDomain)
	w.bool("secure", h.Secure)
	w.number("issued", int(h.Time.UnixMilli()))
	w.field("url", h.URL)
	w.pairs("query", h.Query)
	w.key("auth")
	w.object(h.Auth)
	w.close()
	return w.done(dst)
}

// pairs writes a map in the order of its keys, so that the same handshake has the same bytes.
func (w *writer) pairs(name string, m map[string]string) {
	w.key(name)
	w.open('{', 0)
	for _, key := range slices.Sorted(maps.Keys(m)) {
		w.text(key)
		w.b[len(w.b)-1] = ':' // in the place of the comma
		w.text(m[key])
	}
	w.close()
}

// ReadHandshake reads what Socket.Handshake holds. What is missing or of another kind is left out, since applications
// change handshakes; of a header or parameter that came several times the first value is taken.
func ReadHandshake(b []byte) (h Handshake) {
	if payload.CheckObject(b, payload.Options{}) != nil {
		return h
	}
	payload.Members(b, func(key, item []byte) bool {
		v := value{b: item}
		s := ""
		if v.sort() == text {
			s = v.text()
		}
		switch payload.Unquote(key) {
		case "headers":
			h.Headers = v.pairs()
		case "query":
			h.Query = v.pairs()
		case "address":
			h.Address = s
		case "url":
			h.URL = s
		case "xdomain":
			h.XDomain = v.truthy()
		case "secure":
			h.Secure = v.truthy()
		case "issued":
			if v.sort() == number {
				const most = 8_640_000_000_000_000 // of a Date
				h.Time = time.UnixMilli(int64(min(max(v.number(), 0), most))).UTC()
			}
		case "auth":
			if v.sort() == object {
				h.Auth = item
			}
		}
		return true
	})
	return h
}

func (v value) pairs() map[string]string {
	if v.sort() != object {
		return nil
	}
	m := map[string]string{}
	payload.Members(v.b, func(key, item []byte) bool {
		is := value{b: item}
		if is.sort() == list {
			is.items(func(one value) bool {
				is = one
				return false
			})
		}
		if s, ok := is.name(); ok {
			m[payload.Unquote(key)] = s
		}
		return true
	})
	return m
}
