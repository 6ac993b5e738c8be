package service

import (
	"errors"
	"strings"
	"testing"
)

// TestMergePatch has the cases of RFC 7386, appendix A, whose documents are objects.
func TestMergePatch(t *testing.T) {
	for _, tc := range []struct{ target, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{``, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{`{"n":12345678901234567890}`, `{}`, `{"n":12345678901234567890}`},
	} {
		got, err := mergePatch([]byte(tc.target), []byte(tc.patch))
		if err != nil || string(got) != tc.want {
			t.Errorf("%s with %s: %s, %v; want %s", tc.target, tc.patch, got, err, tc.want)
		}
	}
}

func TestUpdate(t *testing.T) {
	n := newNode(t, Config{})
	s, _ := connect(t, n, "/", "r")
	w := watch(t, n, Scope{Namespace: "/", Rooms: []string{"r"}}, "")
	steps(t, w, 2)
	user := "ann"
	for _, u := range []Update{{Data: []byte(`{"a":1}`)}, {Merge: []byte(`{"b":2}`)}, {Merge: []byte(`{"b":2}`)}, {UserID: &user}} {
		if _, err := n.Update(t.Context(), "/", s.ID(), u); err != nil {
			t.Fatal(err)
		}
	}
	info, _ := n.Socket(t.Context(), "/", s.ID())
	wantEqual(t, "socket", []string{string(info.Data), info.UserID}, []string{`{"a":1,"b":2}`, "ann"})
	wantEqual(t, "told once for each change", changes(steps(t, w, 1)[0]), []string{"UPDATED [] of [r]", "UPDATED [] of [r]", "UPDATED [] of [r]"})

	_, err := n.Update(t.Context(), "/", s.ID(), Update{Data: []byte(`{"a":"` + strings.Repeat("x", MaxDataBytes) + `"}`)})
	if !errors.Is(err, &Error{Reason: "PAYLOAD_TOO_LARGE"}) {
		t.Errorf("too large: %v", err)
	}
	for _, missing := range []struct {
		namespace string
		id        SocketID
	}{{"/", "nobody"}, {"/none", s.ID()}} {
		if _, err := n.Update(t.Context(), missing.namespace, missing.id, Update{}); !errors.Is(err, ErrSocketNotFound) {
			t.Errorf("%v: %v", missing, err)
		}
	}
}
