package grpcapi

import (
	"time"

	"google.golang.org/grpc/codes"

	"foyer/service"
)

// Call is a call that was let in and has ended.
type Call struct {
	Method string // without the slash at the front, or MethodOther
	Stream bool   // it is no request with one answer
	Code   codes.Code
	Took   time.Duration
	Trace  string // the id of the trace that it is part of; "": none that is recorded
}

// MethodOther stands for all methods that are not in the API, as callers may ask for any name.
const MethodOther = "other"

// methodsOf are the methods by their names on the wire.
func (s *Server) methodsOf() map[string]Call {
	all := map[string]Call{}
	for service, info := range s.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			name := service + "/" + m.Name
			all["/"+name] = Call{Method: name, Stream: !s.once[name]}
		}
	}
	return all
}

// called tells who asked for it that a call has ended.
func (s *Server) called(wire string, code codes.Code, took time.Duration, step *service.Trace) {
	if s.cfg.Called == nil {
		return
	}
	c, ok := s.methods[wire]
	if !ok {
		c = Call{Method: MethodOther, Stream: true}
	}
	c.Code, c.Took, c.Trace = code, took, step.ID()
	s.cfg.Called(c)
}

// Limits are the bounds of the API for all callers together.
func (s *Server) Limits() []service.Limit {
	g, d := s.gate, s.dedup
	g.mu.Lock()
	conns := len(g.conns)
	g.mu.Unlock()
	d.mu.Lock()
	requests, bytes := len(d.requests), d.bytes
	d.mu.Unlock()
	return []service.Limit{
		{Name: "api_connections", Used: int64(conns), Most: g.max.Load()},
		{Name: "api_request_bytes", Used: g.held.Load(), Most: g.heldBytes},
		{Name: "request_ids", Used: int64(requests), Most: dedupEntries},
		{Name: "request_id_bytes", Used: int64(bytes), Most: dedupBytes},
	}
}
