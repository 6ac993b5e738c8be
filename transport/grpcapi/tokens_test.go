package grpcapi

import (
	"context"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// TestSetTokens: of a token that is known no more the next call is refused and every stream ends, whichever it is; a
// token that stays keeps its streams; a new one is known.
func TestSetTokens(t *testing.T) { bubble(t, testSetTokens) }

func testSetTokens(t *testing.T) {
	n := newFakeNode()
	n.onAttach = func(service.Registration) (handler, error) { return newFakeHandler(), nil }
	n.onWatch = func(service.Scope, string) (watcher, error) {
		return newFakeWatcher(service.WatchStep{Bookmark: true, Token: "1"}), nil
	}
	s, client := start(t, Config{Tokens: []string{"goes", "stays"}}, n)

	// Each opens a stream, which runs when it returns, and gives what waits for its end.
	open := map[string]func(ctx context.Context) (end func() error, err error){
		"Attach": func(ctx context.Context) (func() error, error) {
			stream, err := client.handler.Attach(ctx)
			if err == nil {
				err = stream.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{Namespaces: []string{"/"}}}})
			}
			if err == nil {
				_, err = stream.Recv()
			}
			return func() error { _, err := stream.Recv(); return err }, err
		},
		"Attach that has not registered": func(ctx context.Context) (func() error, error) {
			stream, err := client.handler.Attach(ctx)
			return func() error { _, err := stream.Recv(); return err }, err
		},
		"Watch": func(ctx context.Context) (func() error, error) {
			stream, err := client.watch.Watch(ctx, &foyerv1.WatchRequest{All: true})
			if err == nil {
				_, err = stream.Recv()
			}
			return func() error { _, err := stream.Recv(); return err }, err
		},
		"EmitStream": func(ctx context.Context) (func() error, error) {
			stream, err := client.emit.EmitStream(ctx)
			return func() error { _, err := stream.Recv(); return err }, err
		},
	}
	type running struct {
		name  string
		ended chan error
	}
	var gone, staying []running
	for _, token := range []string{"goes", "stays"} {
		for name, f := range open {
			end, err := f(withToken(t.Context(), token))
			if err != nil {
				t.Fatalf("%s with %s: %v", name, token, err)
			}
			r := running{name, make(chan error, 1)}
			go func() { r.ended <- end() }()
			if token == "goes" {
				gone = append(gone, r)
			} else {
				staying = append(staying, r)
			}
		}
	}
	synctest.Wait()

	if err := s.SetTokens([]string{"new", "stays"}); err != nil {
		t.Fatal(err)
	}
	for _, r := range gone {
		t.Log(r.name)
		wantError(t, <-r.ended, codes.Unauthenticated, foyerv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, "")
	}
	synctest.Wait()
	for _, r := range staying {
		select {
		case err := <-r.ended:
			t.Errorf("%s of a token that stays has ended: %v", r.name, err)
		default:
		}
	}
	info := func(token string) error {
		_, err := client.node.GetInfo(withToken(t.Context(), token), &foyerv1.GetInfoRequest{})
		return err
	}
	for _, token := range []string{"new", "stays"} {
		if err := info(token); err != nil {
			t.Errorf("%s: %v", token, err)
		}
	}
	wantError(t, info("goes"), codes.Unauthenticated, foyerv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, "")
}

// TestTokensDoNotOpenTheAPI: no list of tokens makes the API everybody's, and none closes an open one.
func TestTokensDoNotOpenTheAPI(t *testing.T) {
	for name, c := range map[string]struct{ first, then []string }{
		"none":           {[]string{"a"}, nil},
		"an empty one":   {[]string{"a"}, []string{"b", ""}},
		"an open server": {nil, []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, client := start(t, Config{Tokens: c.first}, newFakeNode())
			if s.SetTokens(c.then) == nil {
				t.Error("is taken")
			}
			_, err := client.node.GetInfo(withToken(t.Context(), "a"), &foyerv1.GetInfoRequest{})
			if err != nil {
				t.Errorf("the token from before: %v", err)
			}
		})
	}
}
