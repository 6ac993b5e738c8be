package mongodb

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseURL(t *testing.T) {
	for text, want := range map[string]*URL{
		"mongodb://a/foyer": {Addresses: []string{"a:27017"}, Database: "foyer"},
		"mongodb://u:p%40@a:1,[::1],b:2/foyer?replicaSet=rs&tls=true": {Addresses: []string{"a:1", "[::1]:27017", "b:2"}, Database: "foyer", TLS: true},
		"mongodb://a/foyer?ssl=true":                                  {Addresses: []string{"a:27017"}, Database: "foyer", TLS: true},
		"mongodb+srv://u:p@a.example.org/foyer":                       {Database: "foyer", TLS: true},
		"mongodb+srv://a.example.org/foyer?tls=false":                 {Database: "foyer"},
	} {
		got, err := ParseURL(text)
		if diff := cmp.Diff(got, want, cmpopts.IgnoreUnexported(URL{})); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", text, err, diff)
		}
	}
	for text, want := range map[string]string{
		"":                              "it does not begin with mongodb://",
		"redis://a/foyer":               "it does not begin with mongodb://",
		"mongodb://a":                   "the database is missing",
		"mongodb://a/":                  "the database is missing",
		"mongodb://a/?replicaSet=rs":    "the database is missing",
		"mongodb:///foyer":              "server 1 of the list is not of the form",
		"mongodb://a:1,/foyer":          "server 2 of the list is not of the form",
		"mongodb://u:secret@a:b/foyer":  "server 1 of the list is not of the form",
		"mongodb://u:se/secret@a/foyer": "has to be escaped",
		"mongodb://u:se?secret@a/foyer": "has to be escaped",
		"mongodb://u:secret%zz@a/foyer": "a % begins an escaped byte",
		"mongodb://u:secret@a/b.c":      "the name of a database",
		"mongodb://u:secret@a/foyer?readPreference=secret": "its options",
		"mongodb://u:secret@a/foyer?w;=%zz":                "its options",
		"mongodb://u:secret@a/foyer?tls=maybe":             "its options",
	} {
		_, err := ParseURL(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") || strings.ContainsAny(err.Error(), "\r\n") {
			t.Errorf("%s: %v, want one line about %q without the password", text, err, want)
		}
	}
}
