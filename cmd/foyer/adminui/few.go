package adminui

import (
	"encoding/json"
	"slices"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

// take passes on to the pages what a stream brings. Streams run only while there are few sockets.
func (w *watch) take(n news) {
	if !w.few { // of a stream that was ended
		return
	}
	switch {
	case n.ended && n.namespace == "":
		w.endTail() // the next look begins anew
	case n.ended:
		if n.exhausted { // too much happens, or the node has no room for the stream
			w.changes = fewChanges + 1
		}
		if cancel := w.followed[n.namespace]; cancel != nil {
			cancel()
			delete(w.followed, n.namespace)
			delete(w.unsynced, n.namespace)
			w.answer()
		}
	case n.event != nil:
		w.tellEvent(n.event)
	default:
		w.takeWatched(n.namespace, n.watched)
	}
}

func (w *watch) takeWatched(namespace string, m *foyerv1.WatchResponse) {
	switch m := m.GetMessage().(type) {
	case *foyerv1.WatchResponse_Reset_:
		if m.Reset_.GetReason() == foyerv1.ResetReason_RESET_REASON_GAP {
			w.changes = fewChanges + 1
		}
		w.forget(namespace)
		w.unsynced[namespace] = true
	case *foyerv1.WatchResponse_Snapshot:
		for _, s := range m.Snapshot.GetSockets() {
			w.keep(key{namespace, s.GetId()}, objectOf(s))
		}
	case *foyerv1.WatchResponse_Synced:
		delete(w.unsynced, namespace)
		if len(w.unsynced) == 0 {
			w.until = time.Now().Add(listsFor)
			if w.complete(); w.bytes <= fewBytes {
				w.tellAll()
			}
		}
	case *foyerv1.WatchResponse_Events:
		for _, e := range m.Events.GetEvents() {
			w.change(namespace, e)
		}
	}
	if len(w.sockets) > 2*fewSockets { // the next look may come too late for these
		w.changes = fewChanges + 1
		w.unfollow()
	}
	w.bound()
}

// bound shows a sample from the next look on when the sockets take too much memory.
func (w *watch) bound() {
	if w.bytes > fewBytes {
		w.large = time.Now()
		w.unfollow()
	}
}

func (w *watch) forget(namespace string) {
	for k := range w.sockets {
		if k.namespace == namespace {
			w.drop(k)
		}
	}
}

// change tells the pages of one change. After too many changes it tells no more, and the next look shows a sample.
func (w *watch) change(namespace string, e *foyerv1.PresenceEvent) {
	if w.changes++; w.changes > fewChanges {
		return
	}
	s, at := e.GetSocket(), stamp(e.GetTime().AsTime())
	k := key{namespace, s.GetId()}
	switch e.GetType() {
	case foyerv1.PresenceEvent_TYPE_CONNECTED:
		o := objectOf(s)
		w.keep(k, o)
		w.say("", "socket_connected", o, at)
	case foyerv1.PresenceEvent_TYPE_JOINED:
		if o, ok := w.sockets[k]; ok {
			o.Rooms = append(append([]string(nil), o.Rooms...), e.GetRooms()...)
			w.keep(k, o)
		}
		for _, room := range e.GetRooms() {
			w.say("", "room_joined", namespace, room, s.GetId(), at)
		}
	case foyerv1.PresenceEvent_TYPE_LEFT:
		if o, ok := w.sockets[k]; ok {
			o.Rooms = minus(o.Rooms, e.GetRooms())
			w.keep(k, o)
		}
		for _, room := range e.GetRooms() {
			w.say("", "room_left", namespace, room, s.GetId(), at)
		}
	case foyerv1.PresenceEvent_TYPE_UPDATED:
		o, ok := w.sockets[k]
		if !ok {
			return
		}
		is := objectOf(s)
		o.Data, o.dataBytes = is.Data, is.dataBytes
		w.keep(k, o)
		w.say("", "socket_updated", map[string]any{"id": s.GetId(), "nsp": namespace, "data": o.Data})
	case foyerv1.PresenceEvent_TYPE_DISCONNECTED:
		w.tellDisconnected(k, reasonWords(e.GetReason()), at)
	}
}

// tellDisconnected tells the pages that a socket has disconnected, and so has left its rooms.
func (w *watch) tellDisconnected(k key, why, at string) {
	rooms := w.sockets[k].Rooms
	w.drop(k)
	w.say("", "socket_disconnected", k.namespace, k.id, why, at)
	for _, room := range rooms {
		w.say("", "room_left", k.namespace, room, k.id, at)
	}
}

// complete asks for the handshake and the data of sockets at other nodes, which a snapshot of presence does not have.
// It returns those that it has got. It ends early when a node does not answer, which it asks again later, and when what
// it has got is too much for single sockets.
func (w *watch) complete() (whole []key) {
	partial := map[string][]string{}
	for k := range w.sockets {
		if w.sockets[k].partial {
			partial[k.namespace] = append(partial[k.namespace], k.id)
		}
	}
	for name, ids := range partial {
		for some := range slices.Chunk(ids, maxWhole) {
			l := w.listThese(name, full, some)
			for _, s := range l.sockets {
				k := key{name, s.GetId()}
				o, is := w.sockets[k], objectOf(s)
				o.Data, o.dataBytes, o.Handshake, o.partial = is.Data, is.dataBytes, is.Handshake, is.partial
				w.keep(k, o)
				if !o.partial {
					whole = append(whole, k)
				}
			}
			if l.missing() || w.bytes > fewBytes {
				return whole
			}
		}
	}
	return whole
}

// transports tells the pages which links have upgraded. Presence does not tell of that, so the watch has to ask.
func (w *watch) transports() {
	for _, k := range w.complete() {
		o := w.sockets[k]
		w.say("", "socket_updated", map[string]any{"id": o.ID, "nsp": k.namespace, "data": o.Data, "handshake": o.Handshake})
	}
	w.bound()
	for name, ids := range w.known() {
		l := w.listThese(name, basic, ids)
		for _, s := range l.sockets {
			k := key{name, s.GetId()}
			if o := w.sockets[k]; o.Transport != s.GetTransport() {
				o.Transport = s.GetTransport()
				w.keep(k, o)
				w.say("", "socket_updated", map[string]any{"id": o.ID, "nsp": name, "transport": o.Transport})
			}
		}
		if l.missing() {
			return // a slow node would hold up the look in each namespace; the next one may be the first then
		}
	}
}

// tellEvent tells the pages what a browser has emitted. It leaves out events beyond maxEvents and arguments that are
// too long.
func (w *watch) tellEvent(e *foyerv1.Event) {
	if w.events++; w.events > maxEvents {
		return
	}
	line := []any{e.GetPayload().GetEvent()}
	var args []json.RawMessage
	switch text := e.GetPayload().GetJson(); {
	case len(text) > maxEventBytes:
		line = append(line, "(arguments of more than 4 KiB)")
	case json.Unmarshal([]byte(text), &args) == nil:
		for _, a := range args {
			line = append(line, plain(a))
		}
	}
	w.say("", "event_received", e.GetSocket().GetNamespace(), e.GetSocket().GetId(), line, stamp(e.GetTime().AsTime()))
}

// plain is an argument with a word in the place of binary data. With a placeholder, the page would wait for bytes that
// are not sent.
func plain(raw json.RawMessage) any {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return nil
	}
	return named(v)
}

func named(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if v["_placeholder"] == true {
			return "(binary)"
		}
		for k := range v {
			v[k] = named(v[k])
		}
	case []any:
		for i := range v {
			v[i] = named(v[i])
		}
	}
	return v
}
