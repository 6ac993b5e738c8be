package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "foyer/"

// anything of a row means that it may import whatever it likes.
const anything = "..."

type floor struct {
	pkg     string
	ours    []string
	foreign []string
}

// floors says which packages of ours each package may import, and which foreign modules beyond those that all may
// (everywhere). A row for a package that does not exist yet does no harm; a package without a row fails the test: a new
// room of the house gets its floor first. The first row that matches counts; "/..." matches all below.
var floors = []floor{
	{"gen/...", []string{"gen/..."}, []string{"google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto"}},
	{"service/payload", nil, nil},
	{"service/payload/msgpack", []string{"service/payload"}, []string{"github.com/tinylib/msgp", "github.com/philhofer/fwd"}},
	{"service", []string{"service/payload"}, nil},
	{"service/adapter", []string{"service", "service/payload", "gen/foyer/cluster/..."}, []string{"google.golang.org/protobuf"}},
	{"service/adapter/adaptertest", []string{"service", "service/adapter"}, nil},
	{"service/adapter/official", []string{"service", "service/payload", "service/payload/msgpack"}, []string{"github.com/tinylib/msgp", "github.com/philhofer/fwd"}},
	{"service/adapter/bridge", []string{"service", "service/payload", "service/adapter", "service/adapter/official"}, nil},
	{"service/adapter/bridge/beats", []string{"service/adapter/official"}, nil},
	{"service/adapter/bridge/dial", nil, nil},
	{"service/adapter/bridge/queue", nil, nil},
	// A medium has its driver, and so has a bus.
	{"service/adapter/bridge/...", []string{"service/adapter/official", "service/adapter/bridge/beats", "service/adapter/bridge/dial", "service/adapter/bridge/queue", "service/adapter/mongodb", "service/adapter/pgdial"}, []string{anything}},
	{"service/adapter/freeport", nil, nil},
	{"service/adapter/lives", []string{"service", "service/adapter"}, nil},
	{"service/adapter/pgdial/...", []string{"service/adapter/freeport"}, []string{"github.com/jackc/pgx/v5"}},
	{"service/adapter/mongodb/...", nil, []string{anything}}, // the driver that its bus and its medium share
	{"service/adapter/mongobus", []string{"service", "service/adapter", "service/adapter/lives", "service/adapter/mongodb"}, []string{"go.mongodb.org/mongo-driver/v2"}},
	{"service/adapter/...", []string{"service", "service/adapter", "service/adapter/freeport", "service/adapter/lives", "service/adapter/pgdial"}, []string{anything}},
	{"transport/engineio", nil, []string{websocket, "golang.org/x/time/rate"}},
	{"transport/socketio", []string{"service", "service/payload", "service/payload/msgpack", "transport/engineio"}, []string{"github.com/tinylib/msgp", "github.com/philhofer/fwd"}},
	{"transport/grpcapi", []string{"service", "service/payload", "gen/foyer/v1"}, []string{"google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto"}},
	// It speaks gRPC with the API, by a connection that it is given; vanguard knows the protocols of others.
	{"transport/httpapi", []string{"gen/foyer/v1"}, []string{"connectrpc.com/connect", "connectrpc.com/vanguard", "google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto"}},
	{"transport/admin", []string{"service"}, nil},
	// A histogram that is native and classic at once is written as the message that Prometheus reads.
	{"transport/metrics", []string{"service"}, []string{"github.com/prometheus/client_model"}},
	{"transport/passing", []string{"service"}, nil},
	{"cmd/foyer/chat", []string{"gen/foyer/v1"}, []string{"google.golang.org/grpc", "google.golang.org/protobuf"}},
	{"cmd/foyer/adminui", []string{"gen/foyer/v1"}, []string{"google.golang.org/grpc", "google.golang.org/protobuf", "golang.org/x/crypto/bcrypt"}},
	{"cmd/foyer/bench", []string{"gen/foyer/v1"}, []string{"google.golang.org/grpc", "google.golang.org/protobuf", "github.com/HdrHistogram/hdrhistogram-go"}},
	{"cmd/foyer/near", nil, nil},
	{"cmd/foyer/configfile", []string{"cmd/foyer/near"}, []string{"go.yaml.in/yaml/v3"}},
	// It lines up tables by the width of letters, and asks whether it prints to a terminal, and how wide that is.
	{"cmd/foyer/client", []string{"gen/foyer/v1", "cmd/foyer/near"}, []string{"google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto", "github.com/alecthomas/kong", "go.yaml.in/yaml/v3", "github.com/mattn/go-runewidth", "golang.org/x/term"}},
	{"cmd/foyer/web", nil, nil},
	{"cmd/foyer", []string{"service/...", "transport/...", "gen/...", "cmd/foyer/..."}, []string{anything}},
	{"deploy/release", nil, []string{"github.com/CycloneDX/cyclonedx-go"}}, // what it makes is a bill of materials of that form
	{"examples/go", []string{"gen/foyer/v1"}, []string{"google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto"}},
	{"e2e/compare", []string{"gen/foyer/v1"}, []string{anything}}, // it measures a join as a backend and as a client
	{"e2e", nil, []string{anything}},
}

