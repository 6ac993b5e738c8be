package client

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// TestExplainPage runs the commands of docs/explain.md, in their order, and wants them to print what it shows; and its
// table has each verdict once, by the words of the command and by that of the API.
func TestExplainPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/explain.md")
	if err != nil {
		t.Fatal(err)
	}
	inHall(t, func(h *hall) {
		backend, _, err := h.node.Attach(t.Context(), service.Registration{Namespaces: []string{"/"}, Group: "chat", ID: "chat-1", MaxInFlight: 2, Address: "10.0.0.7"})
		if err != nil {
			t.Fatal(err)
		}
		defer backend.Detach()
		crowd := map[string]*link{}
		for _, one := range [][]string{{"ann", "lobby", "muted"}, {"bob", "lobby"}} {
			name := one[0]
			crowd[name] = h.connect(name, "/", "", one[1:]...)
			if _, err := h.node.Update(t.Context(), "/", crowd[name].socket.ID(), service.Update{UserID: &name}); err != nil {
				t.Fatal(err)
			}
		}
		shown := regexp.MustCompile("(?s)```sh\nbin/foyer ([^\n]*)\n```\n\n```\n(.*?)```").FindAllStringSubmatch(string(page), -1)
		if len(shown) != 3 {
			t.Fatalf("%d commands", len(shown))
		}
		id, node := regexp.MustCompile(`(?m)^\S{20} `), regexp.MustCompile(`\b(AAAA|k3wQ) `)
		plainly := func(text string) string { return node.ReplaceAllString(id.ReplaceAllString(text, "ID "), "NODE ") }
		for i, c := range shown {
			switch i {
			case 1:
				h.node.End(crowd["bob"].socket, service.ReasonTransportClose, "")
				time.Sleep(3 * time.Minute)
				for range 3 {
					crowd["ann"].emits("say", "")
				}
				if _, err := backend.Next(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			case 2:
				time.Sleep(8 * time.Second)
			}
			out, _, _ := h.say(strings.Fields(c[1])...)
			if d := cmp.Diff(plainly(c[2]), plainly(out)); d != "" {
				t.Errorf("%s (-want +got):\n%s", c[1], d)
			}
		}
	})
	for v, word := range foyerv1.Verdict_name {
		row := "\n| " + verdictWords[foyerv1.Verdict(v)] + " | `" + strings.TrimPrefix(word, "VERDICT_") + "` |"
		if v != 0 && strings.Count(string(page), row) != 1 {
			t.Errorf("the page lacks %q", row)
		}
	}
}
