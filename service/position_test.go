package service

import (
	"encoding/base64"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestPositionsAreWhatTheirTokensSay: of any nodes, and no token is longer than a bound. What is cut, made longer, of
// another scope or has a node twice is none.
func TestPositionsAreWhatTheirTokensSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scope := Scope{Namespace: rapid.String().Draw(t, "namespace")}.hash()
		nodes := rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Za-z0-9_-]{4}`), 0, maxHeard, rapid.ID).Draw(t, "nodes")
		var want position
		for _, name := range nodes {
			want = append(want, heard{Incarnation{NodeID(name), rapid.Uint64().Draw(t, "run")}, rapid.Uint64().Draw(t, "next")})
		}
		token := want.token(scope)
		got, err := parsePosition(token, scope)
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if err != nil {
			t.Error(err)
		}
		if len(token) > 2000 {
			t.Errorf("a token of %d characters", len(token))
		}
		wrong := map[string]string{"of another scope": want.token([8]byte{1}), "longer": token + "AAAA"}
		if len(want) > 0 {
			wrong["cut"] = token[:len(token)-4]
			wrong["of a node twice"] = append(want, want[0]).token(scope)
		}
		if len(want) == maxHeard {
			wrong["of too many"] = append(want, heard{Incarnation: Incarnation{Node: "????"}}).token(scope)
		}
		for what, token := range wrong {
			if p, err := parsePosition(token, scope); !errors.Is(err, ErrToken) {
				t.Errorf("%s: %v, %v", what, p, err)
			}
		}
	})
}

// TestWatchGoesOnFromItsOwnRunOnly: a token that speaks of another run, of other nodes too, or of none is worth a
// snapshot.
func TestWatchGoesOnFromItsOwnRunOnly(t *testing.T) {
	n := newNode(t, Config{NodeID: "self"})
	connect(t, n, "/")
	scope := Scope{Namespace: "/", All: true}
	keep := watch(t, n, scope, "")
	here, err := parsePosition(steps(t, keep, 2)[1].Token, scope.hash())
	if err != nil || len(here) != 1 || here[0].Incarnation != n.self {
		t.Fatalf("the token of a node says %v, %v", here, err)
	}
	wantEqual(t, "its own", steps(t, watch(t, n, scope, here.token(scope.hash())), 1)[0].Synced, true)
	other := here[0]
	other.Node = "peer"
	earlier := here[0]
	earlier.Run--
	for what, p := range map[string]position{"another run": {earlier}, "other nodes": {here[0], other}, "another node": {other}, "none": nil} {
		got := steps(t, watch(t, n, scope, p.token(scope.hash())), 3)
		wantEqual(t, what, []any{got[0].Reset, len(got[1].Snapshot), got[2].Synced}, []any{ResetTokenExpired, 1, true})
	}
}

func FuzzToken(f *testing.F) {
	scope := Scope{Namespace: "/"}.hash()
	f.Add(position{{Incarnation{"node", 1}, 2}, {Incarnation{"peer", 3}, 4}}.token(scope))
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		p, err := parsePosition(token, scope)
		if err != nil {
			return
		}
		if len(p) > maxHeard {
			t.Errorf("%d nodes", len(p))
		}
		raw, _ := base64.RawURLEncoding.DecodeString(token) // line breaks and the last bits of a token mean nothing
		if again := p.token(scope); again != base64.RawURLEncoding.EncodeToString(raw) {
			t.Errorf("%q is read as %v, which is %q", token, p, again)
		}
	})
}
