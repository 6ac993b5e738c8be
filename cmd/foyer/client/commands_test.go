package client

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
	"foyer/transport/grpcapi"
)

// TestEmit: an event goes to its target and to nobody else, and what is printed says to how many.
func TestEmit(t *testing.T) {
	inHall(t, func(h *hall) {
		ann, bob := h.connect("ann", "/", `["yes"]`, "r1"), h.connect("bob", "/", "", "r1", "a,b")
		h.want(Done, "It went to 2 sockets.\n", "", "emit", "--room", "r1", "chat", `["x"]`)
		h.want(Done, "It went to 1 socket.\n", "", "emit", "-r", "r1", "--except", "a,b", "chat")
		h.want(Done, "{\"matched\":1,\"enqueued\":1,\"droppedVolatile\":0,\"droppedSlow\":0,\"coverage\":{}}\n", "",
			"emit", "-r", "a,b", "--local", "--volatile", "--no-compress", "-o", "json", "big", "[12345678901234567890]")
		h.sys.In = strings.NewReader(` ["read"]`)
		h.want(Done, "It went to 2 sockets.\n", "", "emit", "--all", "chat", "-")
		if got, want := ann.heard(), `["chat","x"] ["chat"] ["chat","read"]`; got != want {
			t.Errorf("ann heard %s, want %s", got, want)
		}
		if got, want := bob.heard(), `["chat","x"] ["big",12345678901234567890] ["chat","read"]`; got != want {
			t.Errorf("bob heard %s, want %s", got, want)
		}
		h.want(Nobody, "It went to 0 sockets.\n", "foyer: the target reached nobody\n", "emit", "--room", "nobody", "chat")
		h.want(Nobody, "It went to 0 sockets.\n", "foyer: the target reached nobody\n", "emit", "--all", "-n", "/none", "chat")
		h.sys.In = strings.NewReader(" \n")
		h.want(Usage, "", "foyer: ARGS: nothing came; no arguments are []\n", "emit", "--all", "chat", "-")

		in, typed := io.Pipe() // nobody types
		h.sys.In = in
		ctx, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		if _, told, code := h.sayUntil(ctx, "emit", "--all", "chat", "-"); code != Failed || told != "foyer: interrupted\n" {
			t.Errorf("code %d, told %q", code, told)
		}
		_ = typed.Close()
	})
}

// TestEmitAck: each outcome is printed, and a client that does not answer makes the whole one of part.
func TestEmitAck(t *testing.T) {
	inHall(t, func(h *hall) {
		h.connect("ann", "/", `["yes\u001b",{"n":1}]`, "r1")
		h.want(Done, strings.Join([]string{
			"SOCKET                 NODE   AFTER   ANSWER",
			`ann.................   AAAA     0ms   ["yes\u001b",{"n":1}]`,
			"1 of 1 socket answered, within 2.0s.",
			"",
		}, "\n"), "", "emit", "--ack", "--timeout", "2s", "--room", "r1", "ask")
		h.connect("bob", "/", "", "r1")
		h.want(Partial, strings.Join([]string{
			"SOCKET                 NODE   AFTER   ANSWER",
			`ann.................   AAAA     0ms   ["yes\u001b",{"n":1}]`,
			"bob.................   AAAA    2.0s   no answer in time",
			"1 of 2 sockets answered, within 2.0s.",
			"",
		}, "\n"), "foyer: 1: no answer in time\n", "emit", "--ack", "--timeout", "2s", "--room", "r1", "ask")
		h.want(Done, strings.Join([]string{
			`{"started":{"matched":1,"coverage":{}}}`,
			`{"outcome":{"socketId":"ann.................","nodeId":"AAAA","latency":"0s","args":{"json":"[\"yes\\u001b\",{\"n\":1}]"}}}`,
			`{"summary":{"matched":1,"acked":1,"unattributed":0,"coverage":{},"timeoutUsed":"5s"}}`,
			"",
		}, "\n"), "", "emit", "--ack", "-o", "json", "--room", h.links[0].id(), "ask")
		h.want(Nobody, "0 of 0 sockets answered, within 5.0s.\n", "foyer: the target reached nobody\n", "emit", "--ack", "--room", "none", "ask")
	})
}

