package grpcapi

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// A page token is a place in a list and a checksum over it and the query that it belongs to. The checksum catches
// tokens of other queries and damaged ones; it keeps no secret and needs no key, so that a token is good on any node.
// Of sockets the place is the node whose sockets are listed, its run, and the next of them there; of rooms it is the
// name of the last one seen.

const (
	roomsTokenVersion   = 2
	socketsTokenVersion = 3
	pageSumBytes        = 16
)

// listQuery is the canonical form of a query: the same for queries that mean the same.
func listQuery(t service.Target, view foyerv1.SocketView) []byte {
	q := []byte{byte(view), flag(t.All) | flag(t.Local)<<1}
	q = appendText(q, t.Namespace)
	for _, rooms := range [][]string{t.Rooms, t.ExceptRooms} {
		rooms = slices.Compact(slices.Sorted(slices.Values(rooms)))
		q = binary.AppendUvarint(q, uint64(len(rooms)))
		for _, r := range rooms {
			q = appendText(q, r)
		}
	}
	return q
}

func roomsQuery(namespace, prefix string) []byte {
	return appendText(appendText(nil, namespace), prefix)
}

func appendText(q []byte, s string) []byte {
	return append(binary.AppendUvarint(q, uint64(len(s))), s...)
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func pageToken(p service.Place, query []byte) string {
	b := binary.BigEndian.AppendUint64([]byte{socketsTokenVersion}, p.Run)
	return sealToken(append(binary.BigEndian.AppendUint64(b, p.Seq), p.Node...), query)
}

// parsePageToken is the place of a token; that of an empty one is the beginning.
func parsePageToken(token string, query []byte) (p service.Place, err error) {
	if token == "" {
		return p, nil
	}
	b, ok := openToken(token, socketsTokenVersion, query)
	if !ok || len(b) < 16 {
		return p, wrongPageToken()
	}
	p.Run, p.Seq, p.Node = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), service.NodeID(b[16:])
	if p.Seq == 0 || p.Node == "" { // such are never made: they would begin anew
		return service.Place{}, wrongPageToken()
	}
	return p, nil
}

func roomsToken(last string, query []byte) string {
	return sealToken(append([]byte{roomsTokenVersion}, last...), query)
}

// parseRoomsToken is the name that a page comes behind; "" for an empty token.
func parseRoomsToken(token string, query []byte) (string, error) {
	if token == "" {
		return "", nil
	}
	place, ok := openToken(token, roomsTokenVersion, query)
	if !ok || len(place) == 0 {
		return "", wrongPageToken()
	}
	return string(place), nil
}

func wrongPageToken() error {
	return invalid(foyerv1.ErrorReason_ERROR_REASON_INVALID_TOKEN, "page_token", "is not a token of this request: send next_page_token of the page before, with the rest of that request unchanged")
}

func sealToken(place, query []byte) string {
	return base64.RawURLEncoding.EncodeToString(append(place, pageSum(place, query)...))
}

// openToken is what a token was made of, behind its version.
func openToken(token string, version byte, query []byte) (place []byte, ok bool) {
	if len(token) > base64.RawURLEncoding.EncodedLen(1+service.MaxNameBytes+pageSumBytes) || strings.ContainsAny(token, "\r\n") {
		return nil, false // the decoder skips line breaks
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < 1+pageSumBytes || raw[0] != version {
		return nil, false
	}
	place, sum := raw[:len(raw)-pageSumBytes], raw[len(raw)-pageSumBytes:]
	return place[1:], string(sum) == string(pageSum(place, query))
}

func pageSum(token, query []byte) []byte {
	h := sha256.New()
	h.Write([]byte("foyer page token\x00"))
	h.Write(token)
	h.Write([]byte{0xff})
	h.Write(query)
	return h.Sum(nil)[:pageSumBytes]
}
