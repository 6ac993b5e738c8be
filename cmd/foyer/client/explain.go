package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	foyerv1 "foyer/gen/foyer/v1"
)

// explainCommand says whom an emit would reach.
type explainCommand struct {
	target
	Socket   string `env:"-" placeholder:"ID" help:"Explain this socket, wherever it is, also when it is gone."`
	User     string `env:"-" placeholder:"NAME" help:"Explain the sockets of this user, also those that are gone."`
	Volatile bool   `env:"-" help:"As for a volatile emit."`
	Bytes    int    `env:"-" placeholder:"N" help:"As for an event of this size. Default: a small one."`
	Sample   int    `env:"-" default:"20" placeholder:"N" help:"Show so many at most of those that would not get it; 500 at most. Default ${default}."`
	format
	connection
}

// Validate is called by kong.
func (c *explainCommand) Validate() error {
	switch {
	case c.Socket != "" && c.User != "":
		return errors.New("--socket and --user exclude each other")
	case c.Bytes < 0 || c.Bytes > 1<<30:
		return fmt.Errorf("--bytes: %d is not between 0 and 1GiB", c.Bytes)
	case c.Sample < 1 || c.Sample > 500:
		return fmt.Errorf("--sample: %d is not between 1 and 500", c.Sample)
	}
	return c.target.Validate()
}

// Run prints whom an emit would reach, whom not, and why.
func (c *explainCommand) Run(ctx context.Context, k *kong.Context, sys *System) error {
	at, err := c.open(k, sys)
	if err != nil {
		return err
	}
	defer at.close()
	q := &foyerv1.ExplainRequest{
		Target: c.target.target(), Options: &foyerv1.EmitOptions{Volatile: c.Volatile},
		EventBytes: int32(c.Bytes), SampleSize: int32(c.Sample), //nolint:gosec // both are checked
	}
	switch {
	case c.Socket != "":
		q.Who = &foyerv1.ExplainRequest_SocketId{SocketId: c.Socket}
	case c.User != "":
		q.Who = &foyerv1.ExplainRequest_UserId{UserId: c.User}
	}
	got, err := call(ctx, at, foyerv1.NewSocketServiceClient(at.conn).Explain, q)
	if err != nil {
		return err
	}
	if c.json() {
		err = printLines(sys, got)
	} else {
		err = printExplained(sys, got)
	}
	if err != nil {
		return err
	}
	if q.GetWho() != nil && missing(got.GetCoverage()) == "" {
		for _, one := range got.GetAsked() {
			if wouldGet(one.GetVerdict()) {
				return at.verdict(1, got.GetCoverage())
			}
		}
		if len(got.GetAsked()) == 0 { // a socket that nobody knows has a verdict
			return failure(Nobody, "--user: no node has a socket of %q, and none remembers one", c.User)
		}
		return failure(Nobody, "who was asked for would not get it")
	}
	return at.verdict(got.GetReached(), got.GetCoverage())
}

func wouldGet(v foyerv1.Verdict) bool {
	return v == foyerv1.Verdict_VERDICT_REACHED || v == foyerv1.Verdict_VERDICT_ON_PEER
}

var verdictWords = map[foyerv1.Verdict]string{
	foyerv1.Verdict_VERDICT_REACHED:          "would get it",
	foyerv1.Verdict_VERDICT_NOT_IN_ROOMS:     "in none of the rooms",
	foyerv1.Verdict_VERDICT_EXCEPTED:         "left out by --except",
	foyerv1.Verdict_VERDICT_OTHER_NAMESPACE:  "in another namespace",
	foyerv1.Verdict_VERDICT_QUEUE_FULL:       "queue is full",
	foyerv1.Verdict_VERDICT_DROPPED_VOLATILE: "cannot take a volatile event right now",
	foyerv1.Verdict_VERDICT_CLOSING:          "link is closing",
	foyerv1.Verdict_VERDICT_NOT_LOCAL:        "at another node, and the target is local",
	foyerv1.Verdict_VERDICT_NODE_UNREACHABLE: "node does not answer",
	foyerv1.Verdict_VERDICT_DISCONNECTED:     "not connected any more",
	foyerv1.Verdict_VERDICT_UNKNOWN:          "no node knows it: it was never there, or it went too long ago",
	foyerv1.Verdict_VERDICT_ON_PEER:          "at a Socket.IO server on Node, which is given it",
}