// TestJoinLeave: rooms of sockets change, and are listed with their sizes.
func TestJoinLeave(t *testing.T) {
	inHall(t, func(h *hall) {
		h.connect("ann", "/", "", "r1")
		h.connect("bob", "/", "", "r1")
		h.want(Done, "2 sockets joined news, a room.\n", "", "join", "--room", "r1", "news", "a room")
		h.want(Done, "{\"matched\":1,\"coverage\":{}}\n", "", "join", "--room", h.links[0].id(), "e\x1bl", "-o", "json")
		h.want(Done, strings.Join([]string{
			"SOCKETS   ROOM",
			"      2   a room",
			`      1   e\x1bl`,
			"      2   news",
			"      2   r1",
			"",
		}, "\n"), "", "rooms")
		h.want(Done, "{\"name\":\"a room\",\"size\":2}\n{\"name\":\"e\\u001bl\",\"size\":1}\n", "", "rooms", "--limit", "2", "-o", "json")
		h.want(Done, "SOCKETS   ROOM\n      2   news\n", "", "rooms", "--prefix", "ne")
		h.want(Done, "SOCKETS   ROOM\n      2   news\n      0   none\n", "", "rooms", "--room", "news", "--room", "none")
		h.want(Nobody, "SOCKETS   ROOM\n      0   none\n", "foyer: nobody is in it\n", "rooms", "--room", "none")
		h.want(Nobody, "SOCKETS   ROOM\n", "foyer: there are no such rooms\n", "rooms", "-n", "chat")
		h.want(Done, "1 socket left news.\n", "", "leave", "--room", "news", "--except", h.links[0].id(), "news")
		h.want(Done, "{\"name\":\"news\",\"size\":1}\n", "", "rooms", "--room", "news", "-o", "json")
		h.want(Nobody, "0 sockets left news.\n", "foyer: the target reached nobody\n", "leave", "--room", "none", "news")
	})
}

// TestRoomsByPages: more rooms than a page has are all listed, each once.
func TestRoomsByPages(t *testing.T) {
	inHall(t, func(h *hall) {
		for i := range 5 {
			h.connect("ann", "/", "")
			var names []string
			for j := range 500 {
				names = append(names, strings.Repeat("r", i+1)+string(rune('a'+j/26))+string(rune('a'+j%26)))
			}
			h.want(Done, "1 socket joined "+strings.Join(names, ", ")+".\n", "", append([]string{"join", "--room", h.links[i].id()}, names...)...)
		}
		out, _, code := h.say("rooms")
		if lines := strings.Count(out, "\n"); code != Done || lines != 2501 {
			t.Errorf("code %d, %d lines, want a heading and 2500 rooms", code, lines)
		}
		for _, limit := range []string{"1", "1000", "1001"} {
			out, _, _ := h.say("rooms", "--limit", limit, "-o", "json")
			if got, want := strings.Count(out, "\n"), map[string]int{"1": 1, "1000": 1000, "1001": 1001}[limit]; got != want {
				t.Errorf("--limit %s: %d lines", limit, got)
			}
		}
	})
}

