//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service/adapter/freeport"
)

const (
	siteName = "chat.example.com"
	apiName  = "api.example.com"
	// Whom the proxy is called from; the proxy itself calls from 127.0.0.1.
	visitor  = "127.0.0.2"
	invented = "X-Forwarded-For: 192.0.2.66\r\n"
)

// site is a proxy before a node, both of which run by the blocks of docs/proxy.md.
type site struct {
	term *terminal
	port string // of the proxy; "" is none
	node *job
	told *backend // of the node
}

// TestProxy runs real proxies with the configurations of docs/proxy.md, which are changed in their ports and
// certificates.
func TestProxy(t *testing.T) {
	d := openDocument(t, "docs/proxy.md")
	dir := t.TempDir()
	term := openTerminal(t, dir)
	term.run("mkdir bin && ln -s " + binary(t) + " bin/foyer")
	node := term.serve(d.next("sh", "--trusted-proxy"))
	told := attach(t, term.here("127.0.0.1:50051"), &foyerv1.Register{
		Namespaces: []string{"/"}, Group: "proxy", SocketView: foyerv1.SocketView_SOCKET_VIEW_FULL, DecideConnects: true,
	}, nil)
	nginx := d.next("nginx", "server_name "+siteName)
	caddy := d.next("caddy", siteName)
	nginx += d.next("nginx", "grpc_pass")
	caddy += d.next("caddy", "h2c://")

	t.Run("nginx", func(t *testing.T) {
		s := &site{term, freeport.New(t), node, told}
		quietEnough(t, term, nginx)
		s.nginx(t, nginx)
		s.test(t)
	})
	t.Run("Caddy", func(t *testing.T) {
		s := &site{term, freeport.New(t), node, told}
		if strings.Contains(caddy, "timeout") { // without a word of it there is none
			t.Errorf("the Caddyfile sets a timeout, and this test does not know which:\n%s", caddy)
		}
		s.caddy(t, caddy)
		s.test(t)
	})
	t.Run("Addresses", func(t *testing.T) { testForwarded(t, term, told) })
}

func (s *site) nginx(t *testing.T, config string) {
	dir := t.TempDir()
	writeCertificate(t, dir)
	config = s.term.here(config)
	config = regexp.MustCompile(`/etc/ssl/\S+\.(pem|key);`).ReplaceAllString(config, dir+"/cert.$1;")
	config = regexp.MustCompile(`listen (\[::\]:)?443\b`).ReplaceAllString(config, "listen ${1}"+s.port)
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		config = regexp.MustCompile(`listen \[::\].*`).ReplaceAllString(config, "")
	} else {
		l.Close()
	}
	whole := "daemon off;\nuser root root;\nworker_processes 1;\npid nginx.pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n"
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		whole += kind + "_temp_path " + kind + ";\n"
	}
	writeFile(t, filepath.Join(dir, "nginx.conf"), whole+config+"}\n")
	s.serve(t, "nginx -p "+dir+" -c nginx.conf -e stderr")
}

func (s *site) caddy(t *testing.T, config string) {
	dir := t.TempDir()
	// The rest of its settings: certificates of its own, no redirection from port 80 and nothing outside of this folder.
	global := "{\nadmin off\nlocal_certs\nskip_install_trust\nauto_https disable_redirects\nhttps_port " + s.port + "\nservers {\nprotocols h1 h2\n}\n}\n"
	writeFile(t, filepath.Join(dir, "Caddyfile"), global+s.term.here(config))
	s.serve(t, "export HOME="+dir+" XDG_DATA_HOME="+dir+" XDG_CONFIG_HOME="+dir+"\ncaddy run --adapter caddyfile --config "+dir+"/Caddyfile")
}