// printExplained prints who was asked for, the counts, and some of those that would not get it.
func printExplained(sys *System, e *foyerv1.ExplainResponse) error {
	if err := printExplanations(sys, e.GetAsked(), ""); err != nil {
		return err
	}
	text := fmt.Sprintf("%d of %s that the target means would get it.", e.GetReached(), count(int(e.GetMatched()), "socket"))
	// Who reads standard output alone must not take this for the whole cluster.
	if m := missing(e.GetCoverage()); m != "" {
		text += " " + m + "; the sockets there are not counted."
	}
	if u := uncounted(e.GetCoverage()); u != "" {
		text += " " + u + "."
	}
	if err := sys.print([]byte(clean(text) + "\n")); err != nil {
		return err
	}
	counts := sys.table("SOCKETS", "VERDICT").numbers(0)
	for _, v := range e.GetVerdicts() {
		if err := counts.add(cells(strconv.Itoa(int(v.GetCount())), verdictWords[v.GetVerdict()])...); err != nil {
			return err
		}
	}
	if len(e.GetVerdicts()) > 0 {
		if err := counts.flush(); err != nil {
			return err
		}
	}
	if len(e.GetNodes()) > 1 {
		nodes := sys.table("NODE", "MEANT", "WOULD GET IT", "QUEUE NEARLY FULL").numbers(1, 2, 3)
		for _, n := range e.GetNodes() {
			if err := nodes.add(cells(n.GetNodeId(), strconv.Itoa(int(n.GetMatched())), strconv.Itoa(int(n.GetReached())), strconv.Itoa(int(n.GetNearlyFull())))...); err != nil {
				return err
			}
		}
		if err := nodes.flush(); err != nil {
			return err
		}
	}
	return printExplanations(sys, e.GetSample(), "Some of those that would not, or soon will not:\n")
}

func printExplanations(sys *System, all []*foyerv1.Explanation, before string) error {
	if len(all) == 0 {
		return nil
	}
	if err := sys.print([]byte(before)); err != nil {
		return err
	}
	t := sys.table("SOCKET", "NODE", "USER", "VERDICT")
	for _, one := range all {
		s := one.GetSocket()
		row := cells(s.GetId(), s.GetNodeId(), s.GetUserId(), why(one))
		row[3].colour = red
		if wouldGet(one.GetVerdict()) {
			row[3].colour = green
		}
		if err := t.add(row...); err != nil {
			return err
		}
	}
	return t.flush()
}

// why says of one socket whether it would get the event, with what decides it.
func why(e *foyerv1.Explanation) string {
	text, s, link := verdictWords[e.GetVerdict()], e.GetSocket(), e.GetLink()
	waits := fmt.Sprintf("%s of %s", size(int(link.GetWaitingBytes())), size(int(link.GetLimitBytes())))
	in := func(word string, rooms []string) string {
		if len(rooms) == 0 {
			return ""
		}
		return "; " + word + " " + strings.Join(rooms, ", ")
	}
	switch e.GetVerdict() {
	case foyerv1.Verdict_VERDICT_REACHED:
		if link.GetNearlyFull() {
			text += "; its queue is nearly full: " + waits
		}
	case foyerv1.Verdict_VERDICT_NOT_IN_ROOMS:
		text += in("it is in", s.GetRooms())
	case foyerv1.Verdict_VERDICT_EXCEPTED:
		text += ": " + strings.Join(e.GetExceptRooms(), ", ")
	case foyerv1.Verdict_VERDICT_OTHER_NAMESPACE:
		text += ": " + s.GetNamespace()
	case foyerv1.Verdict_VERDICT_QUEUE_FULL:
		text += ": " + waits
		if link.GetFullSince() != nil {
			text += " for " + since(link.GetFullSince())
		}
	case foyerv1.Verdict_VERDICT_DISCONNECTED:
		d := e.GetDeparture()
		reason := d.GetDetail()
		if reason == "" {
			reason = word(d.GetReason().String(), "DISCONNECT_REASON_")
		}
		text += ": it went " + since(d.GetTime()) + " ago (" + reason + ")" + in("it was in", s.GetRooms())
	}
	if link.GetPaused() {
		text += "; it is not read, since too much of its own waits"
	}
	return text
}
