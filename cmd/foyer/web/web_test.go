package web

import (
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// answer is what a test looks at.
type answer struct {
	Status                     int
	Type, ETag, Cache, Allowed string
	Body                       string
}

func record(rec *httptest.ResponseRecorder) answer {
	body, _ := io.ReadAll(rec.Body)
	h := rec.Header()
	return answer{rec.Code, h.Get("Content-Type"), h.Get("ETag"), h.Get("Cache-Control"), h.Get("Allow"), string(body)}
}

func fakeNpm() fstest.MapFS {
	npm := fstest.MapFS{"VERSION": {Data: []byte("1.2.3\n")}, ".keep": {}, "other.js": {Data: []byte("secret")}}
	for _, name := range clientFiles {
		npm[name] = &fstest.MapFile{Data: []byte("// " + name)}
		npm[name+".map"] = &fstest.MapFile{Data: []byte(`{"file":"` + name + `"}`)}
	}
	return npm
}

func TestClient(t *testing.T) {
	const (
		script = "application/javascript; charset=utf-8"
		cache  = "public, max-age=0"
		etag   = `"1.2.3"`
	)
	tests := []struct {
		name, method, path, ifNoneMatch string
		want                            answer
	}{
		{"script", "GET", "/socket.io/socket.io.js", "", answer{200, script, etag, cache, "", "// socket.io.js"}},
		{"minified", "GET", "/socket.io/socket.io.min.js", "", answer{200, script, etag, cache, "", "// socket.io.min.js"}},
		{"module", "GET", "/socket.io/socket.io.esm.min.js", "", answer{200, script, etag, cache, "", "// socket.io.esm.min.js"}},
		{"msgpack", "GET", "/socket.io/socket.io.msgpack.min.js", "", answer{200, script, etag, cache, "", "// socket.io.msgpack.min.js"}},
		{"map", "GET", "/socket.io/socket.io.js.map", "", answer{200, "application/json", etag, cache, "", `{"file":"socket.io.js"}`}},
		{"map of minified", "GET", "/socket.io/socket.io.min.js.map", "", answer{200, "application/json", etag, cache, "", `{"file":"socket.io.min.js"}`}},
		{"map of module", "GET", "/socket.io/socket.io.esm.min.js.map", "", answer{200, "application/json", etag, cache, "", `{"file":"socket.io.esm.min.js"}`}},
		{"map of msgpack", "GET", "/socket.io/socket.io.msgpack.min.js.map", "", answer{200, "application/json", etag, cache, "", `{"file":"socket.io.msgpack.min.js"}`}},
		{"query", "GET", "/socket.io/socket.io.js?v=1", "", answer{200, script, etag, cache, "", "// socket.io.js"}},
		{"head", "HEAD", "/socket.io/socket.io.js", "", answer{200, script, etag, cache, "", ""}},
		{"unchanged", "GET", "/socket.io/socket.io.js", etag, answer{304, "", etag, cache, "", ""}},
		{"unchanged, weak", "GET", "/socket.io/socket.io.js", `"1.2.2", W/"1.2.3"`, answer{304, "", etag, cache, "", ""}},
		{"changed", "GET", "/socket.io/socket.io.js", `"1.2.2"`, answer{200, script, etag, cache, "", "// socket.io.js"}},
		{"post", "POST", "/socket.io/socket.io.js", "", answer{405, "text/plain; charset=utf-8", "", "", "GET, HEAD", "method not allowed\n"}},
	}
	for _, path := range []string{"/socket.io/", "/socket.io"} {
		serve := client(fakeNpm(), path)
		for _, tt := range tests {
			t.Run(path+" "+tt.name, func(t *testing.T) {
				req, rec := httptest.NewRequest(tt.method, tt.path, nil), httptest.NewRecorder()
				req.Header.Set("If-None-Match", tt.ifNoneMatch)
				if !serve(rec, req) {
					t.Fatal("not served")
				}
				if diff := cmp.Diff(tt.want, record(rec)); diff != "" {
					t.Errorf("want -, got +:\n%s", diff)
				}
			})
		}
	}
}

// What is not in the list goes on to Engine.IO untouched.
func TestClientFallsThrough(t *testing.T) {
	serve := client(fakeNpm(), "/socket.io/")
	for _, path := range []string{
		"/socket.io/", "/socket.io/?EIO=4&transport=polling", "/", "/socket.io.js", "/other/socket.io.js",
		"/socket.io/other.js", "/socket.io/VERSION", "/socket.io/.keep", "/socket.io/socket.io.js/", "/socket.io/SOCKET.IO.JS",
		"/socket.io//socket.io.js", "/socket.io/./socket.io.js", "/socket.io/../npm/other.js", "/socket.io/%2e%2e/web.go",
		"/socket.io/..%2fweb.go", "/socket.io/socket.io.js%00",
	} {
		req, rec := httptest.NewRequest(http.MethodGet, path, nil), httptest.NewRecorder()
		if serve(rec, req) || len(rec.Header()) > 0 || rec.Body.Len() > 0 {
			t.Errorf("%s: served: %d %v %q", path, rec.Code, rec.Header(), rec.Body)
		}
	}
}

func TestClientThatIsNotBuiltIn(t *testing.T) {
	noVersion, noFile := fakeNpm(), fakeNpm()
	delete(noVersion, "VERSION")
	delete(noFile, "socket.io.js")
	for name, npm := range map[string]fstest.MapFS{"nothing": {".keep": {}}, "no version": noVersion, "no file": noFile} {
		req, rec := httptest.NewRequest(http.MethodGet, "/socket.io/socket.io.js", nil), httptest.NewRecorder()
		req.Header.Set("If-None-Match", "*")
		if !client(npm, "/socket.io/")(rec, req) {
			t.Errorf("%s: not served", name)
		}
		if got := record(rec); got.Status != 404 || !strings.Contains(got.Body, "make web") || got.ETag != "" || !strings.HasPrefix(got.Type, "text/plain") {
			t.Errorf("%s: got %+v, want a 404 that names make web", name, got)
		}
	}
}

// Built in or not, the real files have an answer.
func TestClientAsBuilt(t *testing.T) {
	serve := Client("/socket.io/")
	for _, name := range clientFiles {
		req, rec := httptest.NewRequest(http.MethodGet, "/socket.io/"+name, nil), httptest.NewRecorder()
		if !serve(rec, req) || rec.Code != 200 && rec.Code != 404 {
			t.Errorf("%s: got %d", name, rec.Code)
		}
	}
}

// usual is a node with nothing but defaults.
func usual() Node { return Node{Path: "/socket.io/", Grpcurl: "-plaintext", API: "127.0.0.1:50051"} }

func TestPage(t *testing.T) {
	page := Page(usual)
	types := map[string]string{"/": "text/html; charset=utf-8", "/chat.css": "text/css; charset=utf-8"}
	for _, name := range scripts(t) {
		types["/"+name] = "application/javascript; charset=utf-8"
	}
	for path, contentType := range types {
		t.Run(path, func(t *testing.T) {
			rec := httptest.NewRecorder()
			page.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
			got := record(rec)
			if got.Status != 200 || got.Type != contentType || got.Cache != "no-cache" || len(got.ETag) != 18 || got.Body == "" {
				t.Errorf("got %d %q %q %q and %d bytes", got.Status, got.Type, got.Cache, got.ETag, len(got.Body))
			}
			if policy := rec.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
				t.Errorf("policy %q", policy)
			}

			req, rec := httptest.NewRequest(http.MethodGet, path, nil), httptest.NewRecorder()
			req.Header.Set("If-None-Match", got.ETag)
			page.ServeHTTP(rec, req)
			if rec.Code != 304 || rec.Body.Len() > 0 {
				t.Errorf("with its ETag: got %d and %d bytes, want 304 and none", rec.Code, rec.Body.Len())
			}

			rec = httptest.NewRecorder()
			page.ServeHTTP(rec, httptest.NewRequest(http.MethodHead, path, nil))
			if rec.Code != 200 || rec.Body.Len() > 0 {
				t.Errorf("HEAD: got %d and %d bytes, want 200 and none", rec.Code, rec.Body.Len())
			}

			rec = httptest.NewRecorder()
			page.ServeHTTP(rec, httptest.NewRequest(http.MethodDelete, path, nil))
			if rec.Code != 405 {
				t.Errorf("DELETE: got %d, want 405", rec.Code)
			}
		})
	}
}

