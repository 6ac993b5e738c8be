package main

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// put writes a file as most programs do that replace one: under another name first.
func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func contentOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// reloading is a reloader with a certificate and a token file, without a node.
type reloading struct {
	cert, key, tokenFile string
	shown                certificate
	tokens               tokens
	parts                []*reloadable
	log                  *zap.Logger
	said                 *observer.ObservedLogs
}

func newReloading(t *testing.T) *reloading {
	t.Helper()
	r := &reloading{tokenFile: filepath.Join(t.TempDir(), "tokens")}
	r.cert, r.key = selfSigned(t)
	put(t, r.tokenFile, "first\n")
	f := &foyer{s: &settings{EdgeTLS: tlsPair{r.cert, r.key}, APITokenFile: r.tokenFile}}
	r.parts = f.reloads()
	r.parts[0].take, r.parts[1].take = r.shown.take, r.tokens.take
	for _, p := range r.parts {
		if _, err := p.load(); err != nil {
			t.Fatal(err)
		}
	}
	core, said := observer.New(zapcore.InfoLevel)
	r.log, r.said = zap.New(core), said
	return r
}

func (r *reloading) raw() string { return string(r.shown.now.Load().Certificate[0]) }

// lines are what was logged since the last call.
func (r *reloading) lines() []string { return linesOf(r.said.TakeAll()) }

func linesOf(entries []observer.LoggedEntry) (lines []string) {
	for _, e := range entries {
		text := e.Level.String() + " " + e.Message
		for key, v := range e.ContextMap() {
			if key != "signal" {
				text += " " + strings.TrimSpace(strings.Join(strings.Fields(stringOf(v)), " "))
			}
		}
		lines = append(lines, text)
	}
	return lines
}

func stringOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []any:
		var parts []string
		for _, p := range v {
			parts = append(parts, stringOf(p))
		}
		return strings.Join(parts, "; ")
	}
	return ""
}

// TestBrokenFilesChangeNothing: whatever is wrong with a file, what was read before stays, the log names the file and
// the fault and says it once, and a good file is taken afterwards.
func TestBrokenFilesChangeNothing(t *testing.T) {
	otherCert, otherKey := selfSigned(t)
	goodCert, goodKey := contentOf(t, otherCert), contentOf(t, otherKey)
	for name, c := range map[string]struct {
		spoil func(t *testing.T, r *reloading)
		wants []string
	}{
		"empty certificate":  {func(t *testing.T, r *reloading) { put(t, r.cert, "") }, []string{"--edge-cert", "empty"}},
		"half a certificate": {func(t *testing.T, r *reloading) { put(t, r.cert, goodCert[:len(goodCert)/2]) }, []string{"--edge-cert", "PEM"}},
		"a key in its place": {func(t *testing.T, r *reloading) { put(t, r.cert, goodKey) }, []string{"--edge-cert", "no certificate"}},
		"no key":             {func(t *testing.T, r *reloading) { put(t, r.key, goodCert) }, []string{"--edge-key", "no key"}},
		"an encrypted key": {func(t *testing.T, r *reloading) {
			put(t, r.key, strings.ReplaceAll(goodKey, "PRIVATE", "ENCRYPTED PRIVATE"))
		}, []string{"--edge-key", "encrypted"}},
		"certificate of another key": {func(t *testing.T, r *reloading) { put(t, r.cert, goodCert) }, []string{"--edge-key", "not the key"}},
		"key of another certificate": {func(t *testing.T, r *reloading) { put(t, r.key, goodKey) }, []string{"--edge-key", "not the key"}},
		"no file":                    {func(t *testing.T, r *reloading) { remove(t, r.cert) }, []string{"--edge-cert", "there is no file"}},
		"a directory": {func(t *testing.T, r *reloading) {
			remove(t, r.key)
			if err := os.Mkdir(r.key, 0o700); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Remove(r.key) })
		}, []string{"--edge-key", "directory"}},
		"no tokens":     {func(t *testing.T, r *reloading) { put(t, r.tokenFile, "# none\n") }, []string{"--api-token-file", "no token"}},
		"empty tokens":  {func(t *testing.T, r *reloading) { put(t, r.tokenFile, "") }, []string{"--api-token-file", "no token"}},
		"a bad line":    {func(t *testing.T, r *reloading) { put(t, r.tokenFile, "fine\n\ntwo words\n") }, []string{"--api-token-file", "line 3"}},
		"a binary file": {func(t *testing.T, r *reloading) { put(t, r.tokenFile, "\x00\x01\xff") }, []string{"--api-token-file", "line 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReloading(t)
			before := r.raw()
			reloader := &reloader{log: r.log, parts: r.parts}
			c.spoil(t, r)
			reloader.look(false)
			reloader.look(false)
			if r.raw() != before || !cmp.Equal(r.tokens.list(), []string{"first"}) {
				t.Error("something has changed")
			}
			lines := r.lines()
			if len(lines) != 1 || !strings.HasPrefix(lines[0], "warn ") {
				t.Fatalf("two looks logged %q, want one warning", lines)
			}
			for _, want := range c.wants {
				if !strings.Contains(lines[0], want) {
					t.Errorf("%q does not say %q", lines[0], want)
				}
			}
			for _, secret := range []string{"two words", "fine", "tls: ", "x509: ", "asn1: "} {
				if strings.Contains(lines[0], secret) {
					t.Errorf("%q has %q in it", lines[0], secret)
				}
			}
			reloader.look(true)
			if lines := r.lines(); len(lines) != 1 || !strings.HasPrefix(lines[0], "warn ") {
				t.Errorf("who asks is told %q, want the fault again", lines)
			}

			_ = os.Remove(r.key) // if it is a directory by now
			put(t, r.cert, goodCert)
			put(t, r.key, goodKey)
			put(t, r.tokenFile, "first\nsecond\n")
			reloader.look(false)
			if r.raw() == before || !cmp.Equal(r.tokens.list(), []string{"first", "second"}) {
				t.Errorf("good files are not taken: %q", r.lines())
			}
			lines = r.lines()
			if len(lines) != 1 || !strings.HasPrefix(lines[0], "info reloaded") ||
				!strings.Contains(lines[0], "edge certificate for localhost until") || !strings.Contains(lines[0], "API tokens 2 of them, 1 new, 0 removed") {
				t.Errorf("logged %q, want one line with what has changed", lines)
			}
		})
	}
}