// serve starts a proxy and waits until it greets by TLS.
func (s *site) serve(t *testing.T, command string) {
	t.Helper()
	proxy := s.term.start(command)
	t.Cleanup(func() {
		proxy.stop()
		if t.Failed() {
			t.Logf("the proxy says:\n%s", proxy.tail(40))
		}
	})
	eventually(t, func() error {
		select {
		case <-proxy.done:
			t.Fatalf("the proxy ended:\n%s", proxy.tail(40))
		default:
		}
		conn, err := s.dial("")
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// dial greets the proxy by TLS.
func (s *site) dial(from string) (net.Conn, error) {
	conn, err := dialFrom(from, "127.0.0.1:"+s.port)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, &tls.Config{ServerName: siteName, InsecureSkipVerify: true}) // a certificate of the test
	_ = conn.SetDeadline(time.Now().Add(patience))
	if err := secure.Handshake(); err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return secure, nil
}

func (s *site) test(t *testing.T) {
	t.Run("Browser", s.testBrowser)
	t.Run("Polling", s.testPolling)
	t.Run("WebSocket", s.testWebSocket)
	t.Run("API", s.testAPI)
}

// A page of the proxy's own origin connects without --cors-origin, begins with polling and moves to a websocket.
func (s *site) testBrowser(t *testing.T) {
	chrome := openBrowser(t, "--host-resolver-rules=MAP "+siteName+" 127.0.0.1")
	chrome.open("page", "https://"+siteName+":"+s.port+"/socket.io/socket.io.js") // any address of that origin
	chrome.do(map[string]string{"op": "run", "page": "page", "expression": `new Promise((resolve, reject) => {
		const script = document.createElement("script");
		script.src = "/socket.io/socket.io.js";
		script.onload = resolve;
		script.onerror = reject;
		document.head.append(script);
	}).then(() => {
		globalThis.socket = io();
		socket.io.on("open", () => globalThis.first = socket.io.engine.transport.name);
		socket.emit("hello", "page", (answer) => globalThis.answer = answer);
	})`})
	chrome.until("page", `globalThis.first === "polling" && globalThis.answer === "page" && socket.io.engine.transport.name === "websocket"`)
}

// connected waits for the backend's news of a socket and looks at what it tells of its client.
func (s *site) connected(t *testing.T, id, address string) {
	t.Helper()
	h := s.told.await(t, "connected "+id, func(m *foyerv1.AttachResponse) bool {
		return m.GetConnected().GetSocket().GetId() == id
	}).GetConnected().GetSocket().GetHandshake()
	if h.GetAddress() != address {
		t.Errorf("the backend is told the address %q, want %q; X-Forwarded-For is %q", h.GetAddress(), address, h.GetHeaders()["x-forwarded-for"])
	}
	if s.port != "" && (h.GetHeaders()["x-forwarded-proto"] != "https" || h.GetHeaders()["host"] != siteName+":"+s.port) {
		t.Errorf("the backend is told the headers %v", h.GetHeaders())
	}
}

func (s *site) testPolling(t *testing.T) {
	p := &poller{t: t, url: "https://" + siteName + ":" + s.port, client: &http.Client{Timeout: 2 * patience, Transport: &http.Transport{
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return s.dial(visitor) },
	}}}
	id := p.connect("X-Forwarded-For", "192.0.2.66")
	s.connected(t, id, visitor)
	big := strings.Repeat("x", 990_000) // --max-payload is 1,000,000
	p.post(`42["big","` + big + `"]`)
	if got := len(s.told.event(t, "big").GetPayload().GetJson()); got != len(big)+4 {
		t.Errorf("the backend gets %d bytes", got)
	}
	p.post("1")
	s.told.disconnected(t, id)
}

func (s *site) testWebSocket(t *testing.T) {
	conn, err := s.dial(visitor)
	if err != nil {
		t.Fatal(err)
	}
	ws, err := rawGreet(conn, siteName+":"+s.port, "Origin: https://"+siteName+":"+s.port+"\r\n"+invented)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.join(""); err != nil {
		t.Fatal(err)
	}
	s.connected(t, ws.id, visitor)
	// A page of elsewhere is refused here as well; what fails as an upgrade is 400 in the protocol.
	if conn, err = s.dial(visitor); err != nil {
		t.Fatal(err)
	}
	if _, err := rawGreet(conn, siteName+":"+s.port, "Origin: https://elsewhere.example\r\n"); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("a page of elsewhere: %v, want 400", err)
	}
}

