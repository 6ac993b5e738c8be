package grpcapi

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// A page token is a cursor of the service and a checksum over it and the query that it belongs to. The checksum catches
// tokens of other queries and damaged ones; it keeps no secret and needs no key, so that a token is good on any node.

const (
	pageTokenVersion = 1
	pageSumBytes     = 16
	pageTokenBytes   = 1 + 8 + pageSumBytes
)

// listQuery is the canonical form of a query: the same for queries that mean the same.
func listQuery(t service.Target, view foyerv1.SocketView) []byte {
	q := []byte{byte(view), flag(t.All) | flag(t.Local)<<1}
	add := func(s string) {
		q = binary.AppendUvarint(q, uint64(len(s)))
		q = append(q, s...)
	}
	add(t.Namespace)
	for _, rooms := range [][]string{t.Rooms, t.ExceptRooms} {
		rooms = slices.Compact(slices.Sorted(slices.Values(rooms)))
		q = binary.AppendUvarint(q, uint64(len(rooms)))
		for _, r := range rooms {
			add(r)
		}
	}
	return q
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func pageToken(cursor uint64, query []byte) string {
	token := binary.BigEndian.AppendUint64([]byte{pageTokenVersion}, cursor)
	return base64.RawURLEncoding.EncodeToString(append(token, pageSum(token, query)...))
}

// parsePageToken is the cursor of a token; 0 for an empty one.
func parsePageToken(token string, query []byte) (uint64, error) {
	if token == "" {
		return 0, nil
	}
	wrong := invalid(foyerv1.ErrorReason_ERROR_REASON_INVALID_TOKEN, "page_token", "not a token of this query")
	if len(token) != base64.RawURLEncoding.EncodedLen(pageTokenBytes) {
		return 0, wrong
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != pageTokenBytes || raw[0] != pageTokenVersion {
		return 0, wrong
	}
	if string(raw[9:]) != string(pageSum(raw[:9], query)) {
		return 0, wrong
	}
	cursor := binary.BigEndian.Uint64(raw[1:9])
	if cursor == 0 { // never made: it would begin anew
		return 0, wrong
	}
	return cursor, nil
}

func pageSum(token, query []byte) []byte {
	h := sha256.New()
	h.Write([]byte("foyer page token\x00"))
	h.Write(token)
	h.Write(query)
	return h.Sum(nil)[:pageSumBytes]
}
