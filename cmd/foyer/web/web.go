// Package web has what foyer serves to browsers besides the protocol: the demo page, and the files of the stock
// Socket.IO client. Both are built in. The client comes from npm by fetch.sh; a plain `go build` does without, and says
// so to whoever asks for it.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

//go:embed index.html *.js chat.css all:npm
var built embed.FS

// The page loads nothing from elsewhere and runs no inline script; its icon is a data URL.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const (
	typeScript = "application/javascript; charset=utf-8"
	typeMap    = "application/json"
)

// clientFiles are the names that a Socket.IO server answers to, each also with ".map" behind it.
var clientFiles = []string{"socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.msgpack.min.js"}

// file is one file as it goes out, whole and in memory.
type file struct {
	body         []byte
	contentType  string
	etag         string
	cacheControl string
}

// serve answers GET and HEAD, with 304 to a client that has this very file.
func (f file) serve(w http.ResponseWriter, r *http.Request) {
	if !isRead(w, r) {
		return
	}
	header := w.Header()
	header.Set("Content-Type", f.contentType)
	header.Set("ETag", f.etag)
	header.Set("Cache-Control", f.cacheControl)
	header.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
}

func isRead(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	return false
}

// Node is what the page has to know of the node that serves it.
type Node struct {
	Path    string // of the protocol
	Grpcurl string // the flags with which grpcurl reaches the API, ready for a shell; a token is a placeholder in them
	API     string // the API's address, likewise
}

// Page serves the demo: "/" and beside it the page's scripts and its style. Everything else is 404. The node is asked
// for with the first request, since its addresses are known only once it listens.
func Page(node func() Node) http.Handler {
	names, err := fs.Glob(built, "*.js")
	if err != nil {
		panic(err) // the pattern is valid
	}
	files := map[string]file{"/chat.css": pageFile(source("chat.css"), "text/css; charset=utf-8")}
	for _, name := range names {
		files["/"+name] = pageFile(source(name), typeScript)
	}
	index := sync.OnceValue(func() file { return pageFile(indexOf(node()), "text/html; charset=utf-8") })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := files[r.URL.Path]
		if r.URL.Path == "/" {
			f, ok = index(), true
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Security-Policy", contentSecurityPolicy)
		w.Header().Set("Referrer-Policy", "no-referrer")
		f.serve(w, r)
	})
}

// indexOf is the page itself. Its addresses are relative, so that it also works below a path of a proxy that takes that
// path away.
func indexOf(node Node) []byte {
	var out bytes.Buffer
	path := (&url.URL{Path: "./" + strings.Trim(node.Path, "/") + "/"}).String()
	page := template.Must(template.New("index").Parse(string(source("index.html"))))
	if err := page.Execute(&out, map[string]any{"Path": path, "Grpcurl": node.Grpcurl, "API": node.API}); err != nil {
		panic(err) // a buffer takes everything, and the template has only these
	}
	return out.Bytes()
}

func source(name string) []byte {
	body, err := built.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded by name
	}
	return body
}

// pageFile is asked for anew each time, so that a page never runs with the script of an older foyer, but sent only
// once.
func pageFile(body []byte, contentType string) file {
	sum := sha256.Sum256(body)
	return file{body, contentType, `"` + hex.EncodeToString(sum[:8]) + `"`, "no-cache"}
}

// Client serves the files of the stock client where a Socket.IO server has them, under the path of the protocol
// ("/socket.io/"). The result is false, and nothing is written, when the request is for something else; ask it before
// Engine.IO. Files that are not built in are 404 with a body that says how to get them.
func Client(path string) func(http.ResponseWriter, *http.Request) bool {
	npm, err := fs.Sub(built, "npm")
	if err != nil {
		panic(err) // the name is valid
	}
	return client(npm, path)
}

func client(npm fs.FS, path string) func(http.ResponseWriter, *http.Request) bool {
	path = strings.TrimSuffix(path, "/") + "/"
	version, _ := fs.ReadFile(npm, "VERSION")
	etag := `"` + strings.TrimSpace(string(version)) + `"`

	files := map[string]file{} // the whole list, so that no other name can be asked for
	add := func(name, contentType string) {
		body, _ := fs.ReadFile(npm, name) // absent: no body
		files[path+name] = file{body, contentType, etag, "public, max-age=0"}
	}
	for _, name := range clientFiles {
		add(name, typeScript)
		add(name+".map", typeMap)
	}
	return func(w http.ResponseWriter, r *http.Request) bool {
		f, ok := files[r.URL.Path]
		switch {
		case !ok:
			return false
		case len(f.body) == 0 || len(version) == 0:
			http.Error(w, "The Socket.IO client is not built into this foyer. Run `make web` and build again.", http.StatusNotFound)
		default:
			f.serve(w, r)
		}
		return true
	}
}
