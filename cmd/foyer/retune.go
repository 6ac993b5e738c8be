package main

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
	"go.uber.org/zap"

	"foyer/cmd/foyer/configfile"
	"foyer/transport/engineio"
	"foyer/transport/grpcapi"
)

// reloadTag marks the settings that a running node takes up when its configuration file changes: retune has them hold.
// With the value content it marks files of which the node takes up what is in them, whatever names them (see reloads).
const (
	reloadTag = "reload"
	ofContent = "content"
)

// reloadLog is the name of what says in the log what was taken up.
const reloadLog = "reload"

// launch is how a node was started.
type launch struct {
	strays strays
	text   []byte       // of the configuration file
	flags  []*kong.Flag // how the settings are declared, in the order of fields; their values are of no meaning
	// again is what the same command line and the same variables make of another text of the file. It is for one
	// goroutine.
	again func(text []byte) (*settings, error)
}

func (p *parser) launch(args []string, unknown strays) launch {
	var l *commandLine // of its own, since what p has filled in is in use; made when it is needed
	return launch{unknown, p.source.text, settingFlags(p.Model), func(text []byte) (*settings, error) {
		if l == nil {
			l = newCommandLine()
		}
		l.parser.source.content = append([]byte{}, text...) // an empty one, too, is not to be read from the file
		command, err := l.parser.Parse(args)
		if err != nil {
			lines, _ := l.parser.told(err)
			return nil, errors.New(strings.Join(lines, "; "))
		}
		has, ok := command.Selected().Target.Addr().Interface().(interface{ own() *settings })
		if !ok {
			return nil, errors.New("the command has no settings")
		}
		s := *has.own()
		return &s, nil
	}}
}

func (s *settings) own() *settings { return s }

// fields are the values of the settings, in the order of their declaration and so of their flags.
func (s *settings) fields() (values []reflect.Value) {
	var add func(reflect.Value)
	add = func(v reflect.Value) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if _, embedded := f.Tag.Lookup("embed"); embedded {
				add(v.Field(i))
			} else if f.Name != "Config" { // which names the file
				values = append(values, v.Field(i))
			}
		}
	}
	add(reflect.ValueOf(s).Elem())
	return values
}

// configuration is the file of --config among what is reloaded; it has no path when there is none.
func (f *foyer) configuration() *reloadable {
	return &reloadable{
		name: "configuration", files: []source{{"--" + fileSetting, f.s.Config}}, take: f.retune,
		known: true, sum: sumOf([][]byte{f.launch.text}),
	}
}

// retune takes up what a new text of the configuration file changes. It says what that is, and tells the log what needs
// a restart. An error has changed nothing.
func (f *foyer) retune(contents [][]byte) (string, error) {
	if len(contents[0]) > configfile.MaxBytes {
		return "", fileError(source{"--" + fileSetting, f.s.Config}, errLarge)
	}
	next, err := f.launch.again(contents[0])
	if err != nil {
		return "", err
	}
	holds := *f.holds.Load()
	to := next.fields()
	var changed, waiting []string
	for i, from := range holds.fields() {
		if reflect.DeepEqual(from.Interface(), to[i].Interface()) {
			continue
		}
		flag := f.launch.flags[i]
		change := fmt.Sprintf("%s %s → %s", flag.Name, brief(rowOf(flag, from).text()), brief(rowOf(flag, to[i]).text()))
		if !taken(flag) {
			waiting = append(waiting, change)
			continue
		}
		changed = append(changed, change)
		from.Set(to[i])
	}
	if len(changed) > 0 {
		if err := f.tune(&holds); err != nil {
			return "", err
		}
	}
	if len(waiting) > 0 {
		f.log.Named(reloadLog).Warn("changed settings hold after a restart only", zap.Strings("settings", waiting))
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

// tune has the settings hold that can change while the node runs. The parts refuse what they refuse at a start, and
// what has been checked is not; the first of them would refuse before anything has changed.
func (f *foyer) tune(s *settings) error {
	level, err := zap.ParseAtomicLevel(s.LogLevel)
	if err != nil {
		return err
	}
	if err := f.engine.SetLimits(engineio.Limits{
		QueueBytes: int(s.QueueBytes), MaxSessions: s.MaxSessions, MaxSessionsPerAddress: s.MaxSessionsPerAddress,
		HandshakeRate: s.HandshakeRate, HandshakeBurst: s.HandshakeBurst, MessageRate: s.MessageRate, MessageBurst: s.MessageBurst,
		AddressMessageRate: s.AddressMessageRate, AddressMessageBurst: s.AddressMessageBurst,
		SlowAfter: s.SlowAfter, TrustedProxies: s.TrustedProxy, Origins: s.CORSOrigin, ListedOriginsOnly: s.CORSListedOnly,
	}); err != nil {
		return err
	}
	if err := f.ui.tune(s); err != nil {
		return err
	}
	if f.http.api != nil {
		if err := f.http.api.SetOrigins(s.HTTPOrigin); err != nil {
			return err
		}
	}
	share := *s
	share.MaxSessions = f.s.MaxSessions // of the descriptors, other nodes keep the part that they have
	files := filesOf(&share)
	if err := f.api.SetLimits(grpcapi.Limits{MaxConnections: files.api, QueueBytes: int64(s.QueueBytes)}); err != nil {
		return err
	}
	f.node.SetHoldStream(s.SlowAfter)
	if f.passing != nil {
		f.passing.SetSlowAfter(s.SlowAfter)
	}
	if s.MemoryBudget != f.holds.Load().MemoryBudget { // else what the machine has now would count, and nobody would hear of it
		budget, _ := memoryBudget(s.MemoryBudget)
		f.node.Budget().SetLimit(budget)
	}
	f.edgeConns.bound(files.edge, s.MaxConnectionsPerAddress)
	f.edgeConns.excuse(s.TrustedProxy)
	f.http.conns.excuse(s.TrustedProxy)
	f.level.SetLevel(level.Level())
	f.holds.Store(s)
	return nil
}
