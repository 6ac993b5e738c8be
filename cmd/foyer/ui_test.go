package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// link is a client of Socket.IO by polling.
type link struct {
	t    *testing.T
	url  string
	read []string // packets that have come and were not wanted yet
}

func openLink(t *testing.T, to net.Listener) *link {
	t.Helper()
	l := &link{t: t, url: "http://" + to.Addr().String() + "/socket.io/?EIO=4&transport=polling"}
	var open struct{ SID string }
	if err := json.Unmarshal([]byte(l.do(http.MethodGet, "")[1:]), &open); err != nil {
		t.Fatal(err)
	}
	l.url += "&sid=" + open.SID
	return l
}

func (l *link) do(method, body string) string {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), method, l.url, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(text)
}

func (l *link) send(packet string) { l.t.Helper(); l.do(http.MethodPost, packet) }

// until waits for a packet that begins so, and returns what follows.
func (l *link) until(prefix string) string {
	l.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		for i, p := range l.read {
			if rest, ok := strings.CutPrefix(p, prefix); ok {
				l.read = l.read[i+1:]
				return rest
			}
		}
		l.read = append(l.read, strings.Split(l.do(http.MethodGet, ""), "\x1e")...)
		for i, p := range l.read {
			if p == "2" {
				l.send("3")
				l.read[i] = ""
			}
		}
	}
	l.t.Fatalf("no %q came; there are %.300q", prefix, l.read)
	return ""
}

// startUI starts a node with the Admin UI: ann may do everything, and bob look.
func startUI(t *testing.T, args ...string) *foyer {
	t.Helper()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users")
	put(t, file, fmt.Sprintf("ann:%s\nbob:%s:readonly\n", hash, hash))
	return startNode(t, nil, append([]string{"--ui", "--ui-password-file", file}, args...)...)
}

const login = `40/admin,{"username":"%s","password":"%s"}`

// TestUILogin: who comes in, by what, and as what; and that the edge has nothing of it.
func TestUILogin(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	put(t, tokens, "a-token\n")
	f := startUI(t, "--api-token-file", tokens, "--handler-wait", "1ms") // nobody is on the way who would take /admin
	try := func(auth string) string {
		l := openLink(t, f.adminListener)
		l.send("40/admin," + auth)
		return l.until("4")
	}
	for _, auth := range []string{
		"", "{}", `{"sessionId":null}`, `{"sessionId":"0123456789abcdef"}`, `{"username":"ann","password":"wrong"}`, `{"username":"ann"}`,
		`{"username":"ann","password":["secret"]}`, `{"username":{},"password":"secret"}`, `{"username":"","password":""}`,
	} {
		if got := try(auth); got != `4/admin,{"message":"invalid credentials"}` {
			t.Errorf("%s: %s", auth, got)
		}
	}
	if got := try(`{"username":"eve","password":"secret"}`); !strings.HasPrefix(got, "4/admin,") {
		t.Errorf("a name that is not there: %s", got)
	}
	if n := f.ui.refused.Load(); n < 4 {
		t.Errorf("%d logins were counted as refused", n)
	}

	ann := openLink(t, f.adminListener)
	ann.send(fmt.Sprintf(login, "ann", "secret"))
	ann.until(`40/admin,`)
	session := strings.TrimSuffix(ann.until(`42/admin,["session",`), "]") // after CONNECT: the page hears nothing before
	if got := ann.until(`42/admin,["config",`); !strings.Contains(got, `"MDISCONNECT"`) || !strings.Contains(got, `"ALL_EVENTS"`) {
		t.Errorf("features: %s", got)
	}
	if got := ann.until(`42/admin,["all_sockets",[`); !strings.Contains(got, `"nsp":"/admin"`) {
		t.Errorf("all sockets: %s", got)
	}
	if got := ann.until(`42/admin,["server_stats",`); !strings.Contains(got, `"serverId":"`+string(f.node.ID())+`"`) || !strings.Contains(got, `"aggregatedEvents":[`) {
		t.Errorf("statistics: %s", got)
	}
	for name, auth := range map[string]string{
		"her session": `{"sessionId":` + session + `}`, "a token": `{"username":"","password":"a-token"}`,
	} {
		if got := try(auth); !strings.HasPrefix(got, "0/admin,") {
			t.Errorf("%s: %s", name, got)
		}
	}
	l := openLink(t, f.edgeListener)
	l.send("40/admin,") // while operators are there, who watch all namespaces that there are
	if got := l.until("4"); got != `4/admin,{"message":"Invalid namespace"}` {
		t.Errorf("the edge answers /admin with %s", got)
	}
}

