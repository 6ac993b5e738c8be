package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
)

// nodesCommand asks one node for those of its cluster. It is an ordinary client of the API.
type nodesCommand struct {
	API          string        `name:"api" default:"127.0.0.1:50051" placeholder:"ADDR" help:"The gRPC API of the node to ask. Default ${default}."`
	APITLS       bool          `name:"api-tls" help:"The API is served by TLS."`
	APITokenFile string        `name:"api-token-file" type:"path" placeholder:"FILE" help:"Bearer tokens of the API, of which the first is used."`
	Insecure     bool          `help:"Take any certificate of the API."`
	Patience     time.Duration `default:"5s" placeholder:"TIME" help:"How long the node may take to answer. Default ${default}."`
	Output       string        `short:"o" default:"table" enum:"table,json" placeholder:"FORMAT" help:"table or json. Default ${default}."`
}

// Run prints the nodes.
func (c *nodesCommand) Run(ctx context.Context) error {
	creds := insecure.NewCredentials()
	if c.APITLS {
		creds = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.Insecure}) //nolint:gosec // asked for
	}
	if c.APITokenFile != "" {
		tokens, err := readTokens("--api-token-file", c.APITokenFile)
		if err != nil {
			return err
		}
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+tokens[0])
	}
	conn, err := grpc.NewClient("passthrough:///"+c.API, grpc.WithTransportCredentials(creds))
	if err != nil {
		return fmt.Errorf("--api: %w", err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, c.Patience)
	defer cancel()
	nodes, err := foyerv1.NewNodeServiceClient(conn).ListNodes(ctx, &foyerv1.ListNodesRequest{})
	if err != nil {
		return c.explain(err)
	}
	if c.Output == "json" {
		text, err := protojson.Marshal(nodes)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(os.Stdout, "%s\n", text)
		return err
	}
	return writeNodes(os.Stdout, nodes.GetNodes())
}

// explain says why there is no answer.
func (c *nodesCommand) explain(err error) error {
	s := status.Convert(err)
	switch s.Code() {
	case codes.Unavailable, codes.DeadlineExceeded:
		return fmt.Errorf("--api: nobody answers at %s; is it the API of a node, and does it speak TLS (--api-tls)?", c.API)
	case codes.Unauthenticated:
		return fmt.Errorf("--api-token-file: the node at %s knows no such token", c.API)
	}
	return fmt.Errorf("--api: the node at %s says: %s", c.API, s.Message())
}

// writeNodes writes a table for people.
func writeNodes(w io.Writer, nodes []*foyerv1.Node) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "NODE\tSTATE\tFOR\tHEARD\tVERSION\tPEER ADDRESS")
	for _, n := range nodes {
		state := strings.ToLower(strings.TrimPrefix(n.GetState().String(), "NODE_STATE_"))
		heard := "never"
		switch {
		case n.GetAnswers():
			heard = "it answers"
		case n.GetHeardAge() != nil:
			heard = ageText(n.GetHeardAge()) + " ago"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", n.GetNodeId(), state, ageText(n.GetStateAge()), heard, orDash(n.GetVersion()), orDash(n.GetPeerAddress()))
	}
	return table.Flush()
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// ageText is a time in its largest unit, as 3s, 12m or 5h; of more than two days, in days.
func ageText(age *durationpb.Duration) string {
	if age == nil {
		return "-"
	}
	d := age.AsDuration()
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}
