package adminui

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// An address may make attemptsAtOnce attempts at once. After that it may make one attempt per attemptEvery. IPv6
	// addresses with the same first 64 bits count as one address, because one machine often owns all of them.
	attemptsAtOnce = 10
	attemptEvery   = 6 * time.Second
	// The attempts of an address are remembered for one to two hours, in two maps of at most maxAddresses entries each.
	maxAddresses = 4096
	remembered   = time.Hour
	// At most maxWaiting logins are queued. A login is refused when it has been queued for attemptPatience: the hall
	// closes a connect that is not answered within 5 s, and the check of the most expensive hash takes 2 s of that.
	maxWaiting      = 32
	attemptPatience = 3 * time.Second
	// One password check takes 100 ms of a processor, or more. The panel makes one check at a time. After a check it
	// pauses for restTimes the duration of the check, but not longer than maxRest. So strangers use at most a quarter of a
	// processor; they use more only where one check takes longer than a third of a second.
	restTimes = 3
	maxRest   = time.Second
)

// attempts is the queue of logins whose password is not checked yet. Anyone who can reach the admin address can fill
// it, so it is ordered: an address from which an operator has logged in before goes first, then the address with fewer
// earlier attempts, then the older login. Owned by Run.
type attempts struct {
	waiting []*attempt // in the order of their turns
	// An address is in fresh or in old. When fresh is full or one hour old, it replaces old and a new fresh begins.
	fresh, old map[netip.Addr]tries
	turned     time.Time // when that last happened
}

// tries counts the attempts of one address.
type tries struct {
	made   int
	fullAt time.Time // when it may make attemptsAtOnce in a row again
}

// attempt is a login that waits.
type attempt struct {
	decision
	name, password string
	known          bool      // an operator has logged in from there
	before         int       // earlier attempts of its address that are remembered
	until          time.Time // when it is refused, unless its turn has come
}

// ask queues an attempt. It returns the attempt that must be refused, or nil. That is this attempt when its address has
// made too many, and the last one in the queue when the queue is full.
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
		return -1 // one has waited longer
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

// next returns the attempt whose turn it is, or nil when none waits.
func (a *attempts) next() *attempt {
	if len(a.waiting) == 0 {
		return nil
	}
	return a.waiting[0]
}

// impatient returns the attempt that has to be answered first, or nil when none waits.
func (a *attempts) impatient() *attempt {
	if len(a.waiting) == 0 {
		return nil
	}
	return slices.MinFunc(a.waiting, func(x, y *attempt) int { return x.until.Compare(y.until) })
}

func (a *attempts) remove(t *attempt) {
	a.waiting = slices.DeleteFunc(a.waiting, func(one *attempt) bool { return one == t })
}

// origin returns what an address counts as. All texts that are no address count as one.
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
