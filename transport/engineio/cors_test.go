package engineio

import (
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestOriginPolicy: what is listed comes in beside the server's own origin, and is told to browsers; nobody else is
// either.
func TestOriginPolicy(t *testing.T) {
	const self = "chat.example:3000"
	for _, tt := range []struct {
		name        string
		origins     []string
		listedOnly  bool
		origin      string
		allow, tell bool
	}{
		{"own, nothing listed", nil, false, "http://chat.example:3000", true, false},
		{"own, another listed", []string{"https://a.example"}, false, "http://chat.example:3000", true, false},
		{"own behind TLS, another listed", []string{"https://a.example"}, false, "https://chat.example:3000", true, false},
		{"own, another listed, listed only", []string{"https://a.example"}, true, "http://chat.example:3000", false, false},
		{"own, listed, listed only", []string{"http://chat.example:3000"}, true, "http://chat.example:3000", true, true},
		{"own, nothing listed, listed only", nil, true, "http://chat.example:3000", true, false},
		{"listed", []string{"https://a.example"}, false, "https://a.example", true, true},
		{"listed in capitals with its scheme's port", []string{"HTTPS://A.example:443/"}, false, "https://a.example", true, true},
		{"another port", []string{"https://a.example"}, false, "https://a.example:8443", false, false},
		{"another scheme", []string{"https://a.example"}, false, "http://a.example", false, false},
		{"longer", []string{"https://a.example"}, false, "https://a.example.evil", false, false},
		{"an app", []string{"capacitor://localhost"}, false, "capacitor://localhost", true, true},
		{"null, not listed", []string{"https://a.example"}, false, "null", false, false},
		{"null, listed", []string{"null"}, false, "null", true, true},
		{"a label", []string{"https://*.a.example"}, false, "https://x.a.example", true, true},
		{"a label, with port", []string{"https://*.a.example:8443"}, false, "https://x.a.example:8443", true, true},
		{"a label, other port", []string{"https://*.a.example"}, false, "https://x.a.example:8443", false, false},
		{"two labels", []string{"https://*.a.example"}, false, "https://x.y.a.example", false, false},
		{"no label", []string{"https://*.a.example"}, false, "https://a.example", false, false},
		{"an empty label", []string{"https://*.a.example"}, false, "https://.a.example", false, false},
		{"a star itself", []string{"https://*.a.example"}, false, "https://*.a.example", false, false},
		{"the end of a label", []string{"https://*.a.example"}, false, "https://xa.example", false, false},
		{"a user before the label", []string{"https://*.a.example"}, false, "https://evil:x@y.a.example", false, false},
		{"a path before the label", []string{"https://*.a.example"}, false, "https://evil/.a.example", false, false},
		{"label of another scheme", []string{"https://*.a.example"}, false, "http://x.a.example", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := (Config{Origins: tt.origins}).Validate(); err != nil {
				t.Fatal(err)
			}
			p := newOriginPolicy(tt.origins, tt.listedOnly)
			r := &http.Request{Host: self, Header: http.Header{"Origin": {tt.origin}}}
			h := http.Header{}
			p.apply(h, r)
			if allowed, told := p.allows(r), h.Get("Access-Control-Allow-Origin"); allowed != tt.allow || (told != "") != tt.tell {
				t.Errorf("allowed %v, told %q", allowed, told)
			}
		})
	}
}

// TestOriginsThatNeverMatchAreRefused: a setting with an origin that no browser sends is refused at the start.
func TestOriginsThatNeverMatchAreRefused(t *testing.T) {
	for _, o := range []string{
		"", "a.example", "*.a.example", "https://", "https://*", "https://*.", "https://**.a.example", "https://x.*.example",
		"https://a*.example", "https://*a.example", "https://*.*.example", "*://a.example", "https://a.example:*", "https://a.example/path",
		"https://a.example?x", "https://a.example#x", "https://user@a.example", "https://a.example:", "https://a.example:port",
		"https://bücher.example", "https://a .example", "https://.a.example", "https:a.example", "http//a.example", "https://a.example//",
	} {
		err := Config{Origins: []string{o}}.Validate()
		if err == nil {
			t.Errorf("%q is taken", o)
			continue
		}
		if strings.Contains(o, "*") && strings.Contains(o, "://") && len(o) > len("https://*.") && !strings.Contains(err.Error(), "star") {
			t.Errorf("%q: the error does not tell what a star is for: %v", o, err)
		}
	}
}

// FuzzReadOrigin: an origin that is taken matches itself as browsers write it, and a star matches one label and no
// other.
func FuzzReadOrigin(f *testing.F) {
	for _, s := range []string{"https://a.example", "HTTP://A:80/", "https://*.a.example:8443", "https://[::1]:3000", "x://y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, o string) {
		origin, below, err := readOrigin(o)
		if err != nil || o == "*" {
			return
		}
		p := newOriginPolicy([]string{o}, true)
		scheme, host, _ := strings.Cut(origin, "://")
		if below {
			if p.lists(origin) || p.lists(scheme+"://x.y"+host) || p.lists(scheme+"://"+host[1:]) {
				t.Errorf("%q matches more than one label, or less", o)
			}
			origin = scheme + "://x" + host
		}
		if !p.lists(origin) {
			t.Errorf("%q does not match %q", o, origin)
		}
		if again, _, err := readOrigin(origin); err != nil || again != origin {
			t.Errorf("%q is no origin's own form: %q, %v", origin, again, err)
		}
	})
}

// TestRefusedOriginIsTold: the log says once, for all clients that are refused, what is refused and how to allow it.
func TestRefusedOriginIsTold(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	h := serveTCP(t, Config{Logger: zap.New(core)})
	for range 5 {
		h.do("GET", "EIO=4&transport=polling", nil, "Origin", "https://evil.example"+strings.Repeat("x", 1000))
	}
	told := logs.FilterMessage("handshake refused").All()
	if len(told) != 1 {
		t.Fatalf("%d lines", len(told))
	}
	fields := told[0].ContextMap()
	detail, _ := fields["detail"].(string)
	if !strings.Contains(detail, `"https://evil.example`) || len(detail) > 400 || fields["address"] != "127.0.0.1" ||
		fields["reason"] != "engineio_origin_refused" || fields["setting"] != "--cors-origin=" {
		t.Errorf("fields: %v", fields)
	}
	if n := h.srv.Stats()["origin_refused"]; n != 5 {
		t.Errorf("%d are counted", n)
	}
}