const websocket = "github.com/gorilla/websocket"

var everywhere = []string{"go.uber.org/zap", "github.com/prometheus/client_golang", "go.opentelemetry.io/otel"}

// never is what a package must not import although its row, or the standard library, would allow it.
var never = map[string][]string{
	"service":         {"net/http"},
	"service/payload": {"net/http", "go.uber.org/zap"},
	// Pure functions: no IO, no goroutine, nothing random.
	"service/adapter/official": {"net", "net/http", "os", "io", "context", "sync", "math/rand", "math/rand/v2", "crypto/rand", "go.uber.org/zap"},
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func TestFloors(t *testing.T) {
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		row := slices.IndexFunc(floors, func(f floor) bool { return matches(name, f.pkg) })
		if row < 0 {
			t.Errorf("%s has no floor", name)
			continue
		}
		floor := floors[row]
		for _, path := range p.Imports {
			switch {
			case slices.Contains(never[name], path):
				t.Errorf("%s must not import %s", name, path)
			case strings.HasPrefix(path, module):
				path = strings.TrimPrefix(path, module)
				if !slices.ContainsFunc(floor.ours, func(allowed string) bool { return matches(path, allowed) }) {
					t.Errorf("%s must not import %s: it may import %q of ours", name, path, floor.ours)
				}
			case !strings.Contains(strings.SplitN(path, "/", 2)[0], "."): // the standard library
			case below(path, websocket) && name != "transport/engineio" && name != "e2e/compare":
				t.Errorf("%s must not import %s: of the product it lives in transport/engineio alone", name, path)
			case floor.foreign != nil && floor.foreign[0] == anything:
			case !slices.ContainsFunc(slices.Concat(everywhere, floor.foreign), func(allowed string) bool { return below(path, allowed) }):
				t.Errorf("%s must not import %s", name, path)
			}
		}
	}
}

// The ground plan: what may stand at the top of the repository. Whatever Git does not know of is no part of it.
func TestGroundPlan(t *testing.T) {
	plan := []string{
		".ci", ".gitignore", ".golangci.yml", "LICENSE", "Makefile", "README.md", "buf.gen.yaml", "buf.yaml",
		"cmd", "deploy", "docs", "e2e", "examples", "gen", "go.mod", "go.sum", "proto", "service", "transport",
	}
	out, err := exec.CommandContext(t.Context(), "git", "-C", "..", "ls-files", "-co", "--exclude-standard").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", explain(err))
	}
	seen := map[string]bool{}
	for path := range strings.Lines(string(out)) {
		top, _, _ := strings.Cut(strings.TrimSpace(path), "/")
		if !seen[top] && !slices.Contains(plan, top) {
			t.Errorf("%s is not on the ground plan %q", top, plan)
		}
		seen[top] = true
	}
}

// listPackages has our packages with what they themselves import; tests may import what they like.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", explain(err))
	}
	var list []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < 5 {
		t.Fatalf("got %d packages: the list is wrong", len(list))
	}
	return list
}

func matches(path, pattern string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return below(path, prefix)
	}
	return path == pattern
}

func below(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

// explain adds what a command said to its error.
func explain(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return errors.Join(err, errors.New(string(exit.Stderr)))
	}
	return err
}
