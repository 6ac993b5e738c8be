package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	foyerv1 "foyer/gen/foyer/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeAPI is a gRPC server that counts what comes.
type fakeAPI struct {
	foyerv1.UnimplementedEmitServiceServer
	foyerv1.UnimplementedPresenceServiceServer

	calls   atomic.Int32
	event   atomic.Value // of the last emit
	sent    atomic.Int32 // answers of a watch
	waited  atomic.Int64 // the time that an EmitWithAck was given
	traced  atomic.Value // its traceparent
	from    atomic.Value // what an emit tells of its client
	endless bool
}

func (f *fakeAPI) Emit(ctx context.Context, r *foyerv1.EmitRequest) (*foyerv1.EmitResponse, error) {
	f.from.Store(metadata.ValueFromIncomingContext(ctx, "from"))
	f.calls.Add(1)
	f.event.Store(r.GetPayload().GetEvent())
	return &foyerv1.EmitResponse{}, nil
}

func (f *fakeAPI) EmitWithAck(ctx context.Context, _ *foyerv1.EmitWithAckRequest) (*foyerv1.EmitWithAckResponse, error) {
	deadline, _ := ctx.Deadline()
	f.waited.Store(int64(time.Until(deadline)))
	md, _ := metadata.FromIncomingContext(ctx)
	f.traced.Store(strings.Join(md.Get("traceparent"), ",") + "|" + strings.Join(md.Get("cookie"), ","))
	<-ctx.Done()
	return nil, status.FromContextError(ctx.Err()).Err()
}

func (f *fakeAPI) Watch(r *foyerv1.WatchRequest, stream foyerv1.PresenceService_WatchServer) error {
	f.calls.Add(1)
	for i := 0; f.endless || i < 2; i++ {
		if r.GetNamespace() == "none" {
			break
		}
		token := strings.Repeat("x", 10<<10)
		if err := stream.Send(&foyerv1.WatchResponse{ResumeToken: token, Message: &foyerv1.WatchResponse_Bookmark{Bookmark: &foyerv1.Bookmark{}}}); err != nil {
			return err
		}
		f.sent.Add(1)
	}
	return status.Error(codes.ResourceExhausted, "too slow 50%")
}

// start serves calls over HTTP before a fake API. The server is closed with the test.
func start(t testing.TB, api *fakeAPI, change func(*Config)) *Server {
	t.Helper()
	lis := bufconn.Listen(64 << 10)
	g := grpc.NewServer(grpc.StaticStreamWindowSize(64 << 10))
	foyerv1.RegisterEmitServiceServer(g, api)
	foyerv1.RegisterPresenceServiceServer(g, api)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(lis)
	}()
	cfg := Config{
		Dial:  lis.DialContext,
		Admit: func(context.Context, string, []string, string) error { return nil },
		Open:  true, Origins: []string{"https://Tool.example:443/"}, MaxMessage: 1000, RequestBytes: 4000, WriteTimeout: time.Minute,
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		g.Stop()
		<-done
	})
	return s
}

const (
	emit  = "/foyer.v1.EmitService/Emit"
	watch = "/foyer.v1.PresenceService/Watch"
	hi    = `{"target":{"all":true},"payload":{"event":"hi"}}`
)

