package service

import (
	"slices"
	"sync/atomic"
)

// drop is a reason for which something was dropped or refused.
type drop uint8

const (
	dropVolatile        drop = iota // an emit, for a socket that was not writable
	dropSlow                        // an emit, for a socket whose queue was full
	dropClosing                     // an emit, for a socket whose link was closing
	dropHandlerAbsent               // an event that no handler came for
	dropHandlerSlow                 // a link that its handler took nothing from for too long
	dropHandlerLost                 // an event with a handler that left, or whose own node did; a server-side one not taken
	dropObserver                    // a copy for an observer that is too slow, or has ended
	dropHandlerTooSlow              // a handler that did not read, or made no progress while others of its group did
	dropReplyUnknown                // a reply to no event
	dropDecisionUnknown             // a decision that came too late, or about nothing
	dropDecisionTimeout             // a connect that its handler did not decide
	dropConnectWait                 // a connect that no handler came for
	dropConnectLimit                // a connect beyond the limits
	dropNamespace                   // a connect to a namespace that is not there
	dropAckUnknown                  // an acknowledgement of nothing, or a second one
	dropWatcherSlow                 // a watcher that did not read
	dropAfterEnd                    // an event that crossed the end of its socket
	dropPaused                      // nothing yet: how often a link was paused for what waits for handlers
	dropRejected                    // a connect that its handler rejected
	dropEnd                         // the news of a disconnect that its group was not there to hear
	dropPresence                    // news of a socket elsewhere that is older than what is known
	dropCount
)

var dropNames = [dropCount]string{
	"volatile", "slow", "closing", "handler_absent", "handler_slow", "handler_lost", "observer_slow", "handler_too_slow",
	"reply_unknown", "decision_unknown", "decision_timeout", "connect_wait", "connect_limit", "invalid_namespace",
	"ack_unknown", "watcher_slow", "after_disconnect", "handler_paused", "connect_rejected", "disconnect_unheard", "presence_old",
}

// drops counts what was dropped, by reason.
type drops [dropCount]atomic.Int64

func (d *drops) add(why drop, n int) { d[why].Add(int64(n)) }

func (d *drops) snapshot() map[string]int64 {
	m := map[string]int64{}
	for i := range d {
		if v := d[i].Load(); v > 0 {
			m[dropNames[i]] = v
		}
	}
	return m
}

// DropReasons are all names that Info.Dropped of a Node can have.
func DropReasons() []string {
	names := slices.Clone(dropNames[:])
	for u := range useCount {
		names = append(names, "budget_"+u.String())
	}
	return names
}