// Calls and streams of a backend go through the proxy too.
func (s *site) testAPI(t *testing.T) {
	conn, err := grpc.NewClient("passthrough:///127.0.0.1:"+s.port, grpc.WithAuthority(apiName),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{ServerName: apiName, InsecureSkipVerify: true}))) // a certificate of the test
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b := newBackend(conn)
	ctx, cancel := context.WithCancel(t.Context())
	attached, ended := make(chan error, 1), make(chan error, 1)
	name := "by " + s.port
	b.on[name] = func(e *event) { e.reply("from behind the proxy") }
	go func() {
		ended <- b.run(ctx, &foyerv1.Register{Namespaces: []string{"/"}, Group: name, Events: []string{name}}, func() { attached <- nil })
	}()
	leave := sync.OnceFunc(func() { cancel(); <-ended })
	defer leave()
	select {
	case <-attached:
	case err := <-ended:
		close(ended)
		t.Fatal(err)
	case <-time.After(2 * patience):
		t.Fatal("the stream is not registered")
	}
	c, id := startPuppets(t).connect(t, s.term.url("http://127.0.0.1:3000"), "/", opts{})
	if got := c.ask(name); len(got) != 1 || got[0] != "from behind the proxy" {
		t.Errorf("got %v", got)
	}
	b.mustEmit(t, &foyerv1.Target{Rooms: []string{id}}, 1, "hello", 1)
	c.event("hello")
	watch, err := b.presence.Watch(ctx, &foyerv1.WatchRequest{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for {
		m, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.GetSynced() != nil {
			break
		}
	}
	c.op("disconnect")
	for { // a change comes at once, not when a buffer is full
		m, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if events := m.GetEvents().GetEvents(); len(events) > 0 && events[0].GetSocket().GetId() == id {
			break
		}
	}
	leave()
	if _, _, err := s.node.log.await(0, patience, func(line string) bool {
		return strings.Contains(line, `"handler detached"`) && strings.Contains(line, name)
	}); err != nil {
		t.Errorf("the node does not hear that the backend behind the proxy has gone: %v", err)
	}
}

// quietEnough wants each timeout of nginx to be above that of a client which says nothing, and those of streams to be
// days.
func quietEnough(t *testing.T, term *terminal, config string) {
	t.Helper()
	r, err := http.Get(term.url("http://127.0.0.1:3000/socket.io/?EIO=4&transport=polling"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	var open struct{ PingInterval, PingTimeout int }
	if err != nil || len(body) == 0 || json.Unmarshal(body[1:], &open) != nil || open.PingInterval == 0 {
		t.Fatalf("%v: %s", err, body)
	}
	silence := time.Duration(open.PingInterval+open.PingTimeout) * time.Millisecond
	for name, least := range map[string]time.Duration{
		"proxy_read_timeout": silence, "grpc_read_timeout": 24 * time.Hour, "client_body_timeout": 24 * time.Hour,
	} {
		m := regexp.MustCompile(name + ` (\d+)(s|d);`).FindStringSubmatch(config)
		if m == nil {
			t.Errorf("%s is not set", name)
			continue
		}
		got, _ := time.ParseDuration(m[1] + strings.ReplaceAll(m[2], "d", "h"))
		if m[2] == "d" {
			got *= 24
		}
		if got < least {
			t.Errorf("%s is %v, want at least %v", name, got, least)
		}
	}
}

// testForwarded: only a proxy that is named is believed, and of what it says the last address that is none of the
// proxies'.
func testForwarded(t *testing.T, term *terminal, told *backend) {
	s := &site{term: term, told: told}
	for name, c := range map[string]struct{ from, forwarded, want string }{
		"a stranger's invention":       {visitor, "192.0.2.66", visitor},
		"none":                         {"127.0.0.1", "", "127.0.0.1"},
		"one":                          {"127.0.0.1", "198.51.100.7", "198.51.100.7"},
		"a client's invention first":   {"127.0.0.1", "192.0.2.66, 198.51.100.7", "198.51.100.7"},
		"a second proxy":               {"127.0.0.1", "192.0.2.66, 198.51.100.7, ::1", "198.51.100.7"},
		"IPv6":                         {"127.0.0.1", "2001:db8::7", "2001:db8::7"},
		"IPv6 with a port":             {"127.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"},
		"IPv4 in the form of IPv6":     {"127.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"},
		"something that is no address": {"127.0.0.1", "198.51.100.7, unknown", "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &poller{t: t, url: term.url("http://127.0.0.1:3000"), client: &http.Client{Timeout: 2 * patience, Transport: &http.Transport{
				DialContext: func(_ context.Context, _, to string) (net.Conn, error) { return dialFrom(c.from, to) },
			}}}
			s.connected(t, p.connect("X-Forwarded-For", c.forwarded), c.want)
			p.post("1")
		})
	}
}

// poller is a client that polls and has no library.
type poller struct {
	t      *testing.T
	client *http.Client
	url    string
	sid    string
	header [2]string
}

// connect comes into "/", with a header on each request, and returns the id of its socket.
func (p *poller) connect(header, value string) (id string) {
	p.t.Helper()
	p.header = [2]string{header, value}
	var open, connected struct{ SID string }
	p.read(&open, "0")
	p.sid = open.SID
	p.post("40")
	p.read(&connected, "40")
	return connected.SID
}

func (p *poller) read(into any, prefix string) {
	p.t.Helper()
	text := p.request(http.MethodGet, "")
	if rest, ok := strings.CutPrefix(text, prefix); !ok || json.Unmarshal([]byte(rest), into) != nil {
		p.t.Fatalf("got %q, want a packet %s", text, prefix)
	}
}

func (p *poller) post(text string) {
	p.t.Helper()
	if got := p.request(http.MethodPost, text); got != "ok" {
		p.t.Fatalf("got %.200q to a POST", got)
	}
}

func (p *poller) request(method, body string) string {
	p.t.Helper()
	url := p.url + "/socket.io/?EIO=4&transport=polling"
	if p.sid != "" {
		url += "&sid=" + p.sid
	}
	r, err := http.NewRequestWithContext(p.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if p.header[1] != "" {
		r.Header.Set(p.header[0], p.header[1])
	}
	answer, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Sprintf("%s: %s", answer.Status, text)
	}
	return string(text)
}

// writeCertificate leaves a certificate that nobody vouches for, and its key.
func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: siteName}, DNSNames: []string{siteName, apiName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	writeFile(t, filepath.Join(dir, "cert.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
}