// ask makes a request as curl -d does, and reads its answer.
func ask(s *Server, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8080"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(headers); i += 2 {
		switch name, value := headers[i], headers[i+1]; name {
		case "Host":
			r.Host = value
		case "Method":
			r.Method = value
		default:
			r.Header.Set(name, value)
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// reasonOf is the reason of an error in JSON, as a reader finds it.
func reasonOf(t *testing.T, body []byte) (code, reason string) {
	t.Helper()
	var e struct {
		Code, Message string
		Details       []struct {
			Debug struct{ Reason, Domain string }
		}
	}
	if err := json.Unmarshal(body, &e); err != nil || e.Message == "" {
		t.Fatalf("%v: %q is no error in JSON", err, body)
	}
	if len(e.Details) == 0 || e.Details[0].Debug.Domain != "foyer" {
		t.Fatalf("%s has no reason", body)
	}
	return e.Code, e.Details[0].Debug.Reason
}

// TestPagesOfOthersAreRefused: what a browser can have a page send, and nothing of it reaches the API.
func TestPagesOfOthersAreRefused(t *testing.T) {
	api := &fakeAPI{}
	s := start(t, api, nil)
	for name, tc := range map[string]struct {
		headers []string
		ok      bool
	}{
		"a program":                           {nil, true},
		"a listed page":                       {[]string{"Origin", "https://tool.example", "Sec-Fetch-Site", "cross-site"}, true},
		"a form of another site":              {[]string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, false},
		"the same without Sec-Fetch-Site":     {[]string{"Origin", "https://evil.example"}, false},
		"a page that hides its origin":        {[]string{"Origin", "null"}, false},
		"another scheme":                      {[]string{"Origin", "http://tool.example"}, false},
		"another port":                        {[]string{"Origin", "https://tool.example:8443"}, false},
		"a name that only begins so":          {[]string{"Origin", "https://tool.example.evil.example"}, false},
		"an empty origin":                     {[]string{"Origin", ""}, false},
		"no origin, but another site":         {[]string{"Sec-Fetch-Site", "cross-site"}, false},
		"another port of this machine":        {[]string{"Sec-Fetch-Site", "same-site"}, false},
		"a rebound name":                      {[]string{"Host", "evil.example:8080", "Origin", "http://evil.example:8080", "Sec-Fetch-Site", "same-origin"}, false},
		"a rebound name without an origin":    {[]string{"Host", "evil.example:8080", "Sec-Fetch-Site", "same-origin"}, false},
		"a name that only looks like this":    {[]string{"Host", "127.0.0.1.evil.example"}, false},
		"no host":                             {[]string{"Host", ""}, false},
		"this machine by its name":            {[]string{"Host", "LOCALHOST:8080"}, true},
		"this machine by IPv6":                {[]string{"Host", "[::1]:8080"}, true},
		"a question before a call":            {[]string{"Method", http.MethodOptions, "Origin", "https://evil.example", "Access-Control-Request-Method", "POST"}, false},
		"the list of calls, for another page": {[]string{"Method", http.MethodGet, "Sec-Fetch-Site", "cross-site"}, false},
	} {
		calls, refused := api.calls.Load(), s.Counters()["http_origin_refused"]
		w := ask(s, emit, hi, tc.headers...)
		called := api.calls.Load() - calls
		if ok := w.Code == http.StatusOK; ok != tc.ok || (called == 1) != tc.ok {
			t.Errorf("%s: %d, and the API was called %d times: %s", name, w.Code, called, w.Body)
		}
		if !tc.ok && (w.Code != http.StatusForbidden || s.Counters()["http_origin_refused"] != refused+1 || w.Header().Get("Access-Control-Allow-Origin") != "") {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
	}
	w := ask(s, emit, "", "Method", http.MethodOptions, "Origin", "https://tool.example", "Access-Control-Request-Method", "POST")
	if w.Code != http.StatusNoContent || w.Header().Get("Access-Control-Allow-Origin") != "https://tool.example" ||
		w.Header().Get("Access-Control-Allow-Credentials") != "" || !strings.Contains(w.Header().Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("a listed page asks: %d %v", w.Code, w.Header())
	}
	withTokens := start(t, api, func(c *Config) { c.Open = false })
	if w := ask(withTokens, emit, hi, "Host", "foyer.example"); w.Code != http.StatusOK {
		t.Errorf("with tokens, by another name: %d %s", w.Code, w.Body)
	}
}

// TestOriginsMayChange: the pages that may call are those named last, and wrong ones change nothing.
func TestOriginsMayChange(t *testing.T) {
	s := start(t, &fakeAPI{}, nil)
	for _, c := range []struct {
		set   []string
		taken bool
		may   []string
	}{
		{[]string{"https://new.example", "https://Other.example:443/"}, true, []string{"https://new.example", "https://other.example"}},
		{[]string{"https://tool.example", "nonsense"}, false, []string{"https://new.example", "https://other.example"}},
		{nil, true, nil},
		{[]string{"https://tool.example"}, true, []string{"https://tool.example"}},
	} {
		if err := s.SetOrigins(c.set); (err == nil) != c.taken {
			t.Errorf("%q: %v", c.set, err)
		}
		for _, origin := range []string{"https://tool.example", "https://new.example", "https://other.example"} {
			listed := slices.Contains(c.may, origin)
			w := ask(s, emit, hi, "Origin", origin)
			if got := w.Header().Get("Access-Control-Allow-Origin"); (w.Code == http.StatusOK) != listed || (got == origin) != listed {
				t.Errorf("after %q, a page of %s is answered %d, allowing %q", c.set, origin, w.Code, got)
			}
		}
	}
}

// TestForms: each form in which a request can come, and what a client hears that chose a wrong one.
func TestForms(t *testing.T) {
	api := &fakeAPI{}
	s := start(t, api, nil)
	frame := string(envelope([]byte(hi)))
	for name, tc := range map[string]struct {
		path, body string
		headers    []string
		status     int
		want       string // in the answer, or the reason of an error
	}{
		"curl":                       {emit, hi, nil, 200, "{"},
		"JSON":                       {emit, hi, []string{"Content-Type", "Application/JSON; charset=utf-8"}, 200, "{"},
		"no content type":            {emit, hi, []string{"Content-Type", ""}, 200, "{"},
		"Connect":                    {emit, hi, []string{"Content-Type", "application/json", "Connect-Protocol-Version", "1"}, 200, "{"},
		"Connect, protobuf":          {emit, "", []string{"Content-Type", "application/proto", "Connect-Protocol-Version", "1"}, 200, ""},
		"Connect of another version": {emit, hi, []string{"Connect-Protocol-Version", "2"}, 400, "INVALID_FIELD"},
		"gRPC-Web":                   {emit, "\x00\x00\x00\x00\x00", []string{"Content-Type", "application/grpc-web+proto"}, 200, "Grpc-Status: 0\r\n"},
		"gRPC-Web, JSON":             {emit, frame, []string{"Content-Type", "application/grpc-web+json"}, 200, "Grpc-Status: 0\r\n"},
		"gRPC-Web as text":           {emit, "AAAAAAA=", []string{"Content-Type", "application/grpc-web-text"}, 400, "INVALID_FIELD"},
		"gRPC":                       {emit, "\x00\x00\x00\x00\x00", []string{"Content-Type", "application/grpc"}, 400, "INVALID_FIELD"},
		"a stream in lines":          {watch, `{"all":true}`, nil, 200, `{"result":{"bookmark":{}`},
		"a stream, Connect":          {watch, string(envelope([]byte("{}"))), []string{"Content-Type", "application/connect+json"}, 200, `"code":"resource_exhausted"`},
		"a stream, one that is none": {emit, frame, []string{"Content-Type", "application/connect+json"}, 200, "INVALID_FIELD"},
		"a stream that fails":        {watch, `{"namespace":"none"}`, nil, 429, "too slow"},
		"a stream of requests":       {"/foyer.v1.EmitService/EmitStream", "{}", nil, 501, "NOT_IMPLEMENTED"},
		"handlers":                   {"/foyer.v1.HandlerService/Attach", "{}", nil, 501, "NOT_IMPLEMENTED"},
		"no method":                  {"/foyer.v1.EmitService/Emitt", "{}", nil, 404, "NOT_IMPLEMENTED"},
		"no method, Connect":         {"/foyer.v1.EmitService/Emitt", "", []string{"Content-Type", "application/proto", "Connect-Protocol-Version", "1"}, 404, "NOT_IMPLEMENTED"},
		"no method, a stream":        {"/foyer.v1.EmitService/Emitt", frame, []string{"Content-Type", "application/connect+json"}, 200, `"code":"unimplemented"`},
		"no method, gRPC-Web":        {"/foyer.v1.EmitService/Emitt", frame, []string{"Content-Type", "application/grpc-web+proto"}, 200, ""},
		"the first page":             {"/", "", []string{"Method", "GET", "Content-Type", ""}, 404, "NOT_IMPLEMENTED"},
		"GET":                        {emit + `?connect=v1&encoding=json&message={}`, "", []string{"Method", "GET", "Content-Type", ""}, 405, "INVALID_FIELD"},
		"DELETE":                     {emit, hi, []string{"Method", "DELETE"}, 405, "INVALID_FIELD"},
		"GET of a stream":            {watch, "", []string{"Method", "GET", "Content-Type", ""}, 405, "INVALID_FIELD"},
		"POST of the description":    {"/openapi.yaml", "", nil, 405, "INVALID_FIELD"},
		"a picture":                  {emit, hi, []string{"Content-Type", "image/png"}, 400, "INVALID_FIELD"},
		"compressed":                 {emit, hi, []string{"Content-Encoding", "gzip"}, 501, "NOT_IMPLEMENTED"},
		"compressed, Connect":        {watch, hi, []string{"Content-Type", "application/connect+json", "Connect-Content-Encoding", "gzip"}, 200, "NOT_IMPLEMENTED"},
		"half a JSON":                {emit, hi[:20], nil, 400, "INVALID_FIELD"},
		"a JSON that is a list":      {emit, "[]", nil, 400, "INVALID_FIELD"},
		"an unknown field":           {emit, `{"targett":{}}`, nil, 400, "INVALID_FIELD"},
		"two JSONs":                  {emit, hi + hi, nil, 400, "INVALID_FIELD"},
		"a deep JSON":                {emit, `{"payload":{"values":` + strings.Repeat("[", 900), nil, 400, "INVALID_FIELD"},
		"a flag that is none":        {watch, "\x01\x00\x00\x00\x02{}", []string{"Content-Type", "application/connect+json"}, 200, `"error"`},
		"a length that lies":         {watch, "\x00\xff\xff\xff\xff{}", []string{"Content-Type", "application/connect+json"}, 200, `"error"`},
		"no time for it":             {"/foyer.v1.EmitService/EmitWithAck", hi, []string{"Connect-Timeout-Ms", "-1"}, 400, "INVALID_FIELD"},
		"no time for lines":          {watch, `{"all":true}`, []string{"Connect-Timeout-Ms", "1s"}, 400, "INVALID_FIELD"},
		"no time for a stream":       {watch, string(envelope([]byte("{}"))), []string{"Content-Type", "application/connect+json", "Connect-Timeout-Ms", "1s"}, 200, "INVALID_FIELD"},
	} {
		w := ask(s, tc.path, tc.body, tc.headers...)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.want) {
			t.Errorf("%s: %d %q, want %d with %q", name, w.Code, w.Body, tc.status, tc.want)
		}
		allow := ""
		if w.Code == http.StatusMethodNotAllowed {
			allow = "POST"
			if tc.path == openAPIPath {
				allow = "GET, HEAD"
			}
		}
		if got := w.Header().Get("Allow"); got != allow {
			t.Errorf("%s: allows %q, want %q", name, got, allow)
		}
		if w.Code >= 400 && strings.ToUpper(tc.want) == tc.want && tc.want != "" {
			if _, reason := reasonOf(t, w.Body.Bytes()); reason != tc.want {
				t.Errorf("%s: reason %s, want %s", name, reason, tc.want)
			}
		}
	}
	if got := api.event.Load(); got == nil {
		t.Error("no emit has come")
	}
}

// TestRefusedTokens: the API's answer is the client's, in JSON, and nothing of the body is read.
func TestRefusedTokens(t *testing.T) {
	api := &fakeAPI{}
	var shown []string
	s := start(t, api, func(c *Config) {
		c.Open = false
		c.Admit = func(_ context.Context, _ string, authorization []string, _ string) error {
			shown = authorization
			return refusedStatus(foyerv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, codes.Unauthenticated, "no")
		}
	})
	r := httptest.NewRequest(http.MethodPost, emit, unreadable{t})
	r.Header.Set("Authorization", "Bearer x")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if code, reason := reasonOf(t, w.Body.Bytes()); w.Code != http.StatusUnauthorized || code != "unauthenticated" || reason != "UNAUTHENTICATED" || len(shown) != 1 {
		t.Errorf("%d %s, shown %q", w.Code, w.Body, shown)
	}
	if w := ask(s, "/openapi.yaml", "", "Method", http.MethodGet); w.Code != http.StatusUnauthorized {
		t.Errorf("the description of the API: %d", w.Code)
	}
}

type unreadable struct{ t *testing.T }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// TestBodiesAreBounded: by their own size, said or not, by that of all, and by their time.
func TestBodiesAreBounded(t *testing.T) {
	api := &fakeAPI{}
	counted := 0
	s := start(t, api, func(c *Config) { c.Hold = func(n int) { counted += n } })
	big := strings.Repeat(" ", 1001)
	for name, body := range map[string]io.Reader{"said": strings.NewReader(big), "not said": io.MultiReader(strings.NewReader(big))} {
		r := httptest.NewRequest(http.MethodPost, "http://localhost"+emit, body)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if _, reason := reasonOf(t, w.Body.Bytes()); reason != "PAYLOAD_TOO_LARGE" {
			t.Errorf("%s: %s", name, w.Body)
		}
	}
	for name, tc := range map[string]struct {
		err     error
		counter string
		status  int
	}{
		"late":    {os.ErrDeadlineExceeded, "http_request_late", http.StatusGatewayTimeout},
		"cut off": {io.ErrUnexpectedEOF, "", http.StatusBadRequest},
	} {
		r := httptest.NewRequest(http.MethodPost, "http://localhost"+emit, io.MultiReader(strings.NewReader("{"), failing{tc.err}))
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != tc.status || tc.counter != "" && s.Counters()[tc.counter] != 1 {
			t.Errorf("%s: %d %s %v", name, w.Code, w.Body, s.Counters())
		}
	}
	if s.held.Load() != 0 || counted != 0 {
		t.Errorf("held after all: %d, counted %d", s.held.Load(), counted)
	}
}

// TestAllBodiesAreBounded: four bodies of which the rest does not come hold all that may be held. A fifth is refused,
// and nobody else is.
func TestAllBodiesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, &fakeAPI{}, nil)
		var held []*io.PipeWriter
		answers := make(chan int, 5)
		for range 5 {
			pr, pw := io.Pipe()
			held = append(held, pw)
			go func() {
				w := httptest.NewRecorder()
				s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "http://localhost"+emit, pr))
				_ = pr.Close()
				answers <- w.Code
			}()
			_, _ = io.WriteString(pw, strings.Repeat(" ", 900))
			synctest.Wait()
		}
		if code := <-answers; code != http.StatusTooManyRequests || s.Counters()["http_request_bytes"] != 1 || len(answers) > 0 {
			t.Errorf("beyond all bytes: %d %v, and %d others", code, s.Counters(), len(answers))
		}
		for _, pw := range held {
			_ = pw.Close()
		}
		for range 4 {
			<-answers
		}
		if s.held.Load() != 0 {
			t.Errorf("held after all: %d", s.held.Load())
		}
		if w := ask(s, emit, hi); w.Code != http.StatusOK {
			t.Errorf("afterwards: %d %s", w.Code, w.Body)
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestDeadlines: a call with one answer ends, and no later than its client wants. The API hears of both, and of no
// header that is not its business.
func TestDeadlines(t *testing.T) {
	for name, tc := range map[string]struct {
		headers []string
		want    time.Duration
	}{
		"none":     {nil, callTimeout},
		"shorter":  {[]string{"Connect-Timeout-Ms", "1500"}, 1500 * time.Millisecond},
		"longer":   {[]string{"Connect-Timeout-Ms", "99999999999"}, callTimeout},
		"gRPC-Web": {[]string{"Content-Type", "application/grpc-web+json", "Grpc-Timeout", "2S"}, 2 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			api := &fakeAPI{}
			s := start(t, api, nil)
			body := hi
			if name == "gRPC-Web" {
				body = string(envelope([]byte(hi)))
			}
			began := time.Now()
			w := ask(s, "/foyer.v1.EmitService/EmitWithAck", body, append(tc.headers, "Traceparent", "00-1-1-01", "Cookie", "a=b")...)
			if took := time.Since(began); took != tc.want || time.Duration(api.waited.Load()).Round(time.Second/2) != tc.want {
				t.Errorf("%s: ended after %v, and the API was given %v, want %v: %s", name, took, time.Duration(api.waited.Load()), tc.want, w.Body)
			}
			if api.traced.Load() != "00-1-1-01|" {
				t.Errorf("%s: the API has heard %q", name, api.traced.Load())
			}
		})
	}
}

