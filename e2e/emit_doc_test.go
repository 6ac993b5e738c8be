//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

var codeSpan = regexp.MustCompile("`([^`]+)`")

// TestEmitPage pastes the cells of the cheat sheet in docs/emit.md: those for grpcurl are called one by one with
// somebody there who hears them, those in Go are built into one program that calls each. What the rows do,
// TestCheatSheet looks at.
func TestEmitPage(t *testing.T) {
	d := openDocument(t, "docs/emit.md")
	term := openTerminal(t, t.TempDir())
	term.run("mkdir bin && ln -s " + binary(t) + " bin/foyer")
	term.serve("bin/foyer serve")
	m := regexp.MustCompile("`P` a payload such as `([^`]+)`").FindStringSubmatch(d.text)
	if m == nil {
		t.Fatal("the page does not say what P is")
	}
	payload := m[1]
	p := startPuppets(t)
	var goCells []string
	calls := 0
	rows := d.table("| Socket.IO | by grpcurl | in Go |")
	for _, row := range rows {
		if len(row) != 3 {
			t.Fatalf("the row %q has %d cells, want 3", row[0], len(row))
		}
		for _, m := range codeSpan.FindAllStringSubmatch(row[2], -1) {
			if strings.Contains(m[1], "foyerv1.") {
				goCells = append(goCells, m[1])
			}
		}
		spans := codeSpan.FindAllStringSubmatch(row[1], -1)
		if len(spans) == 0 {
			continue
		}
		calls++
		if len(spans) != 2 || !json.Valid([]byte(strings.NewReplacer(`"payload":P`, `"payload":{}`).Replace(spans[1][1]))) {
			t.Errorf("%s: %q is not a method with its JSON", row[0], row[1])
			continue
		}
		t.Run(row[0], func(t *testing.T) {
			c, id := p.connect(t, term.url("http://127.0.0.1:3000"), "/", quick)
			defer c.op("disconnect")
			request := strings.NewReplacer(`"payload":P`, `"payload":`+payload, `"ID"`, `"`+id+`"`).Replace(spans[1][1])
			line := fmt.Sprintf("grpcurl -plaintext -d '%s' 127.0.0.1:50051 foyer.v1.%s", request, spans[0][1])
			if strings.Contains(line, "/Watch") { // it goes on for ever
				watch := term.start(line)
				watch.prints(t, `"synced"`)
				watch.stop()
				return
			}
			out := term.run(line)
			if strings.Contains(request, id) && strings.HasPrefix(spans[0][1], "EmitService/Emit") && !strings.Contains(request, "except_rooms") {
				wantMatched(t, out, 1)
				if args := c.event("hello"); len(args) != 1 || args[0] != "world" {
					t.Errorf("the client gets %v", args)
				}
			}
		})
	}
	if calls < 20 || len(goCells) < 19 {
		t.Errorf("%d rows have a call for grpcurl and %d one in Go", calls, len(goCells))
	}

	_, id := p.connect(t, term.url("http://127.0.0.1:3000"), "/", quick)
	declared := regexp.MustCompile("``(p := [^\n]+)``").FindStringSubmatch(d.text)
	if declared == nil {
		t.Fatal("the page does not say what p is in Go")
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s%s\nid := %q\n%s", connection, declared[1], id, `
emits, rooms, sockets := foyerv1.NewEmitServiceClient(conn), foyerv1.NewRoomServiceClient(conn), foyerv1.NewSocketServiceClient(conn)
one, all, room := &foyerv1.Target{Rooms: []string{id}}, &foyerv1.Target{All: true}, &foyerv1.Target{Rooms: []string{"room9"}}
try := func(cell string, call func() (any, error)) {
	if _, err := call(); err != nil {
		log.Fatalf("%s: %v", cell, err)
	}
}
`)
	for _, cell := range goCells {
		call := cell
		if part, ok := strings.CutPrefix(call, "… "); ok { // like the row before it, but for this
			part = strings.TrimSuffix(part, " …")
			if !strings.Contains(part, "Target: ") {
				part += ", Target: one"
			}
			call = "emits.Emit(ctx, &foyerv1.EmitRequest{" + part + ", Payload: p})"
		}
		fmt.Fprintf(&text, "try(%q, func() (any, error) { return %s })\n", cell, call)
	}
	tried := start(t, buildGo(t, map[string]string{"sheet": term.here(program(t, text.String()))})["sheet"], nil)
	if code := tried.exit(t, 2*patience); code != 0 {
		t.Errorf("code %d: %s", code, tried.tail(20))
	}
}
