package grpcapi

import (
	"context"
	"crypto/sha256"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// maxAsks is how many server-side emits of one handler stream may wait for replies. More are refused and not held up:
// the replies that others wait for come on this stream too.
const maxAsks = 256

func (e *emitService) ServerSideEmit(ctx context.Context, r *foyerv1.ServerSideEmitRequest) (*foyerv1.ServerSideEmitResponse, error) {
	return e.s.serverSideEmit(ctx, r, nil, func() {})
}

// serverSideEmit is ServerSideEmit, as a call and as a command of from, which does not hear it. told is called before
// it waits for anybody; more than once, or never when it waits for nobody.
func (s *Server) serverSideEmit(ctx context.Context, r *foyerv1.ServerSideEmitRequest, from handler, told func()) (*foyerv1.ServerSideEmitResponse, error) {
	e, err := serverSideOf(ctx, r, s.limits.MaxPayloadBytes)
	if err != nil {
		return nil, err
	}
	if s.limits.Tracer != nil {
		e.Trace = service.TraceOf(ctx)
	}
	var content [sha256.Size]byte
	if r.GetRequestId() != "" {
		content = contentOf(&foyerv1.ServerSideEmitRequest{
			Namespace: e.Namespace, Payload: r.GetPayload(), WantsReplies: r.GetWantsReplies(),
		})
	}
	key := requestKey{callerOf(ctx), "ServerSideEmit", r.GetRequestId()}
	return outliving(ctx, s, key, content, told, func(ctx context.Context) (*foyerv1.ServerSideEmitResponse, error) {
		result, err := s.node.ServerSideEmit(ctx, from, e, told)
		if err != nil {
			return nil, err
		}
		return serverSideResponse(&result), nil
	}, func(first *foyerv1.ServerSideEmitResponse) *foyerv1.ServerSideEmitResponse {
		return &foyerv1.ServerSideEmitResponse{
			Matched: first.Matched, Replies: first.Replies, Coverage: first.Coverage, Deduplicated: true,
		}
	})
}

// serverSideResponse has the replies of handlers, whose size the service bounds. A reply without arguments is one that
// was invalid: it is missing, like one that did not come.
func serverSideResponse(r *service.ServerSideResult) *foyerv1.ServerSideEmitResponse {
	resp := &foyerv1.ServerSideEmitResponse{Matched: count(r.Matched), Coverage: coverageMessage(r.Coverage)}
	for i := range r.Replies {
		reply := &r.Replies[i]
		if reply.Payload == nil {
			continue
		}
		if reply.Node == "" { // a server on Node gives one value
			value := &structpb.Value{}
			if protojson.Unmarshal(reply.Payload[1:len(reply.Payload)-1], value) == nil {
				resp.Replies = append(resp.Replies, &foyerv1.ServerSideReply{Value: value})
			} else { // or none
				resp.Replies = append(resp.Replies, &foyerv1.ServerSideReply{})
			}
			continue
		}
		resp.Replies = append(resp.Replies, &foyerv1.ServerSideReply{
			NodeId: string(reply.Node), HandlerId: text(reply.Handler), Args: argsMessageOf(reply.Payload, reply.Attachments),
		})
	}
	return resp
}

func tooManyAsks() error {
	return fail(service.Exhausted, foyerv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, "command.server_side_emit",
		"%d of this stream wait for replies, and no more may", maxAsks)
}

// asks counts what waits for replies.
type asks struct {
	mu   sync.Mutex
	open int
	none chan struct{} // closed when open is 0 again; nil before the first
}

// begin counts one more; false: there are too many.
func (a *asks) begin() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == maxAsks {
		return false
	}
	if a.open == 0 {
		a.none = make(chan struct{})
	}
	a.open++
	return true
}

func (a *asks) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open--; a.open == 0 {
		close(a.none)
	}
}

// any says whether something waits for replies.
func (a *asks) any() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open > 0
}

// wait blocks until nothing waits for replies, or ctx or the handler ends.
func (a *asks) wait(ctx context.Context, done <-chan struct{}) {
	a.mu.Lock()
	open, none := a.open, a.none
	a.mu.Unlock()
	if open == 0 {
		return
	}
	select {
	case <-none:
	case <-done:
	case <-ctx.Done():
	}
}