// TestAddressIsTold: the API hears whose call it is, of us and not of the client.
func TestAddressIsTold(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"the connection's": {func(c *Config) { c.AddressKey = "from" }, []string{"192.0.2.1"}}, // that of httptest
		"a proxy's client": {func(c *Config) {
			c.AddressKey, c.Address = "from", func(r *http.Request) string { return r.Header.Get("X-Forwarded-For") }
		}, []string{"10.0.0.9"}},
		"nobody asks": {func(*Config) {}, nil},
	} {
		api := &fakeAPI{}
		s := start(t, api, tc.change)
		if w := ask(s, emit, hi, "From", "10.0.0.1", "X-Forwarded-For", "10.0.0.9"); w.Code != http.StatusOK || !slices.Equal(api.from.Load().([]string), tc.want) {
			t.Errorf("%s: %d %s, told %v", name, w.Code, w.Body, api.from.Load())
		}
	}
}

// TestSlowReader: a client that does not read an answer is not sent more than the windows hold, and its connection is
// closed.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{endless: true}
		s := start(t, api, nil)
		client, server := net.Pipe()
		lis := &oneConn{conn: server, done: make(chan struct{})}
		hs := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = hs.Serve(lis)
		}()
		_, _ = io.WriteString(client, "POST "+watch+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
		synctest.Wait()
		sent := api.sent.Load()
		if sent == 0 || sent > 64 {
			t.Errorf("%d answers of 10 KiB were sent to a client that reads nothing", sent)
		}
		time.Sleep(s.cfg.WriteTimeout + time.Second)
		if _, err := io.ReadAll(client); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("its connection: %v", err)
		}
		_ = hs.Close()
		<-served
	})
}

