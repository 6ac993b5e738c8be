package redisbus

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseURL(t *testing.T) {
	for text, want := range map[string]Servers{
		"redis://a":                        {Addresses: []string{"a:6379"}},
		"redis://127.0.0.1:7/0":            {Addresses: []string{"127.0.0.1:7"}},
		"rediss://[::1]:7/":                {Addresses: []string{"[::1]:7"}, TLS: true},
		"redis://[::1]":                    {Addresses: []string{"[::1]:6379"}},
		"redis://a:1,b,c:3/15":             {Addresses: []string{"a:1", "b:6379", "c:3"}},
		"redis://u:p@a":                    {Addresses: []string{"a:6379"}, User: "u", Password: "p"},
		"redis://:p@a,b":                   {Addresses: []string{"a:6379", "b:6379"}, Password: "p"},
		"redis://u:p%2f%40%25,:/?#@x@a:1/": {Addresses: []string{"a:1"}, User: "u", Password: "p/@%,:/?#@x"},

		"redis+sentinel://a,b:7/mymaster":         {Addresses: []string{"a:26379", "b:7"}, Master: "mymaster"},
		"rediss+sentinel://u:p@[::1]/my-master/3": {Addresses: []string{"[::1]:26379"}, TLS: true, Master: "my-master", User: "u", Password: "p"},
	} {
		got, err := ParseURL(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if diff := cmp.Diff(want, *got, cmp.AllowUnexported(Servers{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	for text, want := range map[string]string{
		"":                             "does not begin with redis://",
		"a:1":                          "does not begin with redis://",
		"http://u:secret@a":            "does not begin with redis://",
		"redis://":                     "server 1 of the list",
		"redis://u:secret@":            "server 1 of the list",
		"redis://a,":                   "server 2 of the list",
		"redis://u:secret@a:0":         "server 1 of the list",
		"redis://u:secret@a:1:2":       "server 1 of the list",
		"redis://a:65536":              "server 1 of the list",
		"redis://u:secret@a/secret":    "the number of a database",
		"redis://u:secret@a/1/2":       "the number of a database",
		"redis://u:secret@a?secret":    "the number of a database",
		"redis://u:secret@a/0?x=1":     "the number of a database",
		"redis://u:secret%zz@a":        "a % begins",
		"redis+sentinel://u:secret@a":  "their name for the master",
		"redis+sentinel://a/":          "their name for the master",
		"redis+sentinel://a/m?x=1":     "their name for the master",
		"redis+sentinel://a/m/secret":  "the number of a database",
		"redis+sentinel://a:1:2/m":     "server 1 of the list",
		"http+sentinel://u:secret@a/m": "does not begin with redis://",
		"redis://a,redis://b:secret":   "the number of a database",
	} {
		if _, err := ParseURL(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want an error about %q that does not tell the password", text, err, want)
		}
	}
}
