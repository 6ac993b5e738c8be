package client

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	foyerv1 "foyer/gen/foyer/v1"
)

// handlersCommand lists handlers.
type handlersCommand struct {
	Local bool `env:"-" help:"Those that are attached to the node that is asked alone."`
	Limit int  `env:"-" placeholder:"N" help:"At most so many. Default: all."`
	format
	connection
}

// Validate is called by kong.
func (c *handlersCommand) Validate() error {
	if c.Limit < 0 {
		return failure(Usage, "--limit: %d is not above zero", c.Limit)
	}
	return nil
}

// Run prints the handlers and what each has to do.
func (c *handlersCommand) Run(ctx context.Context, k *kong.Context, sys *System) error {
	at, err := c.open(k, sys)
	if err != nil {
		return err
	}
	defer at.close()
	client := foyerv1.NewHandlerServiceClient(at.conn)
	t := sys.table("NODE", "GROUP", "HANDLER", "NAMESPACES", "TAKES", "SOCKETS", "IN FLIGHT", "OLDEST", "QUEUED", "FOR", "ADDRESS").numbers(5, 6, 7, 8, 9)
	coverage := new(foyerv1.Coverage)
	n, err := pages(at, c.Limit, "handlers", func(token string, size int32) (int, string, error) {
		got, err := call(ctx, at, client.ListHandlers, &foyerv1.ListHandlersRequest{Local: c.Local, PageSize: size, PageToken: token})
		if err != nil {
			return 0, "", err
		}
		if c.json() {
			err = printLines(sys, got.GetHandlers()...)
		} else {
			for _, h := range got.GetHandlers() {
				if err = t.add(handlerRow(h)...); err != nil {
					break
				}
			}
			if err == nil {
				err = t.flush()
			}
		}
		widen(coverage, got.GetCoverage())
		return len(got.GetHandlers()), got.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	return at.listed(n, coverage, "no handler is attached")
}

func handlerRow(h *foyerv1.AttachedHandler) []cell {
	r := h.GetRegistration()
	row := cells(h.GetNodeId(), r.GetGroup(), r.GetHandlerId(), strings.Join(r.GetNamespaces(), " "), takes(r),
		strconv.Itoa(int(h.GetSockets())), fmt.Sprintf("%d of %d", h.GetInFlight(), r.GetMaxInFlight()), age(h.GetOldestUnanswered()),
		strconv.Itoa(int(h.GetQueued())), since(h.GetAttachedAt()), h.GetAddress())
	if h.GetQueuedBytes() > 0 {
		row[8].text += ", " + size(int(h.GetQueuedBytes()))
	}
	if h.GetDraining() {
		row[4] = cell{"nothing more: it drains", yellow}
	}
	return row
}

// takes says in a few words what a handler is for.
func takes(r *foyerv1.Register) string {
	events := "all other events"
	if len(r.GetEvents()) > 0 {
		events = strings.Join(r.GetEvents(), " ")
	}
	if r.GetObserver() {
		return "copies of " + strings.Replace(events, "all other", "all", 1)
	}
	if r.GetDecideConnects() {
		events += ", connects"
	}
	if r.GetServerSideEvents() {
		events += ", events of servers"
	}
	return events
}