// scripts are the names of the page's modules: all that it imports, and no other.
func scripts(t *testing.T) []string {
	t.Helper()
	imports := regexp.MustCompile(`(?m)^import .* from "\./([a-z]+\.js)";$`)
	names, seen := []string{"chat.js"}, map[string]bool{"chat.js": true}
	for i := 0; i < len(names); i++ {
		for _, found := range imports.FindAllSubmatch(source(names[i]), -1) {
			if name := string(found[1]); !seen[name] {
				names, seen[name] = append(names, name), true
			}
		}
	}
	if there, _ := fs.Glob(built, "*.js"); len(there) != len(names) {
		t.Errorf("built in are %q, but the page asks for %q", there, names)
	}
	return names
}

// The page finds the client at the node's own path, from wherever the page itself is, and shows how this node's API is
// called.
func TestPageKnowsItsNode(t *testing.T) {
	tests := []struct {
		name string
		node Node
		want []string
	}{
		{"defaults", usual(), []string{`src="./socket.io/socket.io.js"`, `data-flags="-plaintext"`, `data-api="127.0.0.1:50051"`}},
		{"a path", Node{Path: "/live/chat", API: "[::1]:7"}, []string{`src="./live/chat/socket.io.js"`, `data-api="[::1]:7"`}},
		{"a path of odd characters", Node{Path: `/a "b"?<c>:d/`}, []string{`src="./a%20%22b%22%3F%3Cc%3E:d/socket.io.js"`}},
		{
			"TLS and tokens",
			Node{Path: "/socket.io/", Grpcurl: "-insecure -H 'authorization: Bearer TOKEN'"},
			[]string{`data-flags="-insecure -H &#39;authorization: Bearer TOKEN&#39;"`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			asked := 0
			page := Page(func() Node { asked++; return tt.node })
			if asked > 0 {
				t.Error("the node is asked before it listens")
			}
			rec := httptest.NewRecorder()
			page.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", nil))
			for _, want := range tt.want {
				if !strings.Contains(rec.Body.String(), want) {
					t.Errorf("no %s in\n%s", want, rec.Body)
				}
			}
			if found := regexp.MustCompile(`(?:src|href)="/[^"]*"|\{\{|<!--`).FindAllString(rec.Body.String(), -1); found != nil {
				t.Errorf("the page has %q, which a proxy below a path would not find, or which is for us only", found)
			}
		})
	}
}

