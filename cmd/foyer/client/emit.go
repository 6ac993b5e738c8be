package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
)

const (
	defaultAckWait = 5 * time.Second
	maxAckWait     = time.Minute
)

// emitCommand sends an event to clients.
type emitCommand struct {
	Event string `arg:"" help:"Its name."`
	Args  string `arg:"" optional:"" help:"Its arguments: a JSON array, such as [\"hello\",{\"n\":1}]. - reads them from standard input. Default: none."`

	target
	Ack        bool          `env:"-" help:"Wait for the acknowledgement of each recipient, and print them as they come."`
	Timeout    time.Duration `env:"-" placeholder:"TIME" help:"With --ack: how long to wait, 60s at most. Default 5s."`
	Volatile   bool          `env:"-" help:"Leave out clients that cannot take it right now."`
	NoCompress bool          `env:"-" name:"no-compress" help:"Do not compress it, on links that can."`
	format
	connection
}

// Validate is called by kong.
func (c *emitCommand) Validate() error {
	switch {
	case c.Event == "":
		return nil // kong tells that it is missing
	case c.Timeout != 0 && !c.Ack:
		return errors.New("--timeout: it is for --ack, which is not given")
	case c.Timeout < 0 || c.Timeout > maxAckWait:
		return fmt.Errorf("--timeout: %v is not between 0 and %v", c.Timeout, maxAckWait)
	}
	if c.Args != "" && c.Args != "-" {
		if err := checkArgs(c.Args); err != nil {
			return err
		}
	}
	return c.target.Validate()
}

func checkArgs(text string) error {
	switch rest := strings.TrimSpace(text); {
	case rest == "":
		return failure(Usage, `ARGS: nothing came; no arguments are []`)
	case !json.Valid([]byte(text)) || rest[0] != '[':
		return failure(Usage, `ARGS: '%s' is not a JSON array, such as '["hello", {"n": 1}]'`, brief(rest, 60))
	}
	return nil
}

// Run sends the event.
func (c *emitCommand) Run(ctx context.Context, k *kong.Context, sys *System) error {
	if c.Args == "-" {
		text, err := sys.readAll(ctx)
		if err != nil {
			return err
		}
		c.Args = text
		if err := checkArgs(c.Args); err != nil {
			return err
		}
	}
	to, err := c.open(k, sys)
	if err != nil {
		return err
	}
	defer to.close()
	payload := &foyerv1.Payload{Event: c.Event}
	if c.Args != "" {
		payload.Args = &foyerv1.Payload_Json{Json: c.Args}
	}
	options := &foyerv1.EmitOptions{Volatile: c.Volatile}
	if c.NoCompress {
		options.Compress = proto.Bool(false)
	}
	if c.Ack {
		if c.Timeout == 0 {
			c.Timeout = defaultAckWait
		}
		return c.collect(ctx, to, &foyerv1.CollectAcksRequest{
			Target: c.target.target(), Payload: payload, Options: options, Timeout: durationpb.New(c.Timeout),
		})
	}
	got, err := call(ctx, to, foyerv1.NewEmitServiceClient(to.conn).Emit, &foyerv1.EmitRequest{Target: c.target.target(), Payload: payload, Options: options})
	if err != nil {
		return err
	}
	if c.json() {
		err = printLines(sys, got)
	} else {
		err = sys.print([]byte("It went to " + count(int(got.GetEnqueued()), "socket") + ".\n"))
	}
	if err != nil {
		return err
	}
	return to.verdict(got.GetMatched(), got.GetCoverage(),
		dropped(got.GetDroppedSlow(), "the queues of their clients were full"),
		dropped(got.GetDroppedVolatile(), "their clients could not take it right now"))
}

func dropped(n int32, why string) string {
	if n == 0 {
		return ""
	}
	copies := "copies were"
	if n == 1 {
		copies = "copy was"
	}
	return fmt.Sprintf("%d %s dropped: %s", n, copies, why)
}

// readAll reads standard input to its end, or until ctx ends.
func (s *System) readAll(ctx context.Context) (string, error) {
	type read struct {
		text []byte
		err  error
	}
	done := make(chan read, 1)
	go func() { // it ends with the input, or with the process
		text, err := io.ReadAll(io.LimitReader(s.In, maxMessage))
		done <- read{text, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return "", failure(Failed, "ARGS: standard input cannot be read: %v", r.err)
		}
		return string(r.text), nil
	case <-ctx.Done():
		return "", failure(Failed, "interrupted")
	}
}
