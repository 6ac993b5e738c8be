//go:build e2e

package e2e

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foyer/service/adapter/official"
)

// lonely are the halves of surrogate pairs that Node's clients may get; see official's doc.go.
var lonely = regexp.MustCompile(`\\ud[89a-f][0-9a-f]{2}`)

// TestOfficialRandomIn: what notepack.io and @msgpack/msgpack write of anything that an application may emit is read as
// what a client of an official server gets.
func TestOfficialRandomIn(t *testing.T) {
	p := startOfficial(t)
	for _, lib := range []string{"notepack", "msgpack", "bson"} {
		for seed := range 300 {
			a := p.do(t, map[string]any{"do": "random", "lib": lib, "seed": seed})
			var (
				m *official.Message
				f official.Fault
			)
			switch b := unhexed(t, a.Hex); lib {
			case "notepack":
				m, f = official.ReadClassicBroadcast("/", b, officialMaxBytes)
			case "bson":
				m, _, f = official.ReadDocument(b, officialMaxBytes)
			default:
				m, f = official.ReadCluster("/", b, officialMaxBytes)
			}
			if f != 0 {
				t.Fatalf("%s %d: %v: %s", lib, seed, f, a.Hex)
			}
			want := meaning(t, lonely.ReplaceAllString(a.Text, "\uFFFD\uFFFD\uFFFD"), a.Binary)
			if diff := cmp.Diff(meaning(t, string(m.Payload), hexes(m.Attachments)), want); diff != "" {
				t.Fatalf("%s %d: %s\n%s", lib, seed, a.Hex, diff)
			}
		}
	}
}

// randomJSON is an event as a backend may emit it, with attachments.
func randomJSON(r *rand.Rand) (text string, attachments [][]byte) {
	one := func(list ...string) string { return list[r.IntN(len(list))] }
	word := func() string {
		var s strings.Builder
		for range []int{0, 1, 3, 31, 32, 33, 255, 256, 70_000 * (r.IntN(16) / 15)}[r.IntN(9)] {
			s.WriteString(one("a", "0", `\"`, `\\`, `\/`, `\n`, `\u0001`, `\u007f`, "é", "日", "😀", `\ud83d\ude00`, `\ud800`, `\udc00`, " "))
		}
		return `"` + s.String() + `"`
	}
	number := func() string {
		return one("0", "-0", "-0.0", "1.0", "1e3", "1E+2", "127", "128", "-32", "-33", "-128", "-129", "255", "256", "65535", "65536", "4294967295", "4294967296",
			"-2147483648", "-2147483649", "9007199254740993", "9223372036854775807", "-9223372036854775808", "18446744073709551615", "18446744073709551616",
			"0.1", "-1.5", "1e-7", "1e21", "1.7976931348623157e308", "5e-324", fmt.Sprint(r.Int64()), fmt.Sprint(r.NormFloat64()))
	}
	var value func(depth int) string
	list := func(depth int, item func() string) string {
		items := make([]string, []int{0, 1, 2, 5, 17}[r.IntN(5)]>>min(depth, 3))
		for i := range items {
			items[i] = item()
		}
		return strings.Join(items, one(",", " , "))
	}
	value = func(depth int) string {
		switch kind := r.IntN(10); {
		case kind < 2:
			return one("null", "true", "false")
		case kind < 4:
			return number()
		case kind < 6:
			return word()
		case kind < 7 && len(attachments) < 10:
			b := make([]byte, []int{0, 1, 255, 256, 70_000 * (r.IntN(4) / 3)}[r.IntN(5)])
			attachments = append(attachments, b)
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			return fmt.Sprintf(`{"_placeholder":true,"num":%d}`, len(attachments)-1)
		case kind < 8 || depth > 6:
			return "[" + list(depth, func() string { return value(depth + 1) }) + "]"
		default:
			n := 0
			return "{" + list(depth, func() string {
				n++
				return fmt.Sprintf(`"%d%s:%s`, n, word()[1:], value(depth+1))
			}) + "}"
		}
	}
	text = `["event"`
	for range r.IntN(4) {
		text += "," + value(0)
	}
	return text + "]", attachments
}

// TestOfficialRandomOut: what is written of anything that a backend may emit means the same to the official libraries.
func TestOfficialRandomOut(t *testing.T) {
	p := startOfficial(t)
	for seed := range uint64(250) {
		text, attachments := randomJSON(rand.New(rand.NewPCG(seed, 13)))
		m := &official.Message{Kind: official.Broadcast, UID: "u", Namespace: "/", Payload: []byte(text), Attachments: attachments}
		want := meaning(t, text, hexes(attachments))
		check := func(lib string, b []byte, err error, path ...any) {
			t.Helper()
			if err != nil {
				t.Fatalf("%d: %v: %s", seed, err, text)
			}
			a := p.do(t, map[string]any{"do": "decode", "lib": lib, "hex": hex.EncodeToString(b), "path": path})
			if diff := cmp.Diff(meaning(t, a.Text, a.Binary), want); diff != "" {
				t.Fatalf("%s %d: %s\n%s", lib, seed, text, diff)
			}
		}
		b, err := official.AppendClassic(nil, m)
		check("notepack", b, err, 1, "data")
		if a := p.do(t, officialBytes(t, "mongo", m, "")); len(a.Heard) != 1 {
			t.Fatalf("bson %d: %s: heard %+v %s", seed, text, a.Heard, a.Thrown)
		} else if diff := cmp.Diff(meaning(t, a.Heard[0].Text, a.Heard[0].Binary), want); diff != "" {
			t.Fatalf("bson %d: %s\n%s", seed, text, diff)
		}
		m.Request = "r"
		b, err = official.AppendStreams(nil, m)
		check("msgpack", b, err, "data", "packet", "data")
	}
}
