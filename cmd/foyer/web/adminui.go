package web

import (
	"bytes"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

// The Admin UI's own libraries put styles into the page, which they cannot do otherwise. Of the two style sheets that
// it loads from elsewhere, the icons are built in; the other is a font, which is not let in.
const adminUIPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Addresses of the page's icons: those that it names, and theirs here.
const (
	iconsElsewhere = "https://cdn.jsdelivr.net/npm/@mdi/font@latest/"
	iconsHere      = "mdi/"
)

// AdminUI serves the official Socket.IO Admin UI below a path that ends with a slash, as it is in npm but for the
// address of its icons. Where it is not built in, it says how to get it.
func AdminUI(prefix string) http.Handler {
	npm, err := fs.Sub(built, "npm")
	if err != nil {
		panic(err) // the name is valid
	}
	return adminUI(npm, prefix)
}

func adminUI(npm fs.FS, prefix string) http.Handler {
	files := map[string]file{} // the whole list, so that no other name can be asked for
	_ = fs.WalkDir(npm, "ui", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir // without ui there is nothing
		}
		if d.IsDir() || d.Name() == "VERSION" {
			return nil
		}
		body, err := fs.ReadFile(npm, name)
		kind := mime.TypeByExtension(path.Ext(name))
		switch path.Ext(name) {
		case ".js":
			kind = typeScript
		case ".woff2":
			kind = "font/woff2"
		case ".html":
			body = bytes.ReplaceAll(body, []byte(iconsElsewhere), []byte(iconsHere))
		}
		if err == nil {
			files[prefix+strings.TrimPrefix(name, "ui/")] = pageFile(body, kind)
		}
		return nil
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Path
		if name == prefix {
			name += "index.html"
		}
		f, ok := files[name]
		switch {
		case len(files) == 0:
			http.Error(w, "The Admin UI is not built into this foyer. Run `make web` and build again.", http.StatusNotFound)
		case !ok:
			http.NotFound(w, r)
		default:
			w.Header().Set("Content-Security-Policy", adminUIPolicy)
			w.Header().Set("Referrer-Policy", "no-referrer")
			f.serve(w, r)
		}
	})
}
