//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// shots is where pictures of the page are left for people to look at; Git ignores it.
const shots = "shots"

// Two people use the chat page in a real browser. The steps are in js/page.js.
func TestPage(t *testing.T) {
	f := startFoyer(t, "demo")
	dir, err := filepath.Abs(shots)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]string{"url": f.url(), "api": f.api, "shots": dir})
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "node", nil, "js/page.js", string(raw))
	t.Cleanup(p.kill)
	// It says when foyer has to go and to come back. When it does not, it has failed, and tells why in the end.
	asks := func(what string) bool {
		_, _, err := p.out.await(0, 90*time.Second, func(line string) bool { return line == what })
		return err == nil
	}
	if asks("stop foyer") {
		f.stop(t)
		if asks("start foyer") {
			startFoyer(t, "demo", "--edge="+f.edge)
		}
	}
	if code := p.exit(t, 60*time.Second); code != 0 {
		t.Errorf("the page's test ended with code %d after %q:\n%s", code, p.out.all(), p.tail(50))
	}
}

func shell(t testing.TB, line string) (out, said string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	return stdout.String(), stderr.String(), err
}

// What foyer says to people when it starts can be pasted into a terminal. It says so to a terminal only.
func TestGreeting(t *testing.T) {
	for _, command := range []string{"serve", "demo"} {
		t.Run(command, func(t *testing.T) {
			screen, terminal := openScreen(t)
			f := startFoyerOn(t, terminal, command)
			line, _, err := screen.await(0, patience, func(line string) bool { return strings.Contains(line, "grpcurl ") })
			if err != nil {
				t.Fatalf("it shows no command: %v, %q", err, screen.all())
			}
			out, said, err := shell(t, line[strings.Index(line, "grpcurl "):])
			if err != nil || !strings.Contains(out, `"matched": 0`) {
				t.Errorf("got %v, %s%s", err, out, said)
			}
			page := strings.Join(screen.all(), "\n")
			if url := regexp.MustCompile(`http://\S+`).FindString(page); !strings.HasPrefix(url, f.url()) {
				t.Errorf("got %q, want %s", url, f.url())
			}
		})
	}
}

// Everything is found by reflection, and described.
func TestReflection(t *testing.T) {
	f := startFoyer(t)
	out, said, err := shell(t, "grpcurl -plaintext "+f.api+" list")
	if err != nil {
		t.Fatal(err, said)
	}
	for _, want := range []string{
		"foyer.v1.EmitService", "foyer.v1.RoomService", "foyer.v1.SocketService", "foyer.v1.PresenceService",
		"foyer.v1.HandlerService", "foyer.v1.NodeService", "grpc.health.v1.Health",
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("%s is not in the list:\n%s", want, out)
			continue
		}
		if out, said, err := shell(t, "grpcurl -plaintext "+f.api+" describe "+want); err != nil || !strings.Contains(out, "rpc ") {
			t.Errorf("%s: %v %s", want, err, said)
		}
	}
	if out, said, err := shell(t, "grpcurl -plaintext "+f.api+" grpc.health.v1.Health/Check"); err != nil || !strings.Contains(out, "SERVING") {
		t.Errorf("health: %v %s%s", err, out, said)
	}
}
