package main

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
	"go.uber.org/zap"

	"foyer/transport/engineio"
	"foyer/transport/grpcapi"
)

// reloadTag marks the settings that a running node takes up when its configuration file changes: retune has them hold.
// With the value content it marks files of which the node takes up what is in them, whatever names them (see reloads).
const (
	reloadTag = "reload"
	ofContent = "content"
)

// launch is how a node was started.
type launch struct {
	strays strays
	text   []byte // of the configuration file
	// again is what the same command line and the same variables make of another text of the file.
	again func(text []byte) (*settings, error)
}

func (p *parser) launch(args []string, unknown strays) launch {
	return launch{unknown, p.source.text, func(text []byte) (*settings, error) {
		var c commands
		p := newParser(&c)
		p.source.content = append([]byte{}, text...) // an empty one, too, is not to be read from the file
		command, err := p.Parse(args)
		if err != nil {
			lines, _ := p.told(err)
			return nil, errors.New(strings.Join(lines, "; "))
		}
		has, ok := command.Selected().Target.Addr().Interface().(interface{ own() *settings })
		if !ok {
			return nil, errors.New("the command has no settings")
		}
		return has.own(), nil
	}}
}

func (s *settings) own() *settings { return s }

// configuration is the file of --config among what is reloaded; it has no path when there is none.
func (f *foyer) configuration() *reloadable {
	return &reloadable{
		name: "configuration", files: []source{{"--" + fileSetting, f.s.Config}}, take: f.retune,
		known: true, sum: sumOf([][]byte{f.launch.text}),
	}
}

// retune takes up what a new text of the configuration file changes. It says what that is, and tells the log what needs a
// restart. An error has changed nothing.
func (f *foyer) retune(contents [][]byte) (string, error) {
	if len(contents[0]) > maxConfigBytes {
		return "", fileError(source{"--" + fileSetting, f.s.Config}, errLarge)
	}
	next, err := f.launch.again(contents[0])
	if err != nil {
		return "", err
	}
	holds, to := flagsOfSettings(f.holds.Load()), flagsOfSettings(next)
	var changed, waiting []string
	for i, flag := range holds.flags {
		if reflect.DeepEqual(flag.Target.Interface(), to.flags[i].Target.Interface()) {
			continue
		}
		change := fmt.Sprintf("%s %s → %s", flag.Name, brief(rowOf(flag).text()), brief(rowOf(to.flags[i]).text()))
		if !taken(flag) {
			waiting = append(waiting, change)
			continue
		}
		changed = append(changed, change)
		flag.Target.Set(to.flags[i].Target)
	}
	if len(changed) > 0 {
		if err := f.tune(holds.own); err != nil {
			return "", err
		}
	}
	if len(waiting) > 0 {
		f.log.Named("reload").Warn("changed settings hold after a restart only", zap.Strings("settings", waiting))
	}
	if len(changed) == 0 {
		return "says nothing else of what can be taken up", nil
	}
	return strings.Join(changed, ", "), nil
}

// taken says whether a running node takes up another value of a setting.
func taken(f *kong.Flag) bool { return f.Tag.Has(reloadTag) && f.Tag.Get(reloadTag) != ofContent }

// brief is a text of a length that a line of the log can bear.
func brief(text string) string {
	const most = 200
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// tune has the settings hold that can change while the node runs. The parts refuse what they refuse at a start, and what
// has been checked is not; the first of them would refuse before anything has changed.
func (f *foyer) tune(s *settings) error {
	level, err := zap.ParseAtomicLevel(s.LogLevel)
	if err != nil {
		return err
	}
	if err := f.engine.SetLimits(engineio.Limits{
		QueueBytes: int(s.QueueBytes), MaxSessions: s.MaxSessions, MaxSessionsPerAddress: s.MaxSessionsPerAddress,
		HandshakeRate: s.HandshakeRate, HandshakeBurst: s.HandshakeBurst, MessageRate: s.MessageRate, MessageBurst: s.MessageBurst,
		AddressMessageRate: s.AddressMessageRate, AddressMessageBurst: s.AddressMessageBurst,
		Origins: s.CORSOrigin, ListedOriginsOnly: s.CORSListedOnly,
	}); err != nil {
		return err
	}
	share := *s
	share.MaxSessions = f.s.MaxSessions // of the descriptors, other nodes keep the part that they have
	files := filesOf(&share)
	if err := f.api.SetLimits(grpcapi.Limits{MaxConnections: files.api, QueueBytes: int64(s.QueueBytes)}); err != nil {
		return err
	}
	f.edgeConns.bound(files.edge, s.MaxConnectionsPerAddress)
	f.level.SetLevel(level.Level())
	f.holds.Store(s)
	return nil
}

// flagged are settings with the flags that show and set them.
type flagged struct {
	own   *settings
	flags []*kong.Flag
}

// flagsOfSettings are the flags of a copy of s.
func flagsOfSettings(s *settings) flagged {
	var c serveCommand
	p := kong.Must(&c)
	c.settings = *s
	return flagged{&c.settings, settingsAmong(p.Model.Flags)}
}
