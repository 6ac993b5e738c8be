package adminui

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestOperatorsGo: an operator whose password or token holds no more is shown nothing soon after, commands nothing, and
// does not come back with the session of before. Others stay.
func TestOperatorsGo(t *testing.T) { synctest.Test(t, testOperatorsGo) }

func testOperatorsGo(t *testing.T) {
	hash, other := hashOf(t, "secret"), hashOf(t, "other")
	everybody := "ann:" + hash + "\nbob:" + hash + ":readonly\n"
	for name, tc := range map[string]struct {
		name, password string
		users          string // from then on
		goes           bool
	}{
		"deleted":               {"ann", "secret", "bob:" + hash + ":readonly\n", true},
		"of another password":   {"ann", "secret", "ann:" + other + "\n", true},
		"read only by now":      {"ann", "secret", "ann:" + hash + ":readonly\n", true},
		"no more read only":     {"bob", "secret", "bob:" + hash + "\n", true},
		"of a token that went":  {"ann", "token", "", true},
		"of a token that stays": {"ann", "good token", everybody, false},
		"as before":             {"ann", "secret", "eve:" + other + "\n" + everybody, false},
	} {
		var users *Users
		var gone atomic.Bool
		h := loneWith(t, func(cfg *Config) {
			users = cfg.Users
			if _, err := users.Take([]byte(everybody)); err != nil {
				t.Fatal(err)
			}
			cfg.Token = func(word string) bool { return word == "good token" || word == "token" && !gone.Load() }
		})
		page := h.login(tc.name, tc.password, "10.0.0.1")
		if page.refused != "" {
			t.Fatalf("%s: %s", name, page.refused)
		}
		time.Sleep(time.Second)
		session := ""
		for _, e := range page.take(t) {
			if e.name == "session" {
				session = e.text(0)
			}
		}
		l := h.crowd("/", "a", 1)[0]
		if gone.Store(true); tc.users != "" {
			if _, err := users.Take([]byte(tc.users)); err != nil {
				t.Fatal(err)
			}
		}
		page.emit("join", "/", "red", l.id())
		synctest.Wait()
		size, _, err := h.node.Room(t.Context(), "/", "red")
		if joined := size > 0; err != nil || joined == tc.goes {
			t.Errorf("%s: a command was carried out: %v, %v", name, joined, err)
		}
		time.Sleep(2 * tellEvery)
		if closed := page.isClosed(); closed != tc.goes {
			t.Errorf("%s: the page is closed: %v", name, closed)
		}
		again := dial(h.hall, "again", Namespace, "10.0.0.1", `{"sessionId":"`+session+`"}`)
		<-again.decided
		if refused := again.refused != ""; session == "" || refused != tc.goes {
			t.Errorf("%s: session %q is refused: %v", name, session, refused)
		}
	}
}

// TestPagesOfOperatorsGo: a page that asks for nothing is closed as well.
func TestPagesOfOperatorsGo(t *testing.T) { synctest.Test(t, testPagesOfOperatorsGo) }

func testPagesOfOperatorsGo(t *testing.T) {
	var users *Users
	h := loneWith(t, func(cfg *Config) { users = cfg.Users })
	page := h.enter()
	if _, err := users.Take([]byte("bob:" + hashOf(t, "secret") + "\n")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * tellEvery)
	if !page.isClosed() {
		t.Error("the page is shown all that happens still")
	}
}
