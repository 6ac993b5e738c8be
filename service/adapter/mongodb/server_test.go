package mongodb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// TestJudge: a server that says no to a user refuses it. One that does not answer is away, whatever it was asked.
func TestJudge(t *testing.T) {
	for _, test := range []struct {
		err     error
		refused bool
	}{
		{mongo.CommandError{Code: codeWrongUser}, true},
		{mongo.CommandError{Code: codeUnauthorized}, true},
		{errors.New("auth error: the server's answer is not signed as it should be"), true},
		{fmt.Errorf("auth error: %w", context.DeadlineExceeded), false},
		{fmt.Errorf("auth error: %w", io.EOF), false},
		{fmt.Errorf("auth error: %w", &net.OpError{Op: "read", Err: errors.New("connection reset")}), false},
		{context.DeadlineExceeded, false},
	} {
		if _, refused := errors.AsType[*Refusal](Judge(test.err)); refused != test.refused {
			t.Errorf("%v: refused: %t", test.err, refused)
		}
	}
}