// TestUICommands: an operator changes what is there and sees it; one who may only look does not; and nothing is watched
// once nobody looks.
func TestUICommands(t *testing.T) {
	f := startUI(t)
	watched := func() int { return f.node.Info().Watchers + f.node.Info().Handlers }
	if watched() != 0 {
		t.Errorf("%d watch before an operator is there", watched())
	}
	client := openLink(t, f.edgeListener)
	client.send("40")
	var connected struct{ SID string }
	if err := json.Unmarshal([]byte(client.until("40")), &connected); err != nil {
		t.Fatal(err)
	}
	id := connected.SID

	bob := openLink(t, f.adminListener)
	bob.send(fmt.Sprintf(login, "bob", "secret"))
	if got := bob.until(`42/admin,["config",`); strings.Contains(got, `"JOIN"`) {
		t.Errorf("features of who may look: %s", got)
	}
	if got := bob.until(`42/admin,["all_sockets",[`); !strings.Contains(got, id) {
		t.Errorf("the client is not among the sockets: %s", got)
	}
	bob.send(fmt.Sprintf(`42/admin,["join","/","bobs","%s"]`, id))

	ann := openLink(t, f.adminListener)
	ann.send(fmt.Sprintf(login, "ann", "secret"))
	ann.until(`42/admin,["all_sockets",[`)
	for _, wrong := range []string{`["join"]`, `["join",1,2,3]`, `["_disconnect"]`, `["nothing","/"]`, `["emit",null]`} {
		ann.send("42/admin," + wrong)
	}
	ann.send(fmt.Sprintf(`42/admin,["join","/","room1","%s"]`, id))
	if got := ann.until(`42/admin,["room_joined",`); !strings.HasPrefix(got, fmt.Sprintf(`"/","room1","%s","20`, id)) {
		t.Errorf("joined: %s", got) // had bob's been done, it would have come before
	}
	ann.send(`42/admin,["emit","/","room1","hello",1]`)
	client.until(`42["hello",1]`)
	client.send(`42["typed",{"a":1}]`)
	if got := ann.until(`42/admin,["event_received",`); !strings.HasPrefix(got, fmt.Sprintf(`"/","%s",["typed",{"a":1}],"20`, id)) {
		t.Errorf("an event: %s", got)
	}
	ann.send(`42/admin,["leave","/","room1"]`)
	ann.until(fmt.Sprintf(`42/admin,["room_left","/","room1","%s"`, id))
	ann.send(fmt.Sprintf(`42/admin,["_disconnect","/",false,"%s"]`, id))
	if got := ann.until(`42/admin,["socket_disconnected",`); !strings.HasPrefix(got, fmt.Sprintf(`"/","%s","server namespace disconnect"`, id)) {
		t.Errorf("disconnected: %s", got)
	}
	client.until("41")

	ann.send("41/admin,")
	bob.send("41/admin,")
	eventually(t, "nothing is watched when no operator is there", func() bool { return watched() == 0 })
}

// TestUIFiles: the page is there with its policy and its icons, and nothing else below its path.
func TestUIFiles(t *testing.T) {
	f := startUI(t)
	base := "http://" + f.adminListener.Addr().String()
	get := func(path string) (status int, policy, body string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header.Get("Content-Security-Policy"), string(text)
	}
	for path, want := range map[string]int{"/ui/VERSION": 404, "/ui/../healthz": 404, "/ui/nothing": 404, "/metrics": 200} {
		if got, _, _ := get(path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	status, policy, page := get("/ui/")
	if status == http.StatusNotFound && strings.Contains(page, "make web") {
		t.Log("the Admin UI is not built in")
		return
	}
	if status != 200 || !strings.Contains(policy, "default-src 'none'; script-src 'self';") {
		t.Errorf("the page: %d, and its policy is %q", status, policy)
	}
	sheets := regexp.MustCompile(`href="?(mdi/[^" >]*)`).FindStringSubmatch(page)
	if sheets == nil {
		t.Fatalf("the page has no icons of ours: %s", page)
	}
	status, _, sheet := get("/ui/" + sheets[1])
	font := regexp.MustCompile(`\.\./(fonts/[^?"]*\.woff2)`).FindStringSubmatch(sheet)
	if status != 200 || font == nil {
		t.Fatalf("the icons' style sheet: %d, and it names no font", status)
	}
	if status, _, data := get("/ui/mdi/" + font[1]); status != 200 || !strings.HasPrefix(data, "wOF2") {
		t.Errorf("the icons' font: %d, %.20q", status, data)
	}
}

// TestUIFlags: what cannot be is said before anything is served.
func TestUIFlags(t *testing.T) {
	for want, args := range map[string][]string{
		"--ui: nobody could log in":                   {"--ui"},
		"--ui: there is no --admin address":           {"--ui", "--admin", "", "--ui-password-file", "x"},
		"--ui-readonly are of the Admin UI, which is": {"--ui-readonly"},
	} {
		if _, err := parse(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}
