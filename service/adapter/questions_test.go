package adapter_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	tracesdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
	"foyer/service/adapter"
)

// TestAQuestionOfALaterVersion is answered, so that nobody waits, and a node that does not know it is in the coverage.
func TestAQuestionOfALaterVersion(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		began := time.Now()
		answers, coverage := c.nodes["AAAA"].AskOfLater(t.Context())
		want(t, "answers", answers, 0)
		want(t, "coverage", coverage.Unreachable, []string{"BBBB", "CCCC"})
		if waited := time.Since(began); waited > time.Second {
			t.Errorf("it takes %v", waited)
		}
		for _, n := range []service.NodeID{"BBBB", "CCCC"} {
			want(t, "counted", c.nodes[n].Info().Dropped, map[string]int64{"cluster_item_unknown": 1})
		}
		_, b := c.connect("BBBB", "/")
		want(t, "an emit behind it", c.emit("AAAA", service.Target{All: true}, `["x"]`).Enqueued, 1)
		want(t, "it", b.take(), []string{`["x"]`})
	})
}

// firstVersion are the messages that have got fields since version 1 of the wire, with the last field that they had in
// it. A node of that version drops a frame that has others, each time that it comes.
var firstVersion = map[protoreflect.FullName]protoreflect.FieldNumber{
	"foyer.cluster.v1.Frame": 15, "foyer.cluster.v1.Item": 14, "foyer.cluster.v1.Emit": 9, "foyer.cluster.v1.Question": 11, "foyer.cluster.v1.Answer": 8,
	"foyer.cluster.v1.Packet": 2, "foyer.cluster.v1.Notices": 4, "foyer.cluster.v1.Notice": 3, "foyer.cluster.v1.SocketEvent": 5,
	"foyer.cluster.v1.Replies": 4, "foyer.cluster.v1.Reply": 3, "foyer.cluster.v1.Follow": 4, "foyer.cluster.v1.Presence": 8,
}

// TestANodeOfTheFirstVersion: it is told nothing that it cannot read. Emits reach it without their traces, and others
// with these; what it cannot be asked names it as unreachable.
func TestANodeOfTheFirstVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := emptyCluster(t, 7)
		var mu sync.Mutex
		traces := map[service.NodeID]string{}
		c.looks = func(to service.NodeID, frame []byte) {
			m := &clusterv1.Frame{}
			if err := proto.Unmarshal(frame, m); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, it := range m.GetItems() {
				if e := it.GetEmit(); e != nil {
					traces[to] = e.GetTrace()
				}
			}
			if to != "BBBB" {
				return
			}
			if m.GetVersion() > 1 {
				t.Errorf("it is told something in version %d", m.GetVersion())
			}
			_ = protorange.Range(m.ProtoReflect(), func(p protopath.Values) error {
				last, known := protoreflect.FieldNumber(0), false
				message, ok := p.Index(-1).Value.Interface().(protoreflect.Message)
				if ok {
					last, known = firstVersion[message.Descriptor().FullName()]
				}
				if known {
					message.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
						if f.Number() > last {
							t.Errorf("it is told %s", f.FullName())
						}
						return true
					})
				}
				return nil
			})
		}
		tracer := service.NewTracer(tracesdk.NewTracerProvider().Tracer(""), 1)
		for _, name := range abc {
			config := adapter.Config{}
			if name == "BBBB" {
				config.Wire(1, 1)
			}
			c.start(name, service.Config{Tracer: tracer}, config)
		}
		c.settle()
		links := map[service.NodeID]*link{}
		for _, name := range abc {
			_, links[name] = c.connect(name, "/", "room")
		}
		synctest.Wait()
		call := tracer.Begin(nil, trace.SpanKindServer, "call", time.Now())
		ctx := service.WithTrace(t.Context(), call)
		r, err := c.nodes["AAAA"].Emit(ctx, service.Emit{
			Target: service.Target{Namespace: "/", Rooms: []string{"room"}}, Packet: event(`["x"]`), Trace: call,
		})
		want(t, "receipt", []any{r.Enqueued, len(r.Coverage.Unreachable), err}, []any{3, 0, nil})
		for name, l := range links {
			want(t, string(name), l.take(), []string{`["x"]`})
		}
		mu.Lock()
		if traces["BBBB"] != "" || len(traces["CCCC"]) != 55 {
			t.Errorf("traces are told as %q", traces)
		}
		mu.Unlock()

		began := time.Now()
		x := c.explain("AAAA", service.ExplainRequest{Target: service.Target{All: true}, Most: 20})
		want(t, "explained", []any{len(x.Nodes), x.Coverage.Unreachable}, []any{2, []string{"BBBB"}})
		page, err := c.nodes["AAAA"].Handlers(ctx, service.HandlersRequest{Limit: 10})
		want(t, "handlers", []any{page.Coverage.Unreachable, err}, []any{[]string{"BBBB"}, nil})
		if waited := time.Since(began); waited > time.Second {
			t.Errorf("they take %v", waited)
		}
		x = c.explain("BBBB", service.ExplainRequest{Target: service.Target{All: true}, Most: 20})
		want(t, "explained there", x.Coverage.Unreachable, []string{"AAAA", "CCCC"})
		n, coverage, err := c.nodes["AAAA"].Join(ctx, service.Target{Namespace: "/", All: true}, []string{"later"})
		want(t, "a join", []any{n, len(coverage.Unreachable), err}, []any{3, 0, nil})
		_, l := c.connect("BBBB", "/")
		info, err := c.nodes["AAAA"].Socket(ctx, "/", l.socket.ID())
		want(t, "a socket", []any{info.NodeID, err}, []any{"BBBB", nil})
		for _, name := range abc {
			want(t, "dropped at "+string(name), c.nodes[name].Info().Dropped, map[string]int64{})
		}
	})
}