func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

// TestWhenFilesAreLookedAt: at the beginning, soon after a change that is told and only once for many, when it is asked
// for, and every minute where nothing tells of changes.
func TestWhenFilesAreLookedAt(t *testing.T) { synctest.Test(t, testWhenFilesAreLookedAt) }

func testWhenFilesAreLookedAt(t *testing.T) {
	r := newReloading(t)
	reloader := &reloader{log: r.log, parts: r.parts}
	ctx, cancel := context.WithCancel(t.Context())
	asked, changes, done := make(chan os.Signal), make(chan struct{}), make(chan struct{})
	put(t, r.tokenFile, "since-start\n")
	go func() {
		defer close(done)
		reloader.run(ctx, asked, changes)
	}()
	want := func(when, token string, lines int) {
		t.Helper()
		synctest.Wait()
		if got := r.tokens.list(); !cmp.Equal(got, []string{token}) {
			t.Errorf("%s: tokens %q, want %q", when, got, token)
		}
		if got := r.lines(); len(got) != lines {
			t.Errorf("%s: logged %q, want %d lines", when, got, lines)
		}
	}
	want("at the beginning", "since-start", 1)

	put(t, r.tokenFile, "told\n")
	changes <- struct{}{}
	want("at once after a change", "since-start", 0)
	put(t, r.tokenFile, "half of\n")
	for range 8 { // all the while there are changes
		changes <- struct{}{}
		time.Sleep(settle / 2)
		want("while the file is written", "since-start", 0)
	}
	put(t, r.tokenFile, "told\n")
	changes <- struct{}{}
	time.Sleep(settle + time.Millisecond)
	want("soon after the last change", "told", 1)

	put(t, r.tokenFile, "never\n")
	for began := time.Now(); time.Since(began) < settleMost; time.Sleep(settle / 2) {
		want("as long as the changes may take", "told", 0)
		changes <- struct{}{}
	}
	time.Sleep(time.Millisecond)
	want("though changes do not end", "never", 1)

	time.Sleep(lookEvery - settle/2) // just before the minute's look
	want("before the look", "never", 0)
	put(t, r.tokenFile, "late\n")
	changes <- struct{}{}
	time.Sleep(settle - time.Millisecond)
	want("the minute has passed, and not the time for changes", "never", 0)
	time.Sleep(2 * time.Millisecond)
	want("after it", "late", 1)

	put(t, r.tokenFile, "asked\n")
	asked <- syscall.SIGHUP
	want("asked", "asked", 1)
	asked <- syscall.SIGHUP
	want("asked again", "asked", 1) // that there was nothing to do

	put(t, r.tokenFile, "minute\n")
	time.Sleep(lookEvery - time.Second)
	want("before a minute", "asked", 0)
	time.Sleep(time.Second + time.Millisecond)
	want("after a minute", "minute", 1)
	cancel()
	<-done
}

