package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"
)

// whole is a node that has every part and reads every file of which the content is taken up. Contents makes others for
// the files of one name among the reloadable.
type whole struct {
	*retuned
	start    string // what the configuration file says
	contents map[string]func() []string
}

func newWhole(t *testing.T) *whole {
	t.Helper()
	pair := func() []string {
		cert, key := selfSigned(t)
		return []string{contentOf(t, cert), contentOf(t, key)}
	}
	ca := newAuthority(t)
	member := func() (texts []string) {
		for _, text := range ca.member(t) {
			texts = append(texts, string(text))
		}
		return texts
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i, text := range member() {
		put(t, filepath.Join(dir, fmt.Sprint("member", i)), text)
	}
	put(t, filepath.Join(dir, "tokens"), "a-token\n")
	put(t, filepath.Join(dir, "users"), "ann:"+string(hash)+"\n")
	start := "max-connections: 1000\nmax-connections-per-address: 500\nmax-sessions-per-address: 50\nmemory-budget: 64MiB\n"
	for _, what := range []string{"edge", "api", "http"} {
		cert, key := selfSigned(t)
		start += fmt.Sprintf("%s-cert: %s\n%s-key: %s\n", what, cert, what, key)
	}
	start += strings.ReplaceAll("ui: true\nui-password-file: DIR/users\napi-token-file: DIR/tokens\n"+
		"cluster: embedded\ncluster-tls-cert: DIR/member0\ncluster-tls-key: DIR/member1\ncluster-tls-ca: DIR/member2\n", "DIR", dir)
	return &whole{
		newRetuned(t, start, "--admin", "127.0.0.1:0", "--http", "127.0.0.1:0", "--cluster-listen", "127.0.0.1:0"), start,
		map[string]func() []string{
			"edge certificate": pair, "API certificate": pair, "HTTP certificate": pair, "cluster certificate": member,
			"API tokens":   func() []string { return []string{"another\n"} },
			"UI passwords": func() []string { return []string{"bob:" + string(hash) + "\n"} },
		},
	}
}

// effects are where each setting that a running node takes up is seen to hold: at all of its places.
func (w *whole) effects() map[string][]any {
	limit := func(name string) any {
		for _, l := range append(w.limits(), w.api.Limits()...) {
			if l.Name == name {
				return l.Most
			}
		}
		return nil
	}
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.RemoteAddr = "10.0.0.1:5"
	r.Header.Set("X-Forwarded-For", "198.51.100.7")
	l, ui := w.engine.Limits(), w.ui.engine.Limits()
	effects := map[string][]any{
		"api-connections": {limit("api_connections")}, "max-connections": {limit("edge_connections")},
		"max-connections-per-address": {w.edgeConns.share.Load()},
		"memory-budget":               {w.node.Budget().Limit()},
		"slow-after":                  {l.SlowAfter, w.node.HoldStream(), w.passing.SlowAfter()},
		"trusted-proxy": {
			fmt.Sprint(l.TrustedProxies), fmt.Sprint(ui.TrustedProxies), fmt.Sprint(w.edgeConns.exempt), fmt.Sprint(w.http.conns.exempt), w.callerOf(r),
		},
		"http-origin": {w.pageMayCall()}, "cors-origin": {strings.Join(l.Origins, ",")}, "cors-listed-only": {l.ListedOriginsOnly},
		"queue-bytes": {l.QueueBytes}, "max-sessions": {l.MaxSessions}, "max-sessions-per-address": {l.MaxSessionsPerAddress},
		"handshake-rate": {l.HandshakeRate}, "handshake-burst": {l.HandshakeBurst}, "message-rate": {l.MessageRate}, "message-burst": {l.MessageBurst},
		"address-message-rate": {l.AddressMessageRate}, "address-message-burst": {l.AddressMessageBurst},
		"drain-notice": {w.holds.Load().DrainNotice}, "drain-window": {w.holds.Load().DrainWindow}, "log-level": {w.level.String()},
		"api-token-file": {fmt.Sprint(w.tokens.list())}, "ui-password-file": {fmt.Sprint(&w.ui.users)},
	}
	shown := func(c *tls.Certificate) []any { return []any{string(c.Certificate[0])} }
	for what, c := range map[string]*certificate{"edge": &w.edgeCert, "api": &w.apiCert, "http": &w.http.cert} {
		effects[what+"-cert"], effects[what+"-key"] = shown(c.now.Load()), shown(c.now.Load())
	}
	for _, file := range []string{"cert", "key"} {
		effects["cluster-tls-"+file] = shown(w.membership.now.Load().pair)
	}
	effects["cluster-tls-ca"] = []any{fmt.Sprintf("%p", w.membership.now.Load().roots)}
	return effects
}

// pageMayCall says whether a page of an origin may call the API over HTTP.
func (w *whole) pageMayCall() bool {
	r, answer := httptest.NewRequest(http.MethodOptions, "/", http.NoBody), httptest.NewRecorder()
	r.Header.Set("Origin", "https://a.example")
	r.Header.Set("Access-Control-Request-Method", http.MethodPost)
	w.http.server.Handler.ServeHTTP(answer, r)
	return answer.Header().Get("Access-Control-Allow-Origin") != ""
}

// TestEverySettingThatSaysSoIsTakenUp: each one that is declared to be taken up while the node runs has its effect
// then, at all of its places, and each alone.
func TestEverySettingThatSaysSoIsTakenUp(t *testing.T) {
	w := newWhole(t)
	other := map[string]string{
		"log-level": "error", "cors-origin": "https://a.example", "cors-listed-only": "true", "drain-notice": "3s", "drain-window": "3s",
		"queue-bytes": "3KiB", "slow-after": "3s", "memory-budget": "3MiB", "trusted-proxy": "10.0.0.0/8", "http-origin": "https://a.example",
	}
	for _, flag := range w.launch.flags {
		if !taken(flag) {
			continue
		}
		before := w.effects()
		if len(before[flag.Name]) == 0 {
			t.Errorf("nobody knows where %s is seen to hold", flag.Name)
			continue
		}
		value := other[flag.Name]
		if value == "" {
			value = "7"
		}
		text := ""
		for line := range strings.Lines(w.start) {
			if !strings.HasPrefix(line, flag.Name+":") {
				text += line
			}
		}
		put(t, w.file, text+flag.Name+": "+value+"\n")
		w.look(false)
		after := w.effects()
		if lines := w.lines(); len(lines) != 1 || !strings.HasPrefix(lines[0], "info reloaded configuration ") || !strings.Contains(lines[0], flag.Name+" ") {
			t.Errorf("%s: logged %q", flag.Name, lines)
		}
		for i, was := range before[flag.Name] {
			if reflect.DeepEqual(was, after[flag.Name][i]) {
				t.Errorf("%s has no effect at its place %d: %v", flag.Name, i, was)
			}
		}
		put(t, w.file, w.start)
		w.look(false)
		if d := cmp.Diff(before, w.effects()); d != "" {
			t.Errorf("after %s, not all is as before (-want +got):\n%s", flag.Name, d)
		}
		w.lines()
	}
}

// TestContentsThatAreTakenUp: a setting is declared to be taken up by its content when its file is among what is read
// again, and only then; and what the file says next is put to use.
func TestContentsThatAreTakenUp(t *testing.T) {
	w := newWhole(t)
	var declared, read []string
	for _, flag := range w.launch.flags {
		if flag.Tag.Get(reloadTag) == ofContent {
			declared = append(declared, "--"+flag.Name)
		}
	}
	for _, r := range w.reloadable {
		if r.name == "configuration" {
			continue
		}
		before := w.effects()
		contents := w.contents[r.name]
		if contents == nil || len(contents()) != len(r.files) {
			t.Errorf("nobody knows what %s may have", r.name)
			continue
		}
		for i, text := range contents() {
			put(t, r.files[i].path, text)
		}
		w.look(false)
		if lines := w.lines(); len(lines) != 1 || !strings.HasPrefix(lines[0], "info reloaded "+r.name+" ") {
			t.Errorf("%s: logged %q", r.name, lines)
		}
		after := w.effects()
		for _, f := range r.files {
			read = append(read, f.flag)
			name := strings.TrimPrefix(f.flag, "--")
			if len(before[name]) == 0 || reflect.DeepEqual(before[name], after[name]) {
				t.Errorf("what is in %s has no effect", f.flag)
			}
		}
	}
	slices.Sort(declared)
	slices.Sort(read)
	if d := cmp.Diff(declared, slices.Compact(read)); d != "" {
		t.Errorf("what is declared, and what is read again (-declared +read):\n%s", d)
	}
}

// TestWhatNeedsARestartIsTold: each setting that is not declared to be taken up is told to need a restart when the file
// has another value for it, and goes on to hold as it did.
func TestWhatNeedsARestartIsTold(t *testing.T) {
	r := newRetuned(t, "")
	for i, flag := range r.launch.flags {
		if taken(flag) {
			continue // TestEverySettingThatSaysSoIsTakenUp has these
		}
		next := *r.s
		change(t, flag, next.fields()[i])
		r.launch.again = func([]byte) (*settings, error) { return &next, nil }
		news, err := r.retune([][]byte{nil})
		if err != nil || news != "says nothing else of what can be taken up" {
			t.Errorf("%s: %q, %v", flag.Name, news, err)
		}
		const want = "warn changed settings hold after a restart only "
		if lines := r.lines(); len(lines) != 1 || !strings.HasPrefix(lines[0], want+flag.Name+" ") {
			t.Errorf("%s: logged %q", flag.Name, lines)
		}
		if !reflect.DeepEqual(r.holds.Load(), r.s) {
			t.Errorf("%s holds at once", flag.Name)
		}
	}
}

// change makes another value of one.
func change(t *testing.T, flag *kong.Flag, v reflect.Value) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *string:
		*x += "x"
	case *bool:
		*x = !*x
	case *time.Duration:
		*x += time.Second
	case *float64:
		*x /= 2
	case *[]string:
		*x = append(slices.Clone(*x), "x")
	default:
		if v.CanInt() {
			v.SetInt(v.Int() + 1)
		} else if v.Kind() == reflect.Slice {
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		} else {
			t.Fatalf("%s is a %v", flag.Name, v.Type())
		}
	}
}

// TestFieldsAreThoseOfFlags, each in the place of its flag.
func TestFieldsAreThoseOfFlags(t *testing.T) {
	flags, fields := settingFlags(shared().parser.Model), shared().commands.Serve.fields()
	if len(flags) != len(fields) {
		t.Fatalf("%d flags and %d fields", len(flags), len(fields))
	}
	for i, f := range flags {
		if f.Target.Addr().Pointer() != fields[i].Addr().Pointer() {
			t.Errorf("flag %s has another field in its place, a %v", f.Name, fields[i].Type())
		}
	}
}
