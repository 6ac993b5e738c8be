package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"foyer/cmd/foyer/configfile"
)

// retuned is a node that was built with a configuration file, and what looks after that.
type retuned struct {
	*foyer
	file string
	look func(asked bool)
	said *observer.ObservedLogs
}

func newRetuned(t *testing.T, text string, args ...string) *retuned {
	t.Helper()
	file := configOf(t, text)
	args = append([]string{"serve", "--config", file, "--edge", "127.0.0.1:0", "--api", "127.0.0.1:0", "--admin", ""}, args...)
	p := shared().parser
	if _, err := p.Parse(args); err != nil {
		t.Fatal(explain(p, err))
	}
	own := shared().commands.Serve.settings
	core, said := observer.New(zapcore.InfoLevel)
	f := newFoyer(&own, false, zap.New(core))
	f.launch = p.launch(args, nil)
	if err := f.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.serve()
	t.Cleanup(f.close)
	r := &reloader{log: f.log.Named(reloadLog), parts: f.reloadable}
	return &retuned{f, file, r.look, said}
}

// lines are what was logged of reloading since the last call.
func (r *retuned) lines() []string {
	return linesOf(slices.DeleteFunc(r.said.TakeAll(), func(e observer.LoggedEntry) bool { return e.LoggerName != reloadLog }))
}

// TestRetune: what a change of the file is answered with.
func TestRetune(t *testing.T) {
	const start = "max-sessions: 5\ncluster: off\n"
	t.Setenv("FOYER_MESSAGE_BURST", "77")
	r := newRetuned(t, start, "--message-rate", "77")
	for name, c := range map[string]struct {
		text string
		want []string // FILE is the file's name
		max  int
	}{
		"a limit":     {"max-sessions: 6\n", []string{"info reloaded configuration max-sessions 5 → 6"}, 6},
		"a default":   {"", []string{"info reloaded configuration max-sessions 5 → 100000"}, 100000},
		"more":        {"max-sessions: 7\nhandshake-rate: -1\nqueue-bytes: 2MiB\n", []string{"info reloaded configuration queue-bytes 1MiB → 2MiB, max-sessions 5 → 7, handshake-rate 2000 → -1"}, 7},
		"nothing":     {"# said in other words\n" + start, []string{"info reloaded configuration says nothing else of what can be taken up"}, 5},
		"a variable":  {"max-sessions: 5\nmessage-burst: 9\n", []string{"info reloaded configuration says nothing else of what can be taken up"}, 5},
		"a flag":      {"max-sessions: 5\nmessage-rate: 9\n", []string{"info reloaded configuration says nothing else of what can be taken up"}, 5},
		"a restart":   {"max-sessions: 5\npath: /x/\nping-interval: 1s\n", []string{"warn changed settings hold after a restart only path /socket.io/ → /x/; ping-interval 25s → 1s", "info reloaded configuration says nothing else of what can be taken up"}, 5},
		"both":        {"max-sessions: 6\nnode-id: abcd\n", []string{"warn changed settings hold after a restart only node-id - → abcd", "info reloaded configuration max-sessions 5 → 6"}, 6},
		"a secret":    {"max-sessions: 5\ncluster: nats\ncluster-url: nats://me:secret@127.0.0.1:4222\n", []string{"warn changed settings hold after a restart only cluster off → nats; cluster-url - → nats://***@127.0.0.1:4222", "info reloaded configuration says nothing else of what can be taken up"}, 5},
		"no YAML":     {"max-sessions: [6\n", []string{"warn not reloaded: configuration stays as it is until the file is good configuration: FILE:1: this is no YAML: a bracket is not closed"}, 5},
		"half a file": {"max-sessions: 6\nhandshake-ra", []string{"warn not reloaded: configuration stays as it is until the file is good configuration: FILE:2: this is no YAML: the colon behind the key is missing"}, 5},
		"a fault":     {"max-sessions: 6\nqueue-bytes: x\nedgy: 1\n", []string{`warn not reloaded: configuration stays as it is until the file is good configuration: FILE:2: queue-bytes: "x" is not a size between 1 and 1GiB, such as 1000000, 64KiB or 1MB; FILE:3: there is no setting "edgy"; do you mean edge?`}, 5},
		"a value":     {"max-sessions: 6\nhandshake-burst: 0\n", []string{`warn not reloaded: configuration stays as it is until the file is good configuration: FILE:2: handshake-burst: 0 is not above zero`}, 5},
		"too large":   {"# " + strings.Repeat("x", configfile.MaxBytes), []string{`warn not reloaded: configuration stays as it is until the file is good configuration: --config: FILE is too large; was another file meant?`}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			r.lines()
			put(t, r.file, c.text)
			r.look(false)
			got := r.lines()
			for i := range got {
				got[i] = strings.ReplaceAll(got[i], r.file, "FILE")
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("logged (-want +got):\n%s", d)
			}
			if got := r.engine.Limits(); got.MaxSessions != c.max || got.MessageBurst != 77 || got.MessageRate != 77 {
				t.Errorf("limits are %+v", got)
			}
			r.look(false)
			if got := r.lines(); len(got) > 0 {
				t.Errorf("a second look says %q", got)
			}
			put(t, r.file, start)
			r.look(false)
			if got := r.engine.Limits().MaxSessions; got != 5 {
				t.Errorf("the old file makes it %d", got)
			}
		})
	}
}

// TestAFileThatChangedWhileTheNodeStarted is taken up at the first look.
func TestAFileThatChangedWhileTheNodeStarted(t *testing.T) {
	r := newRetuned(t, "max-sessions: 5\n")
	r.look(false)
	if got := r.lines(); len(got) > 0 {
		t.Errorf("an unchanged file: %q", got)
	}
	put(t, r.file, "max-sessions: 6\n")
	r.look(false)
	if got := r.engine.Limits().MaxSessions; got != 6 {
		t.Errorf("it is %d", got)
	}
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	r.lines()
	r.look(true)
	if got, want := r.lines(), fmt.Sprintf("there is no file %s", filepath.Clean(r.file)); len(got) != 1 || !strings.Contains(got[0], want) || r.engine.Limits().MaxSessions != 6 {
		t.Errorf("a file that is gone: %q", got)
	}
}