// TestChangesAreSeen: a file is written anew, another is put in its place, a link on the way to it is exchanged, here
// or in another directory; and after the first change the next one is seen as well.
func TestChangesAreSeen(t *testing.T) {
	link := func(t *testing.T, to, name string) {
		t.Helper()
		if err := os.Symlink(to, name+".new"); err != nil {
			t.Skip("no symbolic links here: ", err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
	mkdir := func(t *testing.T, dir string) string {
		t.Helper()
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for name, c := range map[string]struct {
		make   func(t *testing.T, dir string) (file string)
		change func(t *testing.T, dir, text string)
	}{
		"written in place": {
			func(t *testing.T, dir string) string { put(t, dir+"/f", "0"); return dir + "/f" },
			func(t *testing.T, dir, text string) {
				if err := os.WriteFile(dir+"/f", []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			},
		},
		"replaced": {
			func(t *testing.T, dir string) string { put(t, dir+"/f", "0"); return dir + "/f" },
			func(t *testing.T, dir, text string) { put(t, dir+"/f", text) },
		},
		"a volume of Kubernetes": {
			func(t *testing.T, dir string) string {
				put(t, mkdir(t, dir+"/..0")+"/f", "0")
				link(t, "..0", dir+"/..data")
				link(t, "..data/f", dir+"/f")
				return dir + "/f"
			},
			func(t *testing.T, dir, text string) {
				old, _ := os.Readlink(dir + "/..data")
				put(t, mkdir(t, dir+"/.."+text)+"/f", text)
				link(t, ".."+text, dir+"/..data")
				_ = os.RemoveAll(dir + "/" + old)
			},
		},
		"a link to a link elsewhere": {
			func(t *testing.T, dir string) string {
				put(t, mkdir(t, dir+"/archive")+"/f0", "0")
				link(t, "../archive/f0", mkdir(t, dir+"/live")+"/f")
				link(t, dir+"/live/f", mkdir(t, dir+"/own")+"/f")
				return dir + "/own/f"
			},
			func(t *testing.T, dir, text string) {
				put(t, dir+"/archive/f"+text, text)
				link(t, "../archive/f"+text, dir+"/live/f")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := c.make(t, dir)
			for _, text := range []string{"1", "2"} {
				w := newWatcher(zap.NewNop())
				w.follow([]string{file})
				if text == "2" { // as after a look
					c.change(t, dir, "between")
					<-w.changes
					w.follow([]string{file})
				}
				c.change(t, dir, text)
				for contentOf(t, file) != text {
					<-w.changes
				}
				<-w.changes
				w.close()
			}
		})
	}
}

// TestPairsOfFiles: other forms of good files.
func TestPairsOfFiles(t *testing.T) {
	cert, key := selfSigned(t)
	both := contentOf(t, cert) + contentOf(t, key)
	for name, pair := range map[string][2]string{
		"both in one":   {both, both},
		"words before":  {"Subject: me\n" + contentOf(t, cert), "words\n" + contentOf(t, key)},
		"a whole chain": {contentOf(t, cert) + contentOf(t, cert), contentOf(t, key)},
	} {
		var c certificate
		if _, err := c.take([][]byte{[]byte(pair[0]), []byte(pair[1])}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if shown, err := c.config().GetCertificate(&tls.ClientHelloInfo{}); shown == nil || err != nil {
			t.Errorf("%s: shows %v, %v", name, shown, err)
		}
	}
}

func TestParseTokens(t *testing.T) {
	for text, want := range map[string][]string{
		"one\n# not this\n\n two \n": {"one", "two"},
		"one\r\ntwo\r\n":             {"one", "two"},
		"\ufeffone\ntwo":             {"one", "two"},
		"one\none\n":                 {"one"},
		"# none\n":                   nil,
		"one\nt wo\n":                nil,
		"schl\u00fcssel\n":           nil,
		strings.Repeat("x", 4097):    nil,
	} {
		got, err := parseTokens([]byte(text))
		if d := cmp.Diff(want, got); d != "" || (err == nil) != (want != nil) {
			t.Errorf("%.20q: %v (-want +got):\n%s", text, err, d)
		}
	}
}
