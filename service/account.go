package service

// accountStep is how much one holder may keep before the node's budget is asked, and in which steps it is asked then.
// An event on its way through an empty queue must not touch a cache line that all cores share; a thousand handlers keep
// at most 64 MiB unseen this way.
const accountStep = 64 << 10

// account is what one queue keeps, and what of that it has taken from the node's budget. The owner's mutex guards it.
type account struct {
	held    int
	charged int
	spent   bool // the budget had no more when it was asked last; what is held was in memory already and counts all the same
	most    int  // what was held when it was spent first
}

func (a *account) add(b *Budget, u Use, bytes int) {
	a.held += bytes
	if d := a.held - a.charged; d >= accountStep {
		was := a.spent
		if a.spent = !b.Take(u, d); a.spent {
			b.Force(u, d)
			if !was {
				a.most = a.held
			}
		}
		a.charged = a.held
	} else if d <= -accountStep || a.held == 0 && a.charged != 0 {
		b.Give(u, -d)
		a.charged, a.spent = a.held, false
	}
}

// close gives everything back.
func (a *account) close(b *Budget, u Use) { a.add(b, u, -a.held) }
