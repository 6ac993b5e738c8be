package socketio

import (
	"bytes"
	"net/url"
	"strconv"
	"strings"

	"foyer/service"
	"foyer/service/payload"
)

// Clients of Socket.IO v2 come over EIO=3 and speak version 4 of this protocol, as the reference serves it (Socket.IO
// protocol v5, "EIO=3 clients"). What they send is read by the same parser; only JSON's, as nothing tells another one.

// beginV2 makes the link one of v2 and joins it to "/", which such a client does not ask for. Handlers see no auth:
// these clients have said it in the handshake's query.
func (l *Link) beginV2() {
	l.v2, l.started = true, true
	if f := l.connect(&incoming{kind: service.KindConnect, id: service.NoAck}); f != 0 {
		detail, setting := l.wrong(f, 0)
		l.fail(f, detail, setting)
	}
}

// cutQuery takes the query off the namespace of a packet. That of a CONNECT is its auth.
func cutQuery(in *incoming) {
	name, query, _ := bytes.Cut(in.namespace, []byte("?"))
	if in.namespace = name; in.kind == service.KindConnect {
		in.payload = queryAuth(string(query))
	}
}

// maxQueryPairs is how much of a query is looked at, as in the reference: a message may be large.
const maxQueryPairs = 1000

// queryAuth returns a query as a JSON object of strings, nil when it is empty. As in a handshake's query, the last of
// repeated keys wins and broken escapes stand for themselves.
func queryAuth(query string) []byte {
	values := make(map[string]string)
	var keys []string
	pairs := 0
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		if pairs++; pairs > maxQueryPairs {
			break
		}
		k, v, _ := strings.Cut(pair, "=")
		k = unescape(k)
		if _, again := values[k]; !again {
			keys = append(keys, k)
		}
		values[k] = unescape(v)
	}
	if keys == nil {
		return nil
	}
	object := []byte{'{'}
	for i, k := range keys {
		if i > 0 {
			object = append(object, ',')
		}
		object = append(payload.AppendQuoted(object, k), ':')
		object = payload.AppendQuoted(object, values[k])
	}
	return append(object, '}')
}

func unescape(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return strings.ToValidUTF8(u, "\uFFFD")
	}
	return strings.ReplaceAll(s, "+", " ")
}

// errorV2 is what a CONNECT_ERROR of v2 carries: the data alone, where JavaScript takes it for something, otherwise the
// message as a string. The reference makes an exception of a namespace that is not there.
func errorV2(r service.Refusal) []byte {
	switch {
	case r.NoNamespace:
		return errorObject(r)
	case truthy(r.Data):
		return r.Data
	}
	return payload.AppendQuoted(nil, r.Message)
}

func truthy(json []byte) bool {
	switch text := string(trim(json)); text {
	case "", "null", "false", `""`:
		return false
	default:
		n, err := strconv.ParseFloat(text, 64)
		return err != nil || n != 0
	}
}

// JSONv2 is the codec of links that are of Socket.IO v2. It differs from JSON in one thing: a client of v2 that finds a
// payload at the answer to its CONNECT takes it for an error.
var JSONv2 service.Codec = jsonV2Codec{}

type jsonV2Codec struct{}

// Join makes one message of several.
func (jsonV2Codec) Join(frames []service.Frame) service.Frame { return joinMessages(frames) }

// Encode returns the errors of JSON's.
func (jsonV2Codec) Encode(p *service.Packet) (service.Frame, error) {
	if p.Kind == service.KindConnect {
		bare := *p
		bare.Payload = nil
		p = &bare
	}
	return JSON.Encode(p)
}
