package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

// shared is the one command line that tests share; they run one after the other.
var shared = sync.OnceValue(newCommandLine)

// say runs a command line and returns what it prints and its exit code.
func say(t *testing.T, args ...string) (out, errors string, code int) {
	t.Helper()
	var read [2]func() string
	for i, f := range []**os.File{&os.Stdout, &os.Stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		before, text := *f, make(chan string)
		go func() {
			b, _ := io.ReadAll(r)
			text <- string(b)
		}()
		*f = w
		read[i] = func() string {
			*f = before
			_ = w.Close()
			return <-text
		}
	}
	shared().parser.Stdout, shared().parser.Stderr = os.Stdout, os.Stderr
	code = shared().start(args)
	return read[0](), read[1](), code
}

// foreign are words of libraries and of Go in what a person is told.
var foreign = regexp.MustCompile(`expected|unexpected|envar|invalid|unmarshal|strconv|netip|parse|EOL|\(string\)|time\.Duration|listen tcp|bind:|open /|x509|asn1|engineio|%!`)

// closing is the address of a listener that speaks no gRPC and closes each connection.
func closing(t *testing.T) string {
	t.Helper()
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = lis.Close(); <-ended })
	return lis.Addr().String()
}

// TestWhatAPersonIsTold: every mistake is told in one line on standard error that names the flag or the variable, says
// what is wrong, and, of the command line, where help is.
func TestWhatAPersonIsTold(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bad := file("bad", "bad\n")
	cert, key := selfSigned(t)
	otherCert, _ := selfSigned(t)
	words := file("tokens", "fine\ntwo words\n")
	used := taken.Addr().String()
	folder := t.TempDir()
	if err := os.MkdirAll(filepath.Join(folder, "foyer", "contexts.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	deaf := closing(t)
	free := []string{"--edge=127.0.0.1:0", "--api=127.0.0.1:0", "--admin="}
	for _, c := range []struct {
		args string
		env  string
		code int
		want string
	}{
		{"dance", "", 2, `there is no command "dance": there are serve, demo, config, bench, healthcheck, version, emit, join, leave, disconnect, rooms, sockets, socket, watch, tail, explain, nodes, handlers, drain, context, completion (see foyer --help)`},
		{"srve", "", 2, `there is no command "srve"; do you mean serve? (see foyer --help)`},
		{"--version", "", 2, `there is no flag --version; do you mean foyer version? (see foyer --help)`},
		{"bench dance", "", 2, `there is no command "dance": there are idle, connect, upgrade, broadcast, polling, echo, churn (see foyer bench --help)`},
		{"bench eco", "", 2, `there is no command "eco"; do you mean echo? (see foyer bench --help)`},
		{"version x", "", 2, `"x" is not understood: foyer version takes flags only (see foyer version --help)`},
		{"serve extra", "", 2, `"extra" is not understood: foyer serve takes flags only (see foyer serve --help)`},
		{"serve --nothing-like-it", "", 2, `there is no flag --nothing-like-it (see foyer serve --help)`},
		{"demo --max-sesions 5", "", 2, `there is no flag --max-sesions; do you mean --max-sessions? (see foyer demo --help)`},
		{"serve --cert x", "", 2, `there is no flag --cert; do you mean --edge-cert? (see foyer serve --help)`},
		{"serve -x", "", 2, `there is no flag -x (see foyer serve --help)`},
		{"serve --edge", "", 2, `--edge: the value is missing (see foyer serve --help)`},
		{"serve --edge --api :1", "", 2, `--edge: the value is missing (see foyer serve --help)`},
		{"serve --connect", "", 2, `--connect: the value is missing (see foyer serve --help)`},
		{"serve --max-payload", "", 2, `--max-payload: the value is missing (see foyer serve --help)`},
		{"serve --handshake-rate -1", "", 2, `--handshake-rate: the value is missing; one that begins with a dash is written with =, as in --handshake-rate=-1 (see foyer serve --help)`},
		{"serve --max-sessions many", "", 2, `--max-sessions: "many" is not a whole number (see foyer serve --help)`},
		{"serve --max-sessions 1.5", "", 2, `--max-sessions: "1.5" is not a whole number (see foyer serve --help)`},
		{"serve --max-sessions 0", "", 2, `--max-sessions: 0 is not above zero (see foyer serve --help)`},
		{"serve --ping-interval 10", "", 2, `--ping-interval: "10" is not a time, such as 10s or 5m (see foyer serve --help)`},
		{"serve --ping-interval 1us", "", 2, `--ping-interval: 1µs is too short: 1ms at least (see foyer serve --help)`},
		{"serve --pprof=maybe", "", 2, `--pprof: "maybe" is not true or false (see foyer serve --help)`},
		{"serve --log-level loud", "", 2, `--log-level: "loud" is none of debug, info, warn, error (see foyer serve --help)`},
		{"serve --max-payload huge", "", 2, `--max-payload: "huge" is not a size between 1 and 1GiB, such as 1000000, 64KiB or 1MB (see foyer serve --help)`},
		{"serve --trusted-proxy 10.0.0.0", "", 2, `--trusted-proxy: "10.0.0.0" is not a network, such as 10.0.0.0/8 or fd00::/8 (see foyer serve --help)`},
		{"serve --node-id long-one", "", 2, `--node-id: node id "long-one": want 4 characters of A-Z a-z 0-9 - _ (see foyer serve --help)`},
		{"serve --cors-origin nonsense", "", 2, `--cors-origin: origin "nonsense" is not of the form scheme://host[:port] (see foyer serve --help)`},
		{"serve --edge nonsense", "", 2, `--edge: "nonsense" is no address of the form HOST:PORT (see foyer serve --help)`},
		{"serve --api 0.0.0.0:1", "", 2, `--api: 0.0.0.0:1 is not a loopback address; that needs --api-token-file, so that not everybody may call (see foyer serve --help)`},
		{"serve --edge-cert " + cert, "", 2, `--edge-cert and --edge-key go together: give both or none (see foyer serve --help)`},
		{"serve --cluster maybe", "", 2, `--cluster: "maybe" is none of off, embedded, nats, redis, redis-sharded, redis-streams, postgres, mongo (see foyer serve --help)`},
		{"serve --cluster embedded --cluster-listen 0.0.0.0:1", "", 2, `--cluster-listen: 0.0.0.0:1 is not a loopback address; that needs --cluster-key-file, so that not everybody may be a node (see foyer serve --help)`},
		{"serve --cluster embedded --cluster-lease 5", "", 2, `--cluster-lease: "5" is not a time, such as 10s or 5m (see foyer serve --help)`},
		{"nodes -o xml", "", 2, `--output: "xml" is none of table, json (see foyer nodes --help)`},
		{"emit --all", "", 2, `EVENT is missing: foyer emit takes EVENT [ARGS] (see foyer emit --help)`},
		{"emit hi", "", 2, `--room or --all is missing: it says whom (see foyer emit --help)`},
		{"emit hi --all --room a", "", 2, `--room and --all exclude each other (see foyer emit --help)`},
		{"emit --all hi x", "", 2, `ARGS: 'x' is not a JSON array, such as '["hello", {"n": 1}]' (see foyer emit --help)`},
		{"emit --all hi {}", "", 2, `ARGS: '{}' is not a JSON array, such as '["hello", {"n": 1}]' (see foyer emit --help)`},
		{"emit --all hi [] more", "", 2, `"more" is not understood: foyer emit takes EVENT [ARGS] and flags only (see foyer emit --help)`},
		{"emit --all hi --timeout 1s", "", 2, `--timeout: it is for --ack, which is not given (see foyer emit --help)`},
		{"emit --all hi --ack --timeout 2m", "", 2, `--timeout: 2m0s is not between 0 and 1m0s (see foyer emit --help)`},
		{"join --all", "", 2, `ROOMS is missing: foyer join takes ROOMS... (see foyer join --help)`},
		{"rooms --limit -1", "", 2, `--limit: the value is missing; one that begins with a dash is written with =, as in --limit=-1 (see foyer rooms --help)`},
		{"rooms --limit=-1", "", 2, `--limit: -1 is not above zero (see foyer rooms --help)`},
		{"disconnect --all --mode kick", "", 2, `--mode: "kick" is none of namespace, connection, transport (see foyer disconnect --help)`},
		{"completion csh", "", 2, `SHELL: "csh" is none of bash, zsh, fish (see foyer completion --help)`},
		{"help dance", "", 2, `there is no command "dance": there are serve, demo, config, bench, healthcheck, version, emit, join, leave, disconnect, rooms, sockets, socket, watch, tail, explain, nodes, handlers, drain, context, completion (see foyer --help)`},
		{"socket", "", 2, `ID is missing: foyer socket takes ID (see foyer socket --help)`},
		{"context", "XDG_CONFIG_HOME=" + folder, 2, `contexts: ` + folder + `/foyer/contexts.yaml is a directory and not a file`},
		{"context set", "", 2, `--api: the value is missing (see foyer context set --help)`},
		{"context lst", "", 2, `there is no command "lst"; do you mean list? (see foyer context --help)`},
		{"context set x", "", 2, `--api: the value is missing (see foyer context set --help)`},
		{"context set x/y --api a:1", "", 2, `NAME: "x/y" is no name for a context: it has letters, digits, dots and dashes, 64 at most (see foyer context set --help)`},
		{"context set x --api a", "", 2, `--api: "a" is no address of the form HOST:PORT (see foyer context set --help)`},
		{"rooms --context none", "", 2, `--context: there is no context "none": there is none yet; foyer context set makes one`},
		{"rooms", "FOYER_CONTEXT=none", 2, `FOYER_CONTEXT: there is no context "none": there is none yet; foyer context set makes one`},
		{"bench idle -o xml", "", 2, `--output: "xml" is none of table, json (see foyer bench idle --help)`},
		{"bench broadcast --rate fast", "", 2, `--rate: "fast" is not a number (see foyer bench broadcast --help)`},
		{"bench idle --url localhost", "", 2, `--url: "localhost" is no URL of the form http://host:port (see foyer bench idle --help)`},

		{"serve", "FOYER_PING_INTERVAL=never", 2, `FOYER_PING_INTERVAL: "never" is not a time, such as 10s or 5m (see foyer serve --help)`},
		{"serve", "FOYER_LOG_LEVEL=loud", 2, `FOYER_LOG_LEVEL: "loud" is none of debug, info, warn, error (see foyer serve --help)`},
		{"serve", "FOYER_MAX_SESSIONS=0", 2, `FOYER_MAX_SESSIONS: 0 is not above zero (see foyer serve --help)`},
		{"serve --cluster nats", "FOYER_CLUSTER_URL=nats://u:secret@host", 2, `FOYER_CLUSTER_URL: server 1 of the list is not of the form nats://HOST:PORT or tls://HOST:PORT (see foyer serve --help)`},
		{"serve --cluster postgres", "FOYER_CLUSTER_URL=postgres://u:secret@host:x/d", 2, `FOYER_CLUSTER_URL: it is not of the form postgres://USER:PASSWORD@HOST:PORT/DATABASE (see foyer serve --help)`},
		{"serve --cluster redis", "FOYER_CLUSTER_URL=redis://u:secret@host:x", 2, `FOYER_CLUSTER_URL: server 1 of the list is not of the form HOST or HOST:PORT (see foyer serve --help)`},
		{"serve --log-level loud", "FOYER_LOG_LEVEL=info", 2, `--log-level: "loud" is none of debug, info, warn, error (see foyer serve --help)`},

		{"serve --edge " + used, "", 1, `--edge: the address ` + used + ` is already in use by another program; stop that one, or choose another port`},
		{"serve", "FOYER_EDGE=" + used, 1, `FOYER_EDGE: the address ` + used + ` is already in use by another program; stop that one, or choose another port`},
		{"serve --edge 192.0.2.1:0", "", 1, `--edge: 192.0.2.1:0 is not an address of this machine`},
		{"serve --api-token-file " + dir + "/none", "", 1, `--api-token-file: there is no file ` + dir + `/none`},
		{"serve --api-token-file " + dir, "", 1, `--api-token-file: ` + dir + ` is a directory and not a file`},
		{"serve", "FOYER_API_TOKEN_FILE=" + words, 1, `FOYER_API_TOKEN_FILE: ` + words + `: line 2 is no token: a token is ASCII without spaces, one a line`},
		{"serve --cluster embedded --cluster-listen " + used, "", 1, `--cluster-listen: the address ` + used + ` is already in use by another program; stop that one, or choose another port`},
		{"serve --cluster embedded --cluster-key-file " + bad, "", 1, `--cluster-key-file: ` + bad + `: a secret has 16 bytes at least, and this has 3`},
		{"serve --cluster embedded --cluster-tls-cert " + cert + " --cluster-tls-key " + key + " --cluster-tls-ca " + otherCert, "", 1, `--cluster-tls-cert: ` + cert + `: it does not come from a certificate of --cluster-tls-ca, so the other nodes would refuse it`},
		{"serve --cluster nats --cluster-url nats://127.0.0.1:1 --cluster-credentials " + dir + "/none", "", 1, `--cluster-credentials: there is no file ` + dir + `/none`},
		{"serve --edge-cert " + bad + " --edge-key " + key, "", 1, `--edge-cert: ` + bad + `: it is empty, or not in PEM form`},
		{"serve --api-cert " + otherCert + " --api-key " + key, "", 1, `--api-key: ` + key + `: it is not the key of the certificate`},
		{"nodes --api 127.0.0.1:1", "", 5, `--api: nobody answers at 127.0.0.1:1: does a node run there, and is this its --api?`},
		{"nodes --api " + deaf, "", 5, `--api: what answers at ` + deaf + ` closes the connection: is it the --api of a node, and does it speak TLS (--api-tls)?`},
		{"nodes", "FOYER_API=127.0.0.1:1", 5, `FOYER_API: nobody answers at 127.0.0.1:1: does a node run there, and is this its --api?`},
		{"nodes --api 50051", "", 2, `--api: "50051" is no address of the form HOST:PORT`},
		{"nodes --api http://127.0.0.1:1", "", 2, `--api: "http://127.0.0.1:1" is no address of the form HOST:PORT`},
		{"nodes", "FOYER_API=127.0.0.1:99999", 2, `FOYER_API: "127.0.0.1:99999" is no address of the form HOST:PORT`},
		{"nodes --patience 0", "", 2, `--patience: 0s is not above zero`},
		{"watch --for=-1s", "", 2, `--for: -1s is below zero`},
		{"watch --retry=-1s", "", 2, `--retry: -1s is below zero`},
		{"nodes --api-token-file " + bad + "x", "", 1, `--api-token-file: there is no file ` + bad + `x`},
		{"bench echo --api 127.0.0.1:1 --api-token-file " + bad + "x", "", 1, `--api-token-file: there is no file ` + bad + `x`},
		{"bench idle --server-pid 99999999", "", 1, `bench idle: there is no process 99999999, or no /proc that shows it`},
	} {
		t.Run(strings.Split(c.args, dir)[0]+" "+c.env, func(t *testing.T) {
			args := strings.Fields(c.args)
			if args[0] == "serve" && c.code == exitFailure {
				for _, flag := range free {
					name, _, _ := strings.Cut(flag, "=")
					if !strings.Contains(c.args, name+" ") && !strings.HasPrefix(c.env, "FOYER_"+strings.ToUpper(strings.TrimPrefix(name, "--"))+"=") {
						args = append(args, flag)
					}
				}
			}
			if name, value, ok := strings.Cut(c.env, "="); ok {
				t.Setenv(name, value)
			}
			out, told, code := say(t, args...)
			if d := cmp.Diff("foyer: "+c.want+"\n", told); d != "" || out != "" || code != c.code {
				t.Errorf("code %d, want %d; on standard output %q; (-want +got):\n%s", code, c.code, out, d)
			}
			if word := foreign.FindString(strings.ReplaceAll(told, dir, "")); word != "" {
				t.Errorf("%q has a library's word: %q", told, word)
			}
		})
	}
}

// TestACommandLineIsReadAnew: nothing of one that was read before is left, neither a value nor that it was given.
func TestACommandLineIsReadAnew(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	file := configOf(t, "max-sessions: 5\nnamespaces: [a]\n")
	for _, c := range []struct{ args, want string }{
		{"config -o json --config " + file + " --edge :1 --pprof --namespaces b", ""},
		{"context set x --api a:1", "foyer: context x is in use\n"},
		{"context set x", "foyer: --api: the value is missing (see foyer context set --help)\n"},
		{"emit --all hi --ack --room", "foyer: --room: the value is missing (see foyer emit --help)\n"},
		{"emit hi", "foyer: --room or --all is missing: it says whom (see foyer emit --help)\n"},
		{"config check", "foyer: there is no file to check: name it, as in foyer config check foyer.yaml (see foyer config check --help)\n"},
	} {
		if _, told, _ := say(t, strings.Fields(c.args)...); told != c.want {
			t.Errorf("foyer %s: %q, want %q", c.args, told, c.want)
		}
	}
	again, err := parse(t)
	if err != nil {
		t.Fatal(err)
	}
	fresh := newCommandLine()
	if _, err := fresh.parser.Parse([]string{"serve"}); err != nil {
		t.Fatal(err)
	}
	for i, v := range fresh.commands.Serve.fields() {
		if got := again.fields()[i].Interface(); !reflect.DeepEqual(v.Interface(), got) {
			t.Errorf("%s is %v, want %v", settingFlags(fresh.parser.Model)[i].Name, got, v)
		}
	}
}

// TestHelp: help goes to standard output, also where nothing was asked for, and is no error.
func TestHelp(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", "serve"},
		{"--help", "serve"},
		{"serve --help", "--api-token-file"},
		{"demo -h", "--api-token-file"},
		{"help", "serve"},
		{"help nodes", "--api-tls"},
		{"help bench idle", "--patience"},
		{"bench", "bench broadcast"},
		{"bench --help", "bench broadcast"},
		{"bench idle --help", "--patience"},
		{"nodes --help", "--api-tls"},
		{"version --help", "version"},
	} {
		out, told, code := say(t, strings.Fields(c.args)...)
		if code != 0 || told != "" || !strings.HasPrefix(out, "Usage: foyer") || !strings.Contains(out, c.want) {
			t.Errorf("foyer %s: code %d, %q, %q", c.args, code, told, out)
		}
	}
}

// TestStrays: what is almost a setting is told with the setting that it may mean; what Kubernetes says of a Service
// called foyer, or foyer-api, is neither told nor taken.
func TestStrays(t *testing.T) {
	model := shared().parser.Model
	kubernetes := []string{
		"FOYER_SERVICE_HOST=10.96.0.17", "FOYER_SERVICE_PORT=3000", "FOYER_SERVICE_PORT_EDGE=3000", "FOYER_PORT=tcp://10.96.0.17:3000",
		"FOYER_PORT_3000_TCP=tcp://10.96.0.17:3000", "FOYER_PORT_3000_TCP_PROTO=tcp", "FOYER_PORT_3000_TCP_PORT=3000",
		"FOYER_PORT_3000_TCP_ADDR=10.96.0.17", "FOYER_API_SERVICE_HOST=fd00::1", "FOYER_API_SERVICE_PORT=50051",
		"FOYER_API_PORT=tcp://10.96.0.18:50051", "FOYER_API_PORT_50051_TCP_ADDR=10.96.0.18",
	}
	if got := straysOf(model, kubernetes); len(got) > 0 {
		t.Errorf("of Kubernetes: %q", got)
	}
	names := bytes.NewBuffer(nil)
	_ = kong.Visit(model, func(node kong.Visitable, next kong.Next) error {
		if f, ok := node.(*kong.Flag); ok {
			for _, name := range f.Envs {
				names.WriteString(name + "\n")
				if servicePort.MatchString(name) || serviceHost.MatchString(name) {
					t.Errorf("Kubernetes may set %s, which is a setting", name)
				}
			}
		}
		return next(nil)
	})
	for _, name := range []string{"FOYER_EDGE\n", "FOYER_API_TOKEN_FILE\n", "FOYER_PATIENCE\n"} {
		if !strings.Contains(names.String(), name) {
			t.Errorf("%s is not known", name)
		}
	}
	got := straysOf(model, []string{
		"FOYER_PORT=3000", "FOYER_LOG_LEVL=debug", "FOYER_TOKEN_FILE=/x", "FOYER_MAX_SESSION=1", "FOYER_EDGE=:1", "PATH=/bin", "FOYERX=1",
		"FOYER_UNLIKE_ANYTHING_THAT_THERE_IS=1", "FOYER_SERVICE_HOST=a word", "FOYER_EDGE_CERTIFICATE=/c",
	})
	const end = " is not a setting of Foyer, and has no effect"
	want := strays{
		"FOYER_EDGE_CERTIFICATE" + end, "FOYER_LOG_LEVL" + end + "; do you mean FOYER_LOG_LEVEL?",
		"FOYER_MAX_SESSION" + end + "; do you mean FOYER_MAX_SESSIONS?", "FOYER_PORT" + end + "; do you mean FOYER_EDGE?",
		"FOYER_SERVICE_HOST" + end, "FOYER_TOKEN_FILE" + end + "; do you mean FOYER_API_TOKEN_FILE?",
		"FOYER_UNLIKE_ANYTHING_THAT_THERE_IS" + end,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
