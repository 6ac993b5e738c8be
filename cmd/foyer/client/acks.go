package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	foyerv1 "foyer/gen/foyer/v1"
)

// answerRunes is how much of an answer a table shows.
const answerRunes = 200

var failureWords = map[foyerv1.AckFailure]string{
	foyerv1.AckFailure_ACK_FAILURE_TIMEOUT:          "no answer in time",
	foyerv1.AckFailure_ACK_FAILURE_DISCONNECTED:     "it disconnected",
	foyerv1.AckFailure_ACK_FAILURE_QUEUE_FULL:       "its queue is full",
	foyerv1.AckFailure_ACK_FAILURE_DROPPED_VOLATILE: "it could not take it right now",
	foyerv1.AckFailure_ACK_FAILURE_NODE_UNREACHABLE: "its node is lost",
}

// collect sends the event, prints each outcome as it comes, and ends with their counts.
func (c *emitCommand) collect(ctx context.Context, to *caller, q *foyerv1.CollectAcksRequest) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout+to.patience)
	defer cancel()
	var matched, outcomes atomic.Int64
	stop := to.sys.wait(func() string { return bar(int(outcomes.Load()), int(matched.Load())) + " have answered" })
	defer stop()
	stream, err := foyerv1.NewEmitServiceClient(to.conn).CollectAcks(ctx, q)
	if err != nil {
		return to.explain(ctx, err)
	}
	t := to.sys.table("SOCKET", "NODE", "AFTER", "ANSWER").numbers(2).least(20, 4, 5)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return failure(Failed, "the node at %s has not told the end of it", to.place.api)
		}
		if err != nil {
			return to.explain(ctx, err)
		}
		if c.json() {
			if err := printLines(to.sys, m); err != nil {
				return err
			}
		}
		switch m := m.GetMessage().(type) {
		case *foyerv1.CollectAcksResponse_Started:
			matched.Store(int64(m.Started.GetMatched()))
		case *foyerv1.CollectAcksResponse_Outcome:
			outcomes.Add(1)
			if c.json() {
				continue
			}
			if err := errors.Join(t.add(outcomeRow(m.Outcome)...), t.flush()); err != nil {
				return err
			}
		case *foyerv1.CollectAcksResponse_Summary:
			stop()
			return c.sum(to, m.Summary)
		}
	}
}

func outcomeRow(o *foyerv1.AckOutcome) []cell {
	row := cells(o.GetSocketId(), o.GetNodeId(), short(o.GetLatency().AsDuration()), "")
	if o.GetArgs() != nil {
		row[3].text = brief(argsText(o.GetArgs()), answerRunes)
		return row
	}
	row[3] = cell{failureWords[o.GetFailure()], red}
	return row
}

// argsText are arguments as JSON.
func argsText(a *foyerv1.Args) string {
	if a.GetValues() != nil {
		if text, err := protojson.Marshal(a.GetValues()); err == nil {
			return string(text)
		}
	}
	return a.GetJson()
}

// sum prints the counts and says whether all have answered.
func (c *emitCommand) sum(to *caller, s *foyerv1.AckSummary) error {
	var lacks []string
	for _, f := range s.GetFailures() {
		lacks = append(lacks, fmt.Sprintf("%d: %s", f.GetCount(), failureWords[f.GetFailure()]))
	}
	if n := s.GetUnattributed(); n > 0 {
		lacks = append(lacks, fmt.Sprintf("%d: known by number only", n))
	}
	if !c.json() {
		text := fmt.Sprintf("%d of %s answered, within %s.\n", s.GetAcked(), count(int(s.GetMatched()), "socket"), short(s.GetTimeoutUsed().AsDuration().Round(time.Millisecond)))
		if err := to.sys.print([]byte(text)); err != nil {
			return err
		}
	}
	return to.verdict(s.GetMatched(), s.GetCoverage(), strings.Join(lacks, "; "))
}
