package engineio

// arrivingFree is how much of a message may come before the node's budget is asked: small messages touch nothing
// shared.
const arrivingFree = keepScratch

// stillArriving is what the log says of a session whose message had no room before it had come to its end.
const stillArriving = "a large message is still arriving"

// arriving is what the buffer of a message that has not come to its end holds of the node's budget. A client that
// begins a message and stops keeps its buffer for as long as its link lasts, and many such clients may come at once.
type arriving struct {
	budget Budget // nil: no bound
	taken  int
}

// cover takes what a buffer of so many bytes needs beside what is taken. False: the budget has refused.
func (a *arriving) cover(bytes int) bool {
	more := bytes - arrivingFree - a.taken
	if more <= 0 || a.budget == nil {
		return true
	}
	if !a.budget.Take(more) {
		return false
	}
	a.taken += more
	return true
}

// giveBack is for a buffer that is gone or handed on.
func (a *arriving) giveBack() {
	if a.taken > 0 {
		a.budget.Give(a.taken)
		a.taken = 0
	}
}
