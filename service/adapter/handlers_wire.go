package adapter

import (
	"time"

	"google.golang.org/protobuf/proto"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// This file has what nodes tell each other of their handlers, as generated code reads and writes it.

const (
	maxRoster   = 1 << 16
	maxPatterns = 10_000 // as many as a node knows
	maxEvents   = 10_000
	maxSlots    = 1 << 20
	namesStep   = 500 // in one item
)

func handlerNewsItem(n *clusterv1.HandlerNews) []byte { return messageItem(10, n) }

func readHandlerNews(b []byte) (n *clusterv1.HandlerNews, skipped Skip, ok bool) {
	n = &clusterv1.HandlerNews{}
	if proto.Unmarshal(b, n) != nil {
		return nil, 0, false
	}
	ok = true
	switch k := n.GetNews().(type) {
	case *clusterv1.HandlerNews_Roster:
		ok = len(k.Roster.GetNumbers()) <= maxRoster
	case *clusterv1.HandlerNews_Claim:
		ok = validRegistration(k.Claim)
	case *clusterv1.HandlerNews_Registered:
		ok = validRegistration(k.Registered)
	case *clusterv1.HandlerNews_Verdict:
		v := k.Verdict
		ok = v.GetNumber() != 0 && (v.GetError() == nil || v.GetError().GetCode() != 0 && v.GetError().GetCode() <= uint32(service.Internal))
	case *clusterv1.HandlerNews_Names:
		ok = validPatterns(k.Names.GetKnown()) && validPatterns(k.Names.GetDecided())
	case nil:
		return nil, SkipUnknown, len(n.ProtoReflect().GetUnknown()) > 0
	}
	return n, 0, ok
}

func validRegistration(r *clusterv1.Registration) bool {
	if len(r.GetReplaces()) > maxRoster || len(r.GetEvents()) > maxEvents || len(r.GetGroup()) > service.MaxNameBytes || len(r.GetId()) > service.MaxNameBytes {
		return false
	}
	for _, e := range r.GetEvents() {
		if len(e) > service.MaxNameBytes {
			return false
		}
	}
	for _, o := range r.GetReplaces() {
		if !validName(service.NodeID(o.GetNode())) {
			return false
		}
	}
	return r.GetNumber() != 0 && r.GetAge() >= 0 && r.GetGroup() != "" && r.GetId() != "" && len(r.GetNamespaces()) > 0 && validPatterns(r.GetNamespaces()) &&
		r.GetMaxInFlight() > 0 && r.GetMaxInFlight() <= maxSlots && r.GetView() <= uint32(service.ViewFull)
}

func validPatterns(list []string) bool {
	if len(list) > maxPatterns {
		return false
	}
	for _, p := range list {
		if service.CheckPattern(p) != nil || service.Canonical(p) != p {
			return false
		}
	}
	return true
}

func registrationMessage(number uint64, h *service.Handler) *clusterv1.Registration {
	r := h.Registration()
	return &clusterv1.Registration{
		Number: number, Age: int64(h.ClaimedFor()), Namespaces: r.Namespaces, Group: r.Group, Id: r.ID, Observer: r.Observer, Events: r.Events,
		DecideConnects: r.DecideConnects, ServerSideEvents: r.ServerSideEvents, MaxInFlight: uint32(r.MaxInFlight), View: uint32(r.View),
	}
}

func registrationOf(m *clusterv1.Registration) service.Registration {
	r := service.Registration{
		Namespaces: m.GetNamespaces(), Group: m.GetGroup(), ID: m.GetId(), Observer: m.GetObserver(), Events: m.GetEvents(),
		DecideConnects: m.GetDecideConnects(), ServerSideEvents: m.GetServerSideEvents(), MaxInFlight: int(m.GetMaxInFlight()),
		View: service.View(m.GetView()),
	}
	if r.View == 0 {
		r.View = service.ViewFull
	}
	return r
}

// claimedAt is when a registration was claimed, by this node's clock.
func claimedAt(m *clusterv1.Registration) time.Time {
	return time.Now().Add(-min(time.Duration(m.GetAge()), 100*365*24*time.Hour))
}
