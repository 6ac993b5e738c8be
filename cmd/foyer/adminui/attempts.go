package adminui

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// An address, of IPv6 the first 64 bits, has so many attempts at once, and one more each sixth part of a minute.
	attemptsAtOnce = 10
	attemptEvery   = 6 * time.Second
	// So many addresses are remembered for their attempts, each for an hour or two; as many as that again may be.
	maxAddresses = 4096
	remembered   = time.Hour
	// So many wait for their turn, each for so long: the hall wants an answer within 5 s, and the costliest hash takes two.
	maxWaiting      = 32
	attemptPatience = 3 * time.Second
	// To check a password takes a tenth of a second of a processor, or more. The panel checks one at a time and then rests
	// three times as long, but no longer than maxRest. So strangers cost a quarter of a processor at most, and more only
	// where a check takes over a third of a second.
	restTimes = 3
	maxRest   = time.Second
)

// attempts are the logins that wait until their password is looked at. Everybody who reaches the admin address can try, so
// the turns are shared out: first come the addresses that an operator has logged in from, then those that have tried
// least, then who has waited longest. Owned by Run.
type attempts struct {
	waiting []*attempt // whose turn is first comes first
	// Addresses are in fresh, or in old. What is old is forgotten as a whole, when fresh becomes old.
	fresh, old map[netip.Addr]tries
	turned     time.Time // when it did last
}

// tries are the attempts of an address.
type tries struct {
	made   int
	fullAt time.Time // when it has all its attempts again
}

// attempt is a login that waits.
type attempt struct {
	decision
	name, password string
	known          bool // an operator has logged in from there
	before         int  // attempts of its address that are remembered
	until          time.Time
}

// ask has an attempt wait for its turn. It returns the one that is not looked at for that: nil, the attempt itself, whose
// address has used its own up, or another that comes behind it where there is no room for both.
func (a *attempts) ask(t *attempt, now time.Time) (out *attempt) {
	at := origin(t.socket.GetHandshake().GetAddress())
	had, ok := a.fresh[at]
	if !ok {
		had = a.old[at]
	}
	if had.fullAt.Before(now) {
		had.fullAt = now
	}
	if had.fullAt.Sub(now) > (attemptsAtOnce-1)*attemptEvery {
		return t
	}
	t.before, t.until = had.made, now.Add(attemptPatience)
	a.remember(at, tries{had.made + 1, had.fullAt.Add(attemptEvery)}, now)
	place, _ := slices.BinarySearchFunc(a.waiting, t, func(one, other *attempt) int {
		switch {
		case one.known != other.known && one.known:
			return -1
		case one.known != other.known:
			return 1
		case one.before > other.before:
			return 1
		}
		return -1 // it has waited longer
	})
	a.waiting = slices.Insert(a.waiting, place, t)
	if len(a.waiting) > maxWaiting {
		out = a.waiting[maxWaiting]
		a.waiting = slices.Delete(a.waiting, maxWaiting, maxWaiting+1)
	}
	return out
}

func (a *attempts) remember(at netip.Addr, has tries, now time.Time) {
	if len(a.fresh) >= maxAddresses || now.Sub(a.turned) >= remembered {
		a.fresh, a.old, a.turned = map[netip.Addr]tries{}, a.fresh, now
	}
	a.fresh[at] = has
}

// next is whose turn it is; nil: nobody waits.
func (a *attempts) next() *attempt {
	if len(a.waiting) == 0 {
		return nil
	}
	return a.waiting[0]
}

// impatient is whose patience ends first; nil: nobody waits.
func (a *attempts) impatient() *attempt {
	if len(a.waiting) == 0 {
		return nil
	}
	return slices.MinFunc(a.waiting, func(x, y *attempt) int { return x.until.Compare(y.until) })
}

func (a *attempts) remove(t *attempt) {
	a.waiting = slices.DeleteFunc(a.waiting, func(one *attempt) bool { return one == t })
}

// origin is by what an address is counted. What is none is one address.
func origin(address string) netip.Addr {
	at, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Addr{}
	}
	at = at.Unmap().WithZone("")
	if at.Is6() {
		if p, err := at.Prefix(64); err == nil {
			at = p.Addr()
		}
	}
	return at
}
