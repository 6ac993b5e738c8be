package grpcapi

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"foyer/service"
)

// TestExplainPage makes the call of docs/explain.md and wants the answer that it shows. Its commands are run where
// commands are.
func TestExplainPage(t *testing.T) { bubble(t, testExplainPage) }

func testExplainPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/explain.md")
	if err != nil {
		t.Fatal(err)
	}
	n, err := service.New(service.Config{NodeID: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	_, client := start(t, Config{}, serviceNode{n})
	for name, rooms := range map[string][]string{"ann": {"lobby", "muted"}} {
		l := join(n, name, "/", "")
		id := string(l.socket.ID())
		if _, err := n.Update(t.Context(), "/", l.socket.ID(), service.Update{UserID: &name}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := n.Join(t.Context(), service.Target{Namespace: "/", Rooms: []string{id}}, rooms); err != nil {
			t.Fatal(err)
		}
	}
	call := regexp.MustCompile("(?s)```sh\ngrpcurl -plaintext -d '([^\n]*)' 127.0.0.1:50051 ([\\w./]+)\n```\n\n```json\n(.*?)```")
	calls := call.FindAllStringSubmatch(string(page), -1)
	if all := strings.Count(string(page), "\ngrpcurl "); len(calls) != all || all != 1 {
		t.Fatalf("%d of %d calls have an answer", len(calls), all)
	}
	for _, c := range calls {
		method, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(c[2], "/", ".")))
		if err != nil {
			t.Fatal(err)
		}
		request := newMessage(t, method.(protoreflect.MethodDescriptor).Input(), c[1])
		answer := newMessage(t, method.(protoreflect.MethodDescriptor).Output(), c[3]) // it is one, with no unknown name
		if err := client.conn.Invoke(t.Context(), "/"+c[2], request, answer); err != nil {
			t.Fatal(err)
		}
		text, err := protojson.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		var got, shown any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(c[3]), &shown); err != nil {
			t.Fatal(err)
		}
		if wrong := lacks("", got, shown); wrong != "" {
			t.Errorf("%s: %s: %s", c[1], wrong, text)
		}
	}
}

func newMessage(t *testing.T, of protoreflect.MessageDescriptor, text string) proto.Message {
	t.Helper()
	m, err := parsed(of, text)
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return m
}

// lacks says where a value lacks something that is shown; lists are of the same length.
func lacks(at string, got, shown any) string {
	switch s := shown.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for key, value := range s {
			if wrong := lacks(at+"."+key, g[key], value); wrong != "" {
				return wrong
			}
		}
	case []any:
		g, _ := got.([]any)
		if len(g) != len(s) {
			return fmt.Sprintf("%s has %d items, shown are %d", at, len(g), len(s))
		}
		for i := range s {
			if wrong := lacks(fmt.Sprintf("%s[%d]", at, i), g[i], s[i]); wrong != "" {
				return wrong
			}
		}
	default:
		if got != shown {
			return fmt.Sprintf("%s is %v, shown is %v", at, got, shown)
		}
	}
	return ""
}
