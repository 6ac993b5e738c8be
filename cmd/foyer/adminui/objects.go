package adminui

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	foyerv1 "foyer/gen/foyer/v1"
)

// socketObject is a socket in the form of the Admin UI.
type socketObject struct {
	ID        string         `json:"id"`
	ClientID  string         `json:"clientId"`
	Transport string         `json:"transport"`
	Namespace string         `json:"nsp"`
	Data      map[string]any `json:"data"`
	Handshake handshake      `json:"handshake"`
	Rooms     []string       `json:"rooms"`

	node      string
	partial   bool // its handshake and its data are not known yet
	dataBytes int
}

// bytes estimates how much memory it takes.
func (o *socketObject) bytes() int {
	n := 512 + o.dataBytes + len(o.Handshake.URL)
	for _, room := range o.Rooms {
		n += len(room) + 16
	}
	for _, list := range []map[string]string{o.Handshake.Headers, o.Handshake.Query} {
		for k, v := range list {
			n += len(k) + len(v) + 32
		}
	}
	return n
}

type handshake struct {
	Address string            `json:"address"`
	Headers map[string]string `json:"headers"`
	Query   map[string]string `json:"query"`
	Issued  int64             `json:"issued"` // in ms; the page is not drawn without it
	Secure  bool              `json:"secure"`
	Time    string            `json:"time"`
	URL     string            `json:"url"`
	XDomain bool              `json:"xdomain"`
}

// objectOf makes the object of a socket of the API. The page takes sockets with the same clientId for one client, so
// that is the beginning of session_id, which is public. It is never the sid, which is a secret.
func objectOf(s *foyerv1.Socket) socketObject {
	h := s.GetHandshake()
	at := h.GetTime().AsTime()
	if h.GetTime() == nil { // a snapshot of presence has no handshake and no data of sockets at other nodes
		at = s.GetConnectedAt().AsTime()
	}
	client := s.GetSessionId()
	o := socketObject{
		ID: s.GetId(), ClientID: client[:min(12, len(client))], Transport: s.GetTransport(), Namespace: s.GetNamespace(),
		Data: s.GetData().AsMap(), Rooms: []string{s.GetId()}, node: s.GetNodeId(), partial: h == nil, dataBytes: proto.Size(s.GetData()),
		Handshake: handshake{
			Address: h.GetAddress(), Headers: h.GetHeaders(), Query: h.GetQuery(), Issued: at.UnixMilli(), URL: h.GetUrl(),
			Secure: h.GetHeaders()["x-forwarded-proto"] == "https", Time: at.UTC().Format("Mon Jan 02 2006 15:04:05 GMT+0000 (Coordinated Universal Time)"),
		},
	}
	if o.Data == nil {
		o.Data = map[string]any{}
	}
	if s.GetUserId() != "" {
		o.Data["user_id"] = s.GetUserId()
	}
	if o.Handshake.Headers == nil {
		o.Handshake.Headers = map[string]string{}
	}
	if o.Handshake.Query == nil {
		o.Handshake.Query = map[string]string{}
	}
	for _, room := range s.GetRooms() {
		if room != o.ID {
			o.Rooms = append(o.Rooms, room)
		}
	}
	return o
}

// stats is what the pages show of a server.
type stats struct {
	ServerID   string           `json:"serverId"`
	Hostname   string           `json:"hostname"`
	PID        int              `json:"pid"`
	Uptime     float64          `json:"uptime"`
	Clients    int              `json:"clientsCount"`
	Polling    int              `json:"pollingClientsCount"`
	Aggregated []aggregated     `json:"aggregatedEvents"`
	Namespaces []namespaceCount `json:"namespaces"`
}

type namespaceCount struct {
	Name    string `json:"name"`
	Sockets int    `json:"socketsCount"`
}

type aggregated struct {
	Timestamp int64  `json:"timestamp"` // the beginning of a second, in ms
	Type      string `json:"type"`
	Count     int    `json:"count"`
}

// stamp writes a time as JavaScript does.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// reasonWords returns a reason in the words of Socket.IO.
func reasonWords(r foyerv1.DisconnectReason) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(r.String(), "DISCONNECT_REASON_")), "_", " ")
}
