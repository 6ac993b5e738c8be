package service

import "fmt"

// claims are what the handlers of a group have registered for: all of them the same. Immutable.
type claims struct {
	namespaces patterns[struct{}]
	events     map[string]struct{} // none: all that no other group names
	decides    bool
	observer   bool
}

func makeClaims(r *Registration) *claims {
	c := &claims{namespaces: makePatterns(r.Namespaces), decides: r.DecideConnects && !r.Observer, observer: r.Observer}
	if len(r.Events) > 0 {
		c.events = make(map[string]struct{}, len(r.Events))
		for _, e := range r.Events {
			c.events[e] = struct{}{}
		}
	}
	return c
}

// takes says whether an event was named, or all are taken.
func (c *claims) takes(event string) bool {
	if len(c.events) == 0 {
		return true
	}
	_, ok := c.events[event]
	return ok
}

// unlike is the field in which a registration differs from its group's; "": in none.
func (c *claims) unlike(o *claims) string {
	switch {
	case c.observer != o.observer:
		return "observer"
	case !c.namespaces.same(&o.namespaces):
		return "namespaces"
	case !sameKeys(c.events, o.events):
		return "events"
	case c.decides != o.decides:
		return "decide_connects"
	}
	return ""
}

// conflict says what another group has already of what a new one asks for. It costs what the two have registered, and
// never their product.
func (c *claims) conflict(o *claims, holder string) error {
	if c.observer || o.observer {
		return nil
	}
	both, met := c.namespaces.meet(&o.namespaces)
	if !met {
		return nil
	}
	if c.decides && o.decides {
		return claimed("decide_connects", "group %q decides the connects of %q: only one group can", holder, both)
	}
	if len(c.events) == 0 && len(o.events) == 0 {
		return claimed("events", "group %q takes all events of %q that nobody names: name events, or register in that group", holder, both)
	}
	for e := range c.events {
		if _, ok := o.events[e]; ok {
			return claimed("events", "group %q takes the event %q of %q: each event goes to one group, and to observers", holder, e, both)
		}
	}
	return nil
}

const unlikeText = "the handlers of group %q have registered otherwise: all of a group must register alike"

func claimed(field, format string, args ...any) error {
	return &Error{Code: Precondition, Reason: "ALREADY_CLAIMED", Field: "register." + field, Message: fmt.Sprintf(format, args...)}
}
