package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"foyer/transport/grpcapi"
)

func put(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestContexts: contexts are kept, listed, used and forgotten, in a file for its owner alone that has no token in it.
func TestContexts(t *testing.T) {
	token := put(t, "token", "secret\n")
	inHall(t, func(h *hall) {
		h.want(Done, "", "foyer: there are no contexts yet; foyer context set NAME --api ADDR makes one\n", "context")
		for _, text := range []string{"contexts:\n", "contexts: {}\nuse: \n"} { // as somebody has left it who edits it
			err := os.MkdirAll(filepath.Dir(h.sys.Contexts), 0o700)
			if err == nil {
				err = os.WriteFile(h.sys.Contexts, []byte(text), 0o600)
			}
			if err != nil {
				t.Error(err)
			}
			h.want(Done, "", "foyer: context x is in use\n", "context", "set", "x", "--api", "x:1")
		}
		h.want(Done, "", "foyer: no context is in use any more\n", "context", "rm", "x")
		h.want(Done, "", "foyer: context prod is in use\n", "context", "set", "prod", "--api", "foyer.example:50051", "--api-ca", "/ca.pem", "--api-token-file", token)
		h.want(Done, "", "", "context", "set", "home", "--api", "127.0.0.1:50051")
		text, err := os.ReadFile(h.sys.Contexts)
		if err != nil || strings.Contains(string(text), "secret") {
			t.Errorf("%v, %s", err, text)
		}
		if info, err := os.Stat(h.sys.Contexts); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", err, info.Mode())
		}
		h.want(Done, strings.Join([]string{
			"    CONTEXT   API                   TLS   CA FILE   TOKEN FILE",
			"    home      127.0.0.1:50051       no    -         -",
			"*   prod      foyer.example:50051   yes   /ca.pem   " + token,
			"",
		}, "\n"), "", "context", "list")
		h.want(Done, "", "", "context", "use", "home")
		h.want(Done, `{"name":"home","api":"127.0.0.1:50051","inUse":true}`+"\n"+`{"name":"prod","api":"foyer.example:50051","apiCa":"/ca.pem","apiTokenFile":"`+token+`","inUse":false}`+"\n", "", "context", "-o", "json")
		h.want(Usage, "", "foyer: NAME: there is no context \"prd\"; do you mean prod?\n", "context", "use", "prd")
		h.want(Usage, "", "foyer: --context: there is no context \"prd\"; do you mean prod?\n", "rooms", "--context", "prd")
		h.want(Usage, "", "foyer: NAME: there is no context \"other\"; foyer context lists those that there are\n", "context", "rm", "other")
		h.want(Done, "", "foyer: no context is in use any more\n", "context", "rm", "home")

		// The file is replaced in one step, and a link to it stays.
		file := filepath.Join(t.TempDir(), "real.yaml")
		if err := os.Rename(h.sys.Contexts, file); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(file, h.sys.Contexts); err != nil {
			t.Fatal(err)
		}
		h.want(Done, "", "foyer: context new is in use\n", "context", "set", "new", "--api", "a:1")
		if to, err := os.Readlink(h.sys.Contexts); err != nil || to != file {
			t.Errorf("%v, %s", err, to)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".contexts-*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		for text, want := range map[string]string{
			"contexts:\n  a:\n    apii: b:1\n":        `line 3: there is no key "apii"; do you mean api?`,
			"use: a\ncontexts:\n  a:\n    api: [1]\n": "line 4: cannot unmarshal !!seq into string",
			"contexts:\n  a: {}\n":                    `context "a" has no api`,
			"use: b\ncontexts:\n  a: {api: 'a:1'}\n":  `use: there is no context "b"; do you mean a?`,
			"contexts: [\n":                           "line 1: did not find expected node content",
		} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			h.want(Usage, "", "foyer: contexts: "+h.sys.Contexts+": "+want+"\n", "rooms")
		}
		if err := os.WriteFile(file, []byte("use: a\ncontexts:\n  a: {api: a}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		h.want(Usage, "", "foyer: context a: api: \"a\" is no address of the form HOST:PORT\n", "rooms")

		// What cannot be kept is not told to hold.
		h.want(Usage, "", "foyer: NAME: must not be empty\n", "context", "set", "", "--api", "a:1")
		h.sys.Contexts = filepath.Join(file, "contexts.yaml")
		if _, told, code := h.say("context", "set", "a", "--api", "a:1"); code == Done || strings.Contains(told, "in use") {
			t.Errorf("code %d, %q", code, told)
		}
	})
}