// TestSockets: sockets are listed lined up, and one is shown in full, with nothing of theirs that a terminal obeys.
func TestSockets(t *testing.T) {
	inHall(t, func(h *hall) {
		ann := h.connect("ann", "/", "", "r1", "r2")
		user, data := "ann \u202e東京", []byte(`{"plan":"fr\u001bee"}`)
		if _, err := h.node.Update(t.Context(), "/", ann.socket.ID(), service.Update{UserID: &user, Data: data}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(90 * time.Second)
		h.connect("bob", "/", "")
		h.want(Done, strings.Join([]string{
			"SOCKET                 NODE   TRANSPORT   FOR   USER             ROOMS",
			`ann.................   AAAA   websocket   90s   ann \u202e東京   r1 r2`,
			"bob.................   AAAA   websocket   0ms   -                -",
			"",
		}, "\n"), "", "sockets")
		h.want(Nobody, "SOCKET   NODE   TRANSPORT   FOR   USER   ROOMS\n", "foyer: the target matches no socket\n", "sockets", "--room", "r1", "--except", "r2")
		out, _, code := h.say("sockets", "-o", "json", "--room", "r1")
		for _, want := range []string{`{"id":"ann................."`, `"userId":"ann \u202e東京"`, `"data":{"plan":"fr\u001bee"}`, `"rooms":["r1","r2"]`} {
			if !strings.Contains(out, want) || strings.Count(out, "\n") != 1 || code != Done {
				t.Errorf("code %d, %s lacks %s", code, out, want)
			}
		}
		out, told, code := h.say("socket", ann.id())
		for _, want := range []string{
			"SOCKET              ann.................\n", "namespace           /\n", "node                AAAA\n", `user                ann \u202e東京` + "\n",
			"rooms               r1 r2\n", "transport           websocket\n", "for                 90s\n", "session             session-ann\n",
			"address             192.0.2.1\n", "url                 /socket.io/?EIO=4\n", `header user-agent   a\x1bb` + "\n", `data plan           "fr\u001bee"` + "\n",
		} {
			if !strings.Contains(out, want) || code != Done || told != "" {
				t.Errorf("code %d, %q;\n%slacks %s", code, told, out, want)
			}
		}
		if out, _, code := h.say("socket", ann.id(), "-o", "json"); code != Done || !strings.HasPrefix(out, `{"id":"ann................."`) || strings.Count(out, "\n") != 1 {
			t.Errorf("code %d, %s", code, out)
		}
		h.want(Nobody, "", "foyer: ID: no such socket in this namespace, or not any more\n", "socket", "nobody")
	})
}

// TestDisconnect: a target is disconnected in the way that was asked for.
func TestDisconnect(t *testing.T) {
	inHall(t, func(h *hall) {
		h.connect("ann", "/", "", "r1")
		h.connect("bob", "/", "", "r2")
		h.want(Done, "1 socket disconnected.\n", "", "disconnect", "--room", "r1")
		h.want(Done, "{\"matched\":1,\"coverage\":{}}\n", "", "disconnect", "--all", "--mode", "transport", "-o", "json")
		time.Sleep(time.Second)
		h.want(Nobody, "0 sockets disconnected.\n", "foyer: the target reached nobody\n", "disconnect", "--all")
	})
}

// TestNodes: a node that is alone is its cluster.
func TestNodes(t *testing.T) {
	inHall(t, func(h *hall) {
		time.Sleep(3 * time.Minute)
		h.want(Done, "NODE   STATE   FOR   HEARD        VERSION   PEER ADDRESS\nAAAA   up      3m    it answers   -         -\n", "", "nodes")
		out, told, code := h.say("nodes", "-o", "json")
		if code != Done || told != "" || !strings.HasPrefix(out, `{"nodeId":"AAAA",`) || !strings.HasSuffix(out, "}\n") || strings.Count(out, "\n") != 1 {
			t.Errorf("code %d, %q, %q", code, out, told)
		}
	})
}

// partly answers as a node does that does not reach all others.
type partly struct {
	foyerv1.UnimplementedEmitServiceServer
	foyerv1.UnimplementedRoomServiceServer
	foyerv1.UnimplementedSocketServiceServer
	foyerv1.UnimplementedNodeServiceServer
	coverage *foyerv1.Coverage
	matched  int32
	slow     int32
}

func (p *partly) Emit(context.Context, *foyerv1.EmitRequest) (*foyerv1.EmitResponse, error) {
	return &foyerv1.EmitResponse{
		Matched: &p.matched, Enqueued: proto.Int32(p.matched - p.slow), DroppedSlow: &p.slow, DroppedVolatile: proto.Int32(0), Coverage: p.coverage,
	}, nil
}

func (p *partly) ListRooms(context.Context, *foyerv1.ListRoomsRequest) (*foyerv1.ListRoomsResponse, error) {
	return &foyerv1.ListRoomsResponse{Rooms: []*foyerv1.Room{{Name: "r1", Size: proto.Int32(p.matched)}}, Coverage: p.coverage}, nil
}

func (p *partly) ListNodes(context.Context, *foyerv1.ListNodesRequest) (*foyerv1.ListNodesResponse, error) {
	return &foyerv1.ListNodesResponse{Nodes: []*foyerv1.Node{
		{NodeId: "AA\x1bA", State: foyerv1.NodeState_NODE_STATE_LOST},
		{NodeId: "BBBB", State: foyerv1.NodeState_NODE_STATE_UP, Answers: true},
	}, Coverage: p.coverage}, nil
}

// TestCoverage: what an answer does not speak for is always told, and makes the exit code that of part.
func TestCoverage(t *testing.T) {
	p := &partly{}
	fake(t, func(s *grpc.Server) {
		foyerv1.RegisterEmitServiceServer(s, p)
		foyerv1.RegisterRoomServiceServer(s, p)
		foyerv1.RegisterNodeServiceServer(s, p)
	}, func(h *hall) {
		emit := []string{"emit", "--all", "hi"}
		*p = partly{matched: 2, coverage: &foyerv1.Coverage{Unreachable: []string{"BBBB", "CC\x1bC"}}}
		h.want(Partial, "It went to 2 sockets.\n", `foyer: the answer is only partial: 2 nodes did not answer: BBBB, CC\x1bC`+"\n", emit...)
		h.want(Partial, "SOCKETS   ROOM\n      2   r1\n", `foyer: the answer is only partial: 2 nodes did not answer: BBBB, CC\x1bC`+"\n", "rooms")
		*p = partly{matched: 0, coverage: &foyerv1.Coverage{Unreachable: []string{"BBBB"}, UnreachableUnnamed: 1}}
		h.want(Partial, "It went to 0 sockets.\n", "foyer: the answer is only partial: 2 nodes did not answer: BBBB and 1 more\n", emit...)
		*p = partly{matched: 3, slow: 1, coverage: &foyerv1.Coverage{}}
		h.want(Partial, "It went to 2 sockets.\n", "foyer: 1 copy was dropped: the queues of their clients were full\n", emit...)
		*p = partly{matched: 0, coverage: &foyerv1.Coverage{UncountedNodes: 1}}
		h.want(Done, "It went to 0 sockets.\n", "foyer: 1 Socket.IO server on Node took part without being counted\n", emit...)
		h.want(Partial, "SOCKETS   ROOM\n      0   r1\n", "foyer: the list is without what is at 1 Socket.IO server on Node\n", "rooms")
		*p = partly{coverage: &foyerv1.Coverage{UnreachableUnnamed: 1}}
		h.want(Partial, "NODE      STATE   FOR   HEARD        VERSION   PEER ADDRESS\nAA\\x1bA   lost    -     never        -         -\nBBBB      up      -     it answers   -         -\n",
			"foyer: the answer is only partial: 1 node did not answer\n", "nodes")
		h.want(Failed, "", "foyer: --api: the node at 127.0.0.1:50051 does not have this call: its version is too old, or it is no node of Foyer\n", "rooms", "--room", "r1")
	})
}

// TestNoAnswer: the command says who does not answer, who refuses and who says that the question is wrong.
func TestNoAnswer(t *testing.T) {
	wrong := put(t, "wrong", "guess\n")
	inHall(t, func(h *hall) {
		h.want(Usage, "", "foyer: EVENT: \"connect\" is reserved by Socket.IO: give the event another name\n", "emit", "--all", "connect")
		h.want(Usage, "", "foyer: --room: must not be empty\n", "emit", "--room", "", "x")
		h.want(Usage, "", "foyer: ROOM: must not be empty\n", "join", "--all", "")
		h.shut()
		h.want(Unanswered, "", "foyer: --api: nobody answers at node:1: does a node run there, and is this its --api?\n", "nodes", "--api", "node:1")
		h.open(grpcapi.Config{Tokens: []string{"secret"}})
		h.want(Failed, "", "foyer: --api-token-file: the node at node:1 wants a token, and this names no file that has one\n", "nodes", "--api", "node:1")
		h.want(Failed, "", "foyer: --api-token-file: the node at node:1 knows no such token\n", "nodes", "--api", "node:1", "--api-token-file", wrong)
		h.sys.Dial = func(context.Context, string) (net.Conn, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "nowhere.example", IsNotFound: true}
		}
		h.want(Unanswered, "", "foyer: --api: there is no host nowhere.example\n", "nodes", "--api", "nowhere.example:1")
		h.sys.Dial = h.dial
		h.shut()
		h.open(grpcapi.Config{Joining: true})
		h.want(Unanswered, "", "foyer: the node at 127.0.0.1:50051 says: the node is joining its cluster: try again in a moment, or at another node\n", "rooms")
	})
}
