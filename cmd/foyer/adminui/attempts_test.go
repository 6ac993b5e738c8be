package adminui

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

func attemptFrom(address string) *attempt {
	return &attempt{decision: decision{socket: &foyerv1.Socket{Handshake: &foyerv1.Handshake{Address: address}}}}
}

// TestAttempts: each address, of IPv6 each /64, has a number of attempts and gets them back. Known addresses come
// first, then those that have tried least. What waits and what is remembered is bounded.
func TestAttempts(t *testing.T) {
	now := time.Now()
	a := &attempts{}
	allowed := func(address string, at time.Time) bool {
		one := attemptFrom(address)
		out := a.ask(one, at)
		a.waiting = nil
		return out != one
	}
	for _, address := range []string{"10.0.0.1", "2001:db8::%d"} {
		n := 0
		for i := range 3 * attemptsAtOnce {
			at := address
			if i > 0 && address[0] == '2' {
				at = fmt.Sprintf(address, i) // each from another address of one customer
			} else if address[0] == '2' {
				at = "2001:db8::"
			}
			if allowed(at, now) {
				n++
			}
		}
		if n != attemptsAtOnce {
			t.Errorf("%s has %d attempts", address, n)
		}
	}
	if !allowed("2001:db8:0:1::", now) {
		t.Error("another customer has none left")
	}
	if allowed("10.0.0.1", now.Add(attemptEvery-1)) || !allowed("10.0.0.1", now.Add(attemptEvery)) || allowed("10.0.0.1", now.Add(attemptEvery)) {
		t.Error("an attempt does not come back after its time")
	}

	a = &attempts{}
	many, known := []*attempt{}, attemptFrom("10.0.0.9")
	known.known = true
	for range 3 {
		many = append(many, attemptFrom("10.0.0.1"))
		a.ask(many[len(many)-1], now)
	}
	one := attemptFrom("10.0.0.2")
	a.ask(one, now.Add(time.Second))
	a.ask(known, now.Add(2*time.Second))
	for i, want := range []*attempt{known, many[0], one, many[1], many[2]} {
		if a.next() != want {
			t.Errorf("attempt %d is of %v", i, a.next().socket)
		}
		if i == 0 && a.impatient() != many[0] {
			t.Error("who waits longest is not the first to have waited too long")
		}
		a.remove(a.next())
	}

	for i := range maxWaiting {
		a.ask(attemptFrom(fmt.Sprintf("10.1.0.%d", i)), now)
	}
	if late := attemptFrom("10.1.1.1"); a.ask(late, now) != late {
		t.Error("there is room for one more")
	}
	a.remove(a.waiting[4])
	again := attemptFrom("10.1.0.1")
	if out := a.ask(again, now); out != nil {
		t.Errorf("there is no room for %v", out)
	}
	if out := a.ask(attemptFrom("10.1.1.2"), now); out != again {
		t.Errorf("%v goes, and not who has tried before", out)
	}
	for i := range 5 * maxAddresses {
		a.ask(attemptFrom(fmt.Sprintf("10.%d.%d.1", i/256, i%256)), now)
	}
	if n := len(a.fresh) + len(a.old); n > 2*maxAddresses {
		t.Errorf("%d addresses are remembered", n)
	}
	for i := range 2 {
		a.ask(attemptFrom("10.255.0.1"), now.Add(time.Duration(i+1)*remembered))
	}
	if n := len(a.fresh) + len(a.old); n != 2 { // it is in both
		t.Errorf("%d addresses are remembered after an hour", n)
	}
}

// TestStrangersKeepNobodyOut: who tries passwords from many addresses has a bounded part of the processor, and an
// operator comes in all the same, from her own address and from a new one.
func TestStrangersKeepNobodyOut(t *testing.T) { synctest.Test(t, testStrangersKeepNobodyOut) }

func testStrangersKeepNobodyOut(t *testing.T) {
	const takes = 100 * time.Millisecond
	looks := 0
	h := loneWith(t, func(cfg *Config) {
		cfg.Token = func(string) bool { // it is asked before the users
			looks++
			time.Sleep(takes)
			return false
		}
	})
	first := h.enter()
	h.hall.End(first.socket, 1, "")
	began, before := time.Now(), looks
	var strangers []*link
	try := func() {
		for i := range 20 {
			strangers = append(strangers, dial(h.hall, "eve", Namespace, fmt.Sprintf("10.9.0.%d", i), `{"username":"ann","password":"guess"}`))
		}
	}
	for range 3 {
		try()
		time.Sleep(10 * time.Second)
	}
	try()
	synctest.Wait()
	for _, address := range []string{"10.0.0.1", "10.0.0.2"} {
		asked := time.Now()
		if l := h.login("ann", "secret", address); l.refused != "" {
			t.Errorf("ann is refused from %s: %s", address, l.refused)
		}
		if wait := time.Since(asked); wait > 2*(1+restTimes)*takes {
			t.Errorf("ann waited %v at %s", wait, address)
		}
		try()
	}
	time.Sleep(time.Minute)
	share := float64(looks-before) * takes.Seconds() / time.Since(began).Seconds()
	if share > 1.0/(1+restTimes) {
		t.Errorf("passwords took %.2f of a processor", share)
	}
	wrong, many := 0, 0
	for _, l := range strangers {
		<-l.decided
		switch l.refused {
		case wrongCredentials:
			wrong++
		case tooManyAttempts:
			many++
		}
	}
	if wrong+many != len(strangers) || many == 0 || h.count(ReasonLogin) != len(strangers) {
		t.Errorf("of %d strangers %d were wrong and %d too many, and %d are counted", len(strangers), wrong, many, h.count(ReasonLogin))
	}
}