// TestPlace: flags come before a context that is named, that before variables, and those before the context in use.
// Nothing of a context that nobody has named goes to another address.
func TestPlace(t *testing.T) {
	inUse, named := put(t, "in-use", "a\n"), put(t, "named", "b\n")
	sys := &System{Contexts: put(t, "contexts.yaml", "use: u\ncontexts:\n"+
		"  u: {api: 'u:1', api-token-file: "+inUse+", api-tls: true}\n  n: {api: 'n:1', api-token-file: "+named+"}\n")}
	for _, c := range []struct {
		args, env string
		want      place
	}{
		{"", "", place{api: "u:1", tokenFile: inUse, tls: true, tokenName: "context u: api-token-file"}},
		{"--api f:1", "", place{api: "f:1"}},
		{"", "FOYER_API=v:1", place{api: "v:1"}},
		{"", "FOYER_CONTEXT=n", place{api: "n:1", tokenFile: named, tokenName: "context n: api-token-file"}},
		{"--api f:1", "FOYER_CONTEXT=n", place{api: "f:1"}},
		{"--context n", "FOYER_API=v:1", place{api: "n:1", tokenFile: named, tokenName: "context n: api-token-file"}},
		{"--context n --api f:1", "", place{api: "f:1", tokenFile: named, tokenName: "context n: api-token-file"}},
		{"--context n", "FOYER_API_TOKEN_FILE=/v", place{api: "n:1", tokenFile: named, tokenName: "context n: api-token-file"}},
		{"--context n --api-token-file /f", "", place{api: "n:1", tokenFile: "/f"}},
		{"", "FOYER_API_TOKEN_FILE=/v", place{api: "u:1", tokenFile: "/v", tls: true}},
		{"--api-ca /c", "", place{api: "u:1", tokenFile: inUse, tls: true, ca: "/c", tokenName: "context u: api-token-file"}},
	} {
		t.Run(c.args+" "+c.env, func(t *testing.T) {
			for _, name := range []string{"FOYER_API", "FOYER_CONTEXT", "FOYER_API_TOKEN_FILE"} {
				t.Setenv(name, "")
				_ = os.Unsetenv(name)
			}
			if name, value, ok := strings.Cut(c.env, "="); ok {
				t.Setenv(name, value)
			}
			var all Commands
			k, err := parseInto(&all, sys, append([]string{"rooms"}, strings.Fields(c.args)...)...)
			if err != nil {
				t.Fatal(err)
			}
			got, err := all.Rooms.place(k, sys)
			if err != nil {
				t.Fatal(err)
			}
			c.want.caName = "--api-ca"
			if c.want.apiName = "--api"; strings.HasPrefix(c.want.api, "u") || strings.HasPrefix(c.want.api, "n") {
				c.want.apiName = "context " + c.want.api[:1] + ": api"
			}
			if c.want.tokenName == "" {
				c.want.tokenName = "--api-token-file"
			}
			if got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// TestToken: the first token of a file is sent, and what is wrong with the file is told without what is in it.
func TestToken(t *testing.T) {
	token := put(t, "tokens", "# ours\n\nsecret\nother\n")
	bad, empty := put(t, "bad", "two words\n"), put(t, "empty", "\n")
	inHall(t, func(h *hall) {
		h.shut()
		h.open(grpcapi.Config{Tokens: []string{"secret"}})
		h.want(Nobody, "SOCKETS   ROOM\n", "foyer: there are no such rooms\n", "rooms", "--api-token-file", token)
		h.want(Failed, "", "foyer: --api-token-file: "+bad+": line 1 is no token: a token is ASCII without spaces, one a line\n", "rooms", "--api-token-file", bad)
		h.want(Failed, "", "foyer: --api-token-file: "+empty+": there is no token in it: write one a line\n", "rooms", "--api-token-file", empty)
		h.want(Failed, "", "foyer: --api-token-file: there is no file "+bad+"x\n", "rooms", "--api-token-file", bad+"x")
		h.want(Failed, "", "foyer: --api-token-file: "+filepath.Dir(bad)+" is a directory and not a file\n", "rooms", "--api-token-file", filepath.Dir(bad))
	})
}

// certificate makes one for names, signed by itself.
func certificate(t *testing.T, until time.Time, names ...string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: until, DNSNames: names, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, made, made, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := put(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// TestTLS: a certificate is believed if it comes from --api-ca and is for the address; what is wrong with it is told.
func TestTLS(t *testing.T) {
	none := put(t, "none.pem", "nothing\n")
	inHall(t, func(h *hall) { // a bubble begins at the year 2000
		cert, ca := certificate(t, time.Now().Add(time.Hour), "foyer.example")
		_, other := certificate(t, time.Now().Add(time.Hour), "foyer.example")
		h.shut()
		h.open(grpcapi.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
		nothing := func(told string, args ...string) {
			t.Helper()
			h.want(Unanswered, "", "foyer: --api: "+told+"\n", append([]string{"rooms", "--api"}, args...)...)
		}
		h.want(Nobody, "SOCKETS   ROOM\n", "foyer: there are no such rooms\n", "rooms", "--api", "foyer.example:1", "--api-ca", ca)
		h.want(Nobody, "SOCKETS   ROOM\n", "foyer: there are no such rooms\n", "rooms", "--api", "elsewhere.example:1", "--api-tls", "--insecure")
		nothing("there is no secure connection to foyer.example:1: its certificate comes from nobody that is trusted here; --api-ca names who is", "foyer.example:1", "--api-tls")
		nothing("there is no secure connection to foyer.example:1: its certificate comes from nobody that is trusted here; --api-ca names who is", "foyer.example:1", "--api-ca", other)
		nothing("there is no secure connection to elsewhere.example:1: its certificate is not for elsewhere.example", "elsewhere.example:1", "--api-ca", ca)
		nothing("what answers at foyer.example:1 closes the connection: is it the --api of a node, and does it speak TLS (--api-tls)?", "foyer.example:1")
		h.want(Failed, "", "foyer: --api-ca: "+none+": there is no certificate in it, in PEM form\n", "rooms", "--api-ca", none)
		time.Sleep(2 * time.Hour)
		nothing("there is no secure connection to foyer.example:1: its certificate is out of date, or not valid yet", "foyer.example:1", "--api-ca", ca)
		h.shut()
		h.open(grpcapi.Config{})
		nothing("there is no secure connection to foyer.example:1: it does not speak TLS", "foyer.example:1", "--api-ca", ca)
	})
}