func TestPageHasNothingElse(t *testing.T) {
	page := Page(usual)
	for _, path := range []string{"/index.html", "/web.go", "/socket.io.js", "/dom", "/package.json", "/npm/VERSION", "/chat.js/", "/../chat.js", "/%2e%2e/chat.js", "/..%2fchat.js", "//chat.js"} {
		rec := httptest.NewRecorder()
		page.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		if rec.Code != 404 {
			t.Errorf("%s: got %d, want 404", path, rec.Code)
		}
	}
}

// The policy forbids what this looks for; a page that has it would be broken in a browser only.
func TestPageKeepsItsOwnPolicy(t *testing.T) {
	html, _ := built.ReadFile("index.html")
	if found := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|<script(>|[^>]*>[^<])|https?://`).FindAll(withoutNamespaces(html), -1); found != nil {
		t.Errorf("index.html has %q", found)
	}
	for _, name := range scripts(t) {
		forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|import\(|https?://`)
		if found := forbidden.FindAll(withoutNamespaces(source(name)), -1); found != nil {
			t.Errorf("%s has %q", name, found)
		}
	}
}

// withoutNamespaces leaves out the name of SVG, an address that is never asked for.
func withoutNamespaces(b []byte) []byte {
	return []byte(strings.ReplaceAll(string(b), "http://www.w3.org/2000/svg", ""))
}
