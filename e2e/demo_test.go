//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// defaultAPI is the address in what people are told to type.
const defaultAPI = "127.0.0.1:50051"

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

// Every grpcurl line of the README works as it stands, but for the port.
func TestReadme(t *testing.T) {
	raw, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := grpcurlLines(string(raw))
	if len(commands) == 0 {
		t.Fatal("the README has no line that begins with grpcurl")
	}
	f := startFoyer(t, "demo")
	p := startPuppets(t)
	c, _ := p.connect(t, f.url(), "/", opts{}) // somebody is there, so that answers have something in them
	c.event("welcome")
	for _, command := range commands {
		t.Run(command, func(t *testing.T) {
			if !strings.Contains(command, defaultAPI) && !strings.Contains(command, "localhost:50051") {
				t.Fatalf("it does not call %s", defaultAPI)
			}
			line := strings.NewReplacer(defaultAPI, f.api, "localhost:50051", f.api).Replace(command)
			// A watch would go on for ever, or for as long as a reader has patience.
			line = regexp.MustCompile(`-max-time \S+ `).ReplaceAllString(line, "")
			line = strings.Replace(line, "grpcurl ", "grpcurl -max-time 3 ", 1)
			out, said, err := shell(t, line)
			streams := strings.Contains(line, "Watch") || strings.Contains(line, "Attach")
			switch {
			case err == nil:
			case streams && strings.Contains(said, "DeadlineExceeded") && strings.Contains(out, "{"):
			default:
				t.Errorf("%v\n%s%s", err, out, said)
			}
			if strings.TrimSpace(out) == "" {
				t.Error("it says nothing")
			}
		})
	}
}

// grpcurlLines are the commands of a Markdown text's code blocks that begin with grpcurl, also behind a prompt; those that go
// on on the next line are joined.
func grpcurlLines(markdown string) []string {
	var commands []string
	inside, going := false, false
	for line := range strings.Lines(markdown) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			inside, going = !inside, false
			continue
		}
		line = strings.TrimPrefix(line, "$ ")
		if !inside || !going && !strings.HasPrefix(line, "grpcurl ") {
			continue
		}
		body, more := strings.CutSuffix(line, `\`)
		if going {
			commands[len(commands)-1] += body
		} else {
			commands = append(commands, body)
		}
		// A quote that is still open goes on too, as a request that is set out over lines does.
		going = more || strings.Count(commands[len(commands)-1], "'")%2 == 1
		if going && !more {
			commands[len(commands)-1] += " "
		}
	}
	return commands
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

// What foyer says when it starts can be pasted into a terminal.
func TestGreeting(t *testing.T) {
	for _, command := range []string{"serve", "demo"} {
		t.Run(command, func(t *testing.T) {
			f := startFoyer(t, command)
			line, _, err := f.out.await(0, patience, func(line string) bool { return strings.Contains(line, "grpcurl ") })
			if err != nil {
				t.Fatalf("it shows no command: %v, %q", err, f.out.all())
			}
			out, said, err := shell(t, line[strings.Index(line, "grpcurl "):])
			if err != nil || !strings.Contains(out, `"matched": 0`) {
				t.Errorf("got %v, %s%s", err, out, said)
			}
			page := strings.Join(f.out.all(), "\n")
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
