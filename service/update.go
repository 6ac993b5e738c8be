package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
var ErrSocketNotFound = &Error{Code: NotFound, Reason: "SOCKET_NOT_FOUND", Field: "socket_id", Message: "no such socket in this namespace, or not any more"}

// Update changes a socket's notes, tells watchers, and returns the socket as it is now. An update that changes nothing
// is told to nobody. ErrBudget: it would add to what is kept, and the memory budget is spent. As for Socket, one node
// answers.
func (n *Node) Update(_ context.Context, namespace string, id SocketID, u Update) (SocketInfo, error) {
	ns := n.namespace(namespace)
	if ns == nil {
		return SocketInfo{}, ErrSocketNotFound
	}
	var info SocketInfo
	var err error
	if u.Data == nil && u.Merge != nil {
		info, err = n.merge(ns, id, u)
	} else {
		info, err = ns.note(id, u)
	}
	if errors.Is(err, ErrBudget) {
		n.budgetSpent(UseData)
	}
	return info, err
}

// note replaces what an update names.
func (ns *Namespace) note(id SocketID, u Update) (SocketInfo, error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	s := ns.sockets[id]
	if s == nil {
		return SocketInfo{}, ErrSocketNotFound
	}
	data := s.data
	if u.Data != nil {
		data = u.Data
	}
	return ns.noteLocked(s, data, u.UserID)
}

// maxMergeTries is how often a merge is worked out anew because the data was replaced meanwhile.
const maxMergeTries = 8

// merge merges into a socket's data. It decodes and encodes with nothing locked but the merges of the same socket, and
// does so again when the data was replaced meanwhile; the last time with the namespace locked, so that it ends.
func (n *Node) merge(ns *Namespace, id SocketID, u Update) (SocketInfo, error) {
	var lane uint
	if len(id) > 0 {
		lane = uint(id[len(id)-1])
	}
	merging := &n.merging[lane%uint(len(n.merging))]
	merging.Lock()
	defer merging.Unlock()
	for try := 1; ; try++ {
		ns.mu.RLock()
		s := ns.sockets[id]
		if s == nil {
			ns.mu.RUnlock()
			return SocketInfo{}, ErrSocketNotFound
		}
		before := s.data
		ns.mu.RUnlock()
		after, err := merged(before, u.Merge)
		if err != nil {
			return SocketInfo{}, err
		}
		info, done, err := ns.replaceData(s, before, after, u, try == maxMergeTries)
		if done {
			return info, err
		}
	}
}

// replaceData notes the data after a merge, if it is still what it was before. Else, if this is the last try, it merges
// into what is there now.
func (ns *Namespace) replaceData(s *Socket, before, after []byte, u Update, last bool) (info SocketInfo, done bool, err error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	switch {
	case !s.present:
		return SocketInfo{}, true, ErrSocketNotFound
	case bytes.Equal(s.data, before):
	case !last:
		return SocketInfo{}, false, nil
	default:
		if after, err = merged(s.data, u.Merge); err != nil {
			return SocketInfo{}, true, err
		}
	}
	info, err = ns.noteLocked(s, after, u.UserID)
	return info, true, err
}

func merged(data, patch []byte) ([]byte, error) {
	after, err := mergePatch(data, patch)
	if err != nil {
		return nil, &Error{Code: Invalid, Reason: "INVALID_FIELD", Field: "merge_data", Message: "cannot be merged", Cause: err}
	}
	return after, nil
}

// noteLocked replaces what is noted about a socket, with mu held, and tells watchers if that is a change.
func (ns *Namespace) noteLocked(s *Socket, data []byte, user *string) (SocketInfo, error) {
	userID := s.userID
	if user != nil {
		userID = *user
	}
	if len(data) > MaxDataBytes {
		return SocketInfo{}, &Error{
			Code: Invalid, Reason: "PAYLOAD_TOO_LARGE", Field: "data",
			Message: fmt.Sprintf("the data of the socket would have %d bytes as JSON, at most %d", len(data), MaxDataBytes),
		}
	}
	same := bytes.Equal(data, s.data)
	if same && userID == s.userID {
		return *s.infoLocked(), nil
	}
	if same {
		data = s.data // what changes is the name of the user
	}
	if grown := cap(data) + len(userID) - s.noteBytes(); grown > 0 && !ns.node.cfg.Budget.Take(UseData, grown) {
		return SocketInfo{}, ErrBudget
	} else if grown < 0 {
		ns.node.cfg.Budget.Give(UseData, -grown)
	}
	released := len(s.userID)
	if !same {
		released += cap(s.data)
	}
	s.data, s.userID = data, userID
	s.changes.Add(1)
	ns.recordReleaseLocked(PresenceUpdated, s, nil, ReasonNone, "", released)
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
