package service

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// MaxDataBytes is the most that an application may note about one socket, as JSON.
const MaxDataBytes = 64 << 10

// Update changes what an application notes about a socket. Fields that are nil stay as they are.
type Update struct {
	Data   []byte  // a JSON object that replaces what was there
	Merge  []byte  // a JSON object that is merged into it by RFC 7386
	UserID *string // replaces the name of the user
}

// ErrSocketNotFound is the answer about a socket that is not there, or not any more.
var ErrSocketNotFound = &Error{Code: NotFound, Reason: "SOCKET_NOT_FOUND", Message: "no such socket", Field: "socket_id"}

// Update changes a socket's notes, tells watchers, and returns the socket as it is now. An update that changes nothing is
// told to nobody.
func (n *Node) Update(namespace string, id SocketID, u Update) (SocketInfo, error) {
	ns := n.namespace(namespace)
	if ns == nil {
		return SocketInfo{}, ErrSocketNotFound
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	s := ns.sockets[id]
	if s == nil {
		return SocketInfo{}, ErrSocketNotFound
	}
	data, userID := s.data, s.userID
	switch {
	case u.Data != nil:
		data = u.Data
	case u.Merge != nil:
		var err error
		if data, err = mergePatch(s.data, u.Merge); err != nil {
			return SocketInfo{}, &Error{Code: Invalid, Reason: "INVALID_FIELD", Message: "not a JSON object", Field: "merge_data", Cause: err}
		}
	}
	if len(data) > MaxDataBytes {
		return SocketInfo{}, &Error{
			Code: Invalid, Reason: "PAYLOAD_TOO_LARGE", Field: "data",
			Message: fmt.Sprintf("the data of a socket would be %d bytes, at most %d are kept", len(data), MaxDataBytes),
		}
	}
	if u.UserID != nil {
		userID = *u.UserID
	}
	if !bytes.Equal(data, s.data) || userID != s.userID {
		s.data, s.userID = data, userID
		s.generation.Add(1)
		ns.recordLocked(PresenceUpdated, s, nil, ReasonNone, "")
	}
	return *s.infoLocked(), nil
}

// mergePatch merges one JSON object into another (RFC 7386). The result is a new document.
func mergePatch(target, patch []byte) ([]byte, error) {
	t, err := decodeObject(target)
	if err != nil {
		return nil, err
	}
	p, err := decodeObject(patch)
	if err != nil {
		return nil, err
	}
	return json.Marshal(mergeObjects(t, p))
}

// decodeObject reads a JSON object, numbers as they are written; nothing at all is an empty one.
func decodeObject(text []byte) (map[string]any, error) {
	object := map[string]any{}
	if len(text) == 0 {
		return object, nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err := d.Decode(&object)
	return object, err
}

func mergeObjects(target, patch map[string]any) map[string]any {
	if target == nil {
		target = map[string]any{}
	}
	for key, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(target, key)
		case map[string]any:
			inner, _ := target[key].(map[string]any) // what is no object is replaced by one
			target[key] = mergeObjects(inner, value)
		default:
			target[key] = value
		}
	}
	return target
}
