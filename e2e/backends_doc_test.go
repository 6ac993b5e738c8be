//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBackendsDoc pastes the blocks of docs/backends.md: the handler decides by the token, and comes back after its
// node did.
func TestBackendsDoc(t *testing.T) {
	d := openDocument(t, "docs/backends.md")
	term := openTerminal(t, t.TempDir())
	term.run("mkdir bin && ln -s " + binary(t) + " bin/foyer")
	serve := d.next("sh", "--connect handler")
	node := term.serve(serve)
	door := start(t, buildGo(t, map[string]string{"door": term.here(d.next("go", "DecideConnects"))})["door"], nil)
	t.Cleanup(door.kill)
	attached := func(from int) int {
		t.Helper()
		_, at, err := door.log.await(from, 2*patience, func(line string) bool { return strings.HasSuffix(line, " attached") })
		if err != nil {
			t.Fatalf("the handler does not attach: %v\n%s", err, door.tail(20))
		}
		return at + 1
	}
	read := attached(0)
	p := startPuppets(t)
	come := func(token string) *client {
		return p.open(t, term.url("http://127.0.0.1:3000"), "/", quick.with(opts{"auth": map[string]any{"token": token}}))
	}
	ann := come("secret")
	ann.connected()
	list := `grpcurl -plaintext -d '{"target":{"rooms":["user:ann"]}}' 127.0.0.1:50051 foyer.v1.SocketService/ListSockets`
	if out := term.run(list); !strings.Contains(out, `"userId": "ann"`) {
		t.Errorf("got %s", out)
	}
	if got := come("guess").expect("connect_error"); got.Message != "not authorized" || got.Active {
		t.Errorf("got %+v", got)
	}

	node.stop()
	if _, _, err := door.log.await(read, 2*patience, func(line string) bool { return strings.Contains(line, "detached: ") }); err != nil {
		t.Fatalf("the handler says nothing of its loss: %v\n%s", err, door.tail(20))
	}
	term.serve(serve)
	attached(read)
	ann.connected() // by itself
	if got := ann.ask("question"); len(got) != 1 || got[0] != "fine" {
		t.Errorf("got %v", got)
	}
}

// TestKeepaliveFloor: a connection that pings all the time is told to calm down, and one that pings seldom is not.
func TestKeepaliveFloor(t *testing.T) {
	f := startFoyer(t)
	p := start(t, "node", nil, "-e", `
		const session = require("http2").connect("http://" + process.argv[1]);
		session.on("error", () => {});
		session.on("goaway", (code, last, why) => { console.log(code, String(why)); process.exit(); });
		const ping = () => session.ping(() => ping());
		session.on("connect", () => ping());
	`, f.api)
	if code := p.exit(t, 2*patience); code != 0 || strings.Join(p.out.all(), "\n") != "11 too_many_pings" { // ENHANCE_YOUR_CALM
		t.Errorf("code %d, %q, %s", code, p.out.all(), p.tail(10))
	}
}

