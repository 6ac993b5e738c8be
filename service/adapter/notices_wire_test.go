package adapter

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// ref is a socket that says nothing but its id.
type ref struct {
	service.Origin
	id service.SocketID
}

func (r ref) ID() service.SocketID { return r.id }

func someNotices(t *rapid.T) (item, []byte) {
	now := time.Now()
	want := &notices{
		stream: rapid.Uint64Range(1, 1<<30).Draw(t, "stream"), handler: rapid.Uint64Range(1, 300).Draw(t, "handler"),
		opens: rapid.Bool().Draw(t, "opens"),
	}
	var list []byte
	for range rapid.IntRange(1, 3).Draw(t, "notices") {
		one := notice{number: rapid.Uint64Range(1, 1<<20).Draw(t, "number")}
		if rapid.Bool().Draw(t, "withdrawn") {
			one.Kind, one.CallID = service.NoticeWithdrawn, 7
			list = appendNotice(list, one.number, &one.Notice, service.ViewFull, now)
			want.list = append(want.list, one)
			continue
		}
		one.Kind, one.of, one.age = service.NoticeEvent, "AAAA0123456789abcdef", time.Duration(rapid.Uint64Range(0, 1<<40).Draw(t, "age"))
		one.Packet = &service.Packet{Kind: service.KindEvent, AckID: rapid.SampledFrom([]int64{service.NoAck, 0}).Draw(t, "ack"), Event: "é", Payload: []byte(`["é",1]`)}
		if rapid.Bool().Draw(t, "binary") {
			one.Packet.Payload = []byte(`["é",{"_placeholder":true,"num":0}]`)
			one.Packet.Attachments = [][]byte{rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "attachment")}
		}
		one.Generation = rapid.Uint64().Draw(t, "generation")
		n := one.Notice
		n.From, n.Time = ref{id: one.of}, now.Add(-one.age)
		list = appendNotice(list, one.number, &n, service.ViewFull, now)
		want.list = append(want.list, one)
	}
	return item{notices: want}, want.append(nil, list)
}

func someReplies(t *rapid.T) (item, []byte) {
	number := rapid.Uint64Range(1, 1<<40)
	r := &replies{stream: number.Draw(t, "stream"), taken: rapid.SliceOfN(number, 1, 5).Draw(t, "taken")}
	for range rapid.IntRange(0, 3).Draw(t, "replies") {
		a := reply{number: number.Draw(t, "number")}
		switch rapid.IntRange(0, 2).Draw(t, "reply") {
		case 1:
			a.payload = []byte(`["yes"]`)
		case 2:
			a.payload = []byte(`[{"_placeholder":true,"num":0}]`)
			a.attachments = [][]byte{rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "attachment")}
		}
		r.list = append(r.list, a)
	}
	if rapid.Bool().Draw(t, "decision") {
		r.decisions = append(r.decisions, decisionMessage(7, &service.Decision{Rooms: []string{"a"}, UserID: "u", Data: []byte(`{}`)}))
	}
	return item{replies: r}, r.item()
}

// TestNoticesAreReadAsTheyWere: those about sockets, in each view and in parts.
func TestNoticesAreReadAsTheyWere(t *testing.T) {
	shake := handshake{&clusterv1.Handshake{Address: "10.0.0.1", Url: "/x", Query: map[string]string{"a": "b"}}}
	var infos []*service.SocketInfo
	for i := range 2500 {
		infos = append(infos, &service.SocketInfo{
			ID: service.SocketID("AAAA0123456789ab" + string([]byte{byte('a' + i/1000), byte('0' + i/100%10), byte('0' + i/10%10), byte('0' + i%10)})), Generation: 5, Namespace: "/n", NodeID: "AAAA",
			SessionID: "s", Transport: "polling", ConnectedAt: time.Unix(0, 77), Rooms: []string{"r"}, UserID: "u", Data: []byte(`{"a":1}`), Handshake: shake,
		})
	}
	read := func(n *service.Notice, view service.View) []notice {
		t.Helper()
		w := notices{stream: 1, handler: 2}
		b := w.append(nil, appendNotice(nil, 9, n, view, time.Now()))
		it := readItem(b)
		if it.skipped != 0 {
			t.Fatalf("a notice of kind %d cannot be read", n.Kind)
		}
		return it.notices.list
	}
	got := 0
	list := read(&service.Notice{Kind: service.NoticeAssigned, Sockets: infos, Failover: true}, service.ViewBasic)
	for i := range list {
		if last := i+1 == len(list); list[i].Kind != service.NoticeAssigned || !list[i].Failover || last != (list[i].number == 9) {
			t.Errorf("part %d is %+v", i, list[i])
		}
		for _, info := range list[i].Sockets {
			if info.ID != infos[got].ID || info.Namespace != "/n" || info.NodeID != "AAAA" || info.Rooms[0] != "r" || info.Data != nil {
				t.Fatalf("socket %d is %+v", got, info)
			}
			got++
		}
	}
	if got != len(infos) || len(list) < 3 {
		t.Errorf("%d sockets in %d parts", got, len(list))
	}
	asked := *infos[0]
	asked.Auth = []byte(`{"token":1}`)
	one := read(&service.Notice{Kind: service.NoticeConnect, Sockets: []*service.SocketInfo{&asked}}, service.ViewRef)[0]
	if info := one.Sockets[0]; string(info.Auth) != `{"token":1}` || info.Handshake.URL() != "/x" || info.ConnectedAt.UnixNano() != 77 {
		t.Errorf("a connect is %+v", info)
	}
	one = read(&service.Notice{Kind: service.NoticeDisconnected, Sockets: infos[:1], Reason: service.ReasonSlow, Detail: "d\xff"}, service.ViewBasic)[0]
	if one.of != infos[0].ID || one.Reason != service.ReasonSlow || one.Detail != "d\xff" && one.Detail != "d\uFFFD" {
		t.Errorf("an end is %+v", one)
	}
}