// oneConn is a listener with one connection.
type oneConn struct {
	conn net.Conn
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error {
	close(l.done)
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// TestLinesCutAnywhere: lines are the same wherever the stream is cut.
func TestLinesCutAnywhere(t *testing.T) {
	end := envelope([]byte(`{"error":{"code":"unavailable","message":"gone"}}`))
	end[0] = endOfStream
	whole := append(append(envelope([]byte(`{"a":1}`)), envelope([]byte(`{}`))...), end...)
	const want = "{\"result\":{\"a\":1}}\n{\"result\":{}}\n{\"error\":{\"code\":\"unavailable\",\"message\":\"gone\"}}\n"
	for i := range whole {
		w := httptest.NewRecorder()
		l := &lines{ResponseWriter: w}
		for _, part := range [][]byte{whole[:i], whole[i:]} {
			if _, err := l.Write(bytes.Clone(part)); err != nil {
				t.Fatal(err)
			}
			l.Flush()
		}
		l.end()
		if w.Body.String() != want || w.Code != http.StatusOK {
			t.Fatalf("cut at %d: %d %s", i, w.Code, w.Body)
		}
	}
}

// TestLinesOfNoStream: an answer that is no stream has its status and its text.
func TestLinesOfNoStream(t *testing.T) {
	w := httptest.NewRecorder()
	l := &lines{ResponseWriter: w}
	http.Error(l, "a header is wrong", http.StatusBadRequest)
	l.Flush()
	l.end()
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "a header is wrong") {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

// TestNodeGoesDown: when the gRPC server is gone, a call says so at once.
func TestNodeGoesDown(t *testing.T) {
	s := start(t, &fakeAPI{}, func(c *Config) {
		c.Dial = func(context.Context) (net.Conn, error) { return nil, net.ErrClosed }
	})
	w := ask(s, emit, hi)
	if code, reason := reasonOf(t, w.Body.Bytes()); w.Code != http.StatusServiceUnavailable || code != "unavailable" || reason != "DRAINING" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// FuzzRequests: whatever comes, the answer is one of HTTP's, and nothing stays held.
func FuzzRequests(f *testing.F) {
	f.Add(emit, "application/json", hi)
	f.Add(watch, "application/connect+json", string(envelope([]byte("{}"))))
	f.Add(watch, "application/grpc-web+proto", "\x00\x00\x00\x00\x00")
	s := start(f, &fakeAPI{}, nil)
	f.Fuzz(func(t *testing.T, path, kind, body string) {
		r := httptest.NewRequest(http.MethodPost, "http://localhost/", strings.NewReader(body))
		r.URL.Path = path
		r.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code < 200 || w.Code > 599 || s.held.Load() != 0 {
			t.Errorf("%d, held %d", w.Code, s.held.Load())
		}
	})
}