// TestLargeMessages: with the settings of docs/backends.md a backend takes an event that is larger than gRPC lets it
// take by default, and without them it loses its stream.
func TestLargeMessages(t *testing.T) {
	d := openDocument(t, "docs/backends.md")
	d.taken = len(d.blocks) // by another test
	f := startFoyer(t, "--max-payload=6MB", "--namespaces=/big")
	c, _ := startPuppets(t).connect(t, f.url(), "/big", opts{"transports": []string{"websocket"}})

	settings := map[string]string{}
	for _, row := range d.table("| language | setting |") { // the first is for keepalive
		settings[row[0]] = strings.Trim(row[1], "`")
	}
	d.text = d.text[strings.Index(d.text, "## Large messages"):]
	for _, row := range d.table("| language | setting |") {
		settings[row[0]+", large"] = strings.Trim(row[1], "`")
	}
	proto, python := absolute(t, "../proto"), stubs(t)
	goProgram := func(setting string) string {
		return program(t, fmt.Sprintf(`
conn, err := grpc.NewClient(%q, grpc.WithTransportCredentials(insecure.NewCredentials()), %s, %s)
if err != nil {
	log.Fatal(err)
}
stream, err := foyerv1.NewHandlerServiceClient(conn).Attach(ctx)
if err != nil {
	log.Fatal(err)
}
_ = stream.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{
	Namespaces: []string{"/big"}, Group: "go" + os.Args[1], Observer: true,
}}})
for {
	m, err := stream.Recv()
	if err != nil {
		fmt.Println("ended", status.Code(err))
		return
	}
	if m.GetRegistered() != nil {
		fmt.Println("registered")
	}
	if e := m.GetEvent(); e != nil {
		fmt.Println("got", len(e.GetPayload().GetJson()))
	}
}
`, f.api, settings["Go"], setting))
	}
	built := buildGo(t, map[string]string{"with": goProgram(settings["Go, large"]), "without": goProgram("grpc.EmptyDialOption{}")})
	node := func(options string) []string {
		return []string{"node", "-e", fmt.Sprintf(`
			const grpc = require(%q), loader = require(%q);
			const files = loader.loadSync("foyer/v1/handler.proto", { includeDirs: [%q], keepCase: true, oneofs: true });
			const { HandlerService } = grpc.loadPackageDefinition(files).foyer.v1;
			const stream = new HandlerService(%q, grpc.credentials.createInsecure(), { ...%s, ...%s }).attach();
			stream.write({ register: { namespaces: ["/big"], group: "node" + process.pid, observer: true } });
			stream.on("data", (m) => {
				if (m.registered) console.log("registered");
				if (m.event) console.log("got", m.event.payload.json.length);
			});
			stream.on("error", (err) => { console.log("ended", err.code); process.exit(); });
		`, installed(t, "node/node_modules/@grpc/grpc-js"), installed(t, "node/node_modules/@grpc/proto-loader"), proto, f.api, settings["Node"], options)}
	}
	script := filepath.Join(t.TempDir(), "big.py")
	options := func(name string) string { return strings.TrimPrefix(settings[name], "options=") }
	writeFile(t, script, fmt.Sprintf(`
import queue
import grpc
from foyer.v1 import handler_pb2, handler_pb2_grpc
requests = queue.Queue()
requests.put(handler_pb2.AttachRequest(register=handler_pb2.Register(namespaces=["/big"], group="python", observer=True)))
channel = grpc.insecure_channel(%q, options=%s + %s)
for m in handler_pb2_grpc.HandlerServiceStub(channel).Attach(iter(requests.get, None)):
    if m.HasField("registered"):
        print("registered", flush=True)
    if m.HasField("event"):
        print("got", len(m.event.payload.json), flush=True)
`, f.api, options("Python"), options("Python, large")))

	const size = 5_000_000
	for _, c := range []struct {
		name, want string
		command    []string
	}{
		{"Go", fmt.Sprint("got ", size+4), []string{built["with"], "with"}},
		{"Node", fmt.Sprint("got ", size+4), node(settings["Node, large"])},
		{"Python", fmt.Sprint("got ", size+4), []string{installed(t, "python/.venv/bin/python"), script}},
		{"Go, without", "ended ResourceExhausted", []string{built["without"], "without"}},
		{"Node, without", "ended 8", node("{}")},
	} {
		cmd := exec.Command(c.command[0], c.command[1:]...)
		cmd.Env = append(os.Environ(), "PYTHONPATH="+python)
		p := &job{startCommand(t, cmd)}
		t.Cleanup(p.kill)
		p.prints(t, "registered")
		defer func() {
			if _, _, err := p.out.await(0, 4*patience, func(line string) bool { return line == c.want }); err != nil {
				t.Errorf("%s: %v: it prints %q, want %q\n%s", c.name, err, p.out.all(), c.want, p.tail(10))
			}
		}()
	}
	c.emit("big", strings.Repeat("x", size))
}
