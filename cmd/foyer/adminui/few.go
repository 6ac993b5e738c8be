package adminui

import (
	"context"
	"encoding/json"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

// take tells the pages what one of the streams has told, while there are few sockets.
func (w *watch) take(n news) {
	if !w.few { // of a stream that was ended
		return
	}
	switch {
	case n.ended && n.namespace == "":
		w.endTail() // the next look begins anew
	case n.ended:
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
		w.forget(namespace)
		w.unsynced[namespace] = true
	case *foyerv1.WatchResponse_Snapshot:
		for _, s := range m.Snapshot.GetSockets() {
			w.sockets[key{namespace, s.GetId()}] = objectOf(s)
		}
	case *foyerv1.WatchResponse_Synced:
		delete(w.unsynced, namespace)
		if len(w.unsynced) == 0 {
			w.tellAll()
		}
	case *foyerv1.WatchResponse_Events:
		for _, e := range m.Events.GetEvents() {
			w.change(namespace, e)
		}
	}
	if len(w.sockets) > 2*fewSockets { // the next look has no time to come
		w.changes = fewChanges + 1
		w.unfollow()
	}
}

func (w *watch) forget(namespace string) {
	for k := range w.sockets {
		if k.namespace == namespace {
			delete(w.sockets, k)
		}
	}
}

// change tells the pages one change. Of too many they hear no more until the next look, which shows a sample.
func (w *watch) change(namespace string, e *foyerv1.PresenceEvent) {
	if w.changes++; w.changes > fewChanges {
		return
	}
	s, at := e.GetSocket(), stamp(e.GetTime().AsTime())
	k := key{namespace, s.GetId()}
	switch e.GetType() {
	case foyerv1.PresenceEvent_TYPE_CONNECTED:
		o := objectOf(s)
		w.sockets[k] = o
		w.opened++
		w.say("", "socket_connected", o, at)
	case foyerv1.PresenceEvent_TYPE_JOINED:
		if o, ok := w.sockets[k]; ok {
			o.Rooms = append(append([]string(nil), o.Rooms...), e.GetRooms()...)
			w.sockets[k] = o
		}
		for _, room := range e.GetRooms() {
			w.say("", "room_joined", namespace, room, s.GetId(), at)
		}
	case foyerv1.PresenceEvent_TYPE_LEFT:
		if o, ok := w.sockets[k]; ok {
			o.Rooms = without(o.Rooms, e.GetRooms())
			w.sockets[k] = o
		}
		for _, room := range e.GetRooms() {
			w.say("", "room_left", namespace, room, s.GetId(), at)
		}
	case foyerv1.PresenceEvent_TYPE_UPDATED:
		o, ok := w.sockets[k]
		if !ok {
			return
		}
		o.Data = objectOf(s).Data
		w.sockets[k] = o
		w.say("", "socket_updated", map[string]any{"id": s.GetId(), "nsp": namespace, "data": o.Data})
	case foyerv1.PresenceEvent_TYPE_DISCONNECTED:
		rooms := w.sockets[k].Rooms
		delete(w.sockets, k)
		why := reasonWords(e.GetReason())
		w.closed[why]++
		w.say("", "socket_disconnected", namespace, s.GetId(), why, at)
		for _, room := range rooms {
			w.say("", "room_left", namespace, room, s.GetId(), at)
		}
	}
}

// transports tells the pages which links have upgraded: that is no change of presence.
func (w *watch) transports(namespaces []string) {
	ctx, cancel := context.WithTimeout(w.ctx, callTimeout)
	defer cancel()
	for _, name := range namespaces {
		page, err := foyerv1.NewSocketServiceClient(w.cfg.API).ListSockets(ctx, &foyerv1.ListSocketsRequest{
			Target: &foyerv1.Target{Namespace: name, All: true}, View: foyerv1.SocketView_SOCKET_VIEW_BASIC, PageSize: fewSockets,
		})
		if err != nil {
			return // the next look tells what is wrong
		}
		for _, s := range page.GetSockets() {
			k := key{name, s.GetId()}
			if o, ok := w.sockets[k]; ok && o.Transport != s.GetTransport() {
				o.Transport = s.GetTransport()
				w.sockets[k] = o
				w.say("", "socket_updated", map[string]any{"id": o.ID, "nsp": name, "transport": o.Transport})
			}
		}
	}
}

func without(rooms, gone []string) []string {
	left := make([]string, 0, len(rooms))
	for _, r := range rooms {
		keep := true
		for _, g := range gone {
			keep = keep && r != g
		}
		if keep {
			left = append(left, r)
		}
	}
	return left
}

// tellEvent tells the pages what a browser has emitted: some of it when it is much, and not the whole of what is long.
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

// plain is an argument in which binary data is named: a placeholder would ask for bytes that are not sent.
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

// aggregated are the counts of what came and went since the last telling.
func (w *watch) aggregated(now time.Time) []aggregated {
	second := now.Truncate(time.Second).UnixMilli()
	list := []aggregated{}
	if w.opened > 0 {
		list = append(list, aggregated{Timestamp: second, Type: "rawConnection", Count: w.opened})
	}
	for why, n := range w.closed {
		list = append(list, aggregated{Timestamp: second, Type: "rawDisconnection", SubType: why, Count: n})
	}
	return list
}
