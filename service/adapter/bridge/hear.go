package bridge

import (
	"context"
	"errors"
	"io"
	"time"

	"go.uber.org/zap"

	"foyer/service"
	"foyer/service/adapter/official"
)

// Peers and emitters ask things of all nodes. Every node hears them, and does its own part.

const (
	collectMost   = 6 * time.Minute // more than anybody waits for acknowledgements
	serversWait   = 5 * time.Second // for replies of handlers, as the official servers wait
	maxCollecting = 1024            // emits of peers whose acknowledgements are told at one time
	hearPage      = 1000            // sockets that are looked at in one step
	maxToldBytes  = 6 << 20         // of an answer to a peer, before it is encoded
)

// hear does what a message asks for. It is called for one message at a time.
func (b *Bridge) hear(m *official.Message) {
	if b.isNode(m.UID) { // it came by the trunk, or is this node's own
		return
	}
	switch m.Kind {
	case official.Broadcast:
		e := service.Emit{Target: here(m), Packet: m.Packet(), Flags: m.Flags | service.Relayed}
		if m.Request == "" {
			b.DeliverHere([]service.Emit{e}, nil)
		} else {
			b.collectFor(m, e)
		}
	case official.Join, official.Leave, official.Disconnect:
		b.change(m)
	case official.FetchSockets:
		a := &official.Message{Kind: official.Sockets}
		var ok bool
		a.Sockets, ok = b.describe(here(m))
		b.tellAll(m, a, ok)
	case official.FetchIDs:
		a := &official.Message{Kind: official.IDs}
		var ok bool
		a.Names, ok = b.ids(here(m))
		b.tellAll(m, a, ok)
	case official.FetchRooms:
		a := &official.Message{Kind: official.Rooms}
		var ok bool
		a.Names, ok = b.rooms(m.Namespace)
		b.tellAll(m, a, ok)
	case official.ServerSideEmit:
		b.serverSideEmit(m)
	case official.Sockets, official.IDs, official.Reply, official.ClientCount, official.Ack:
		b.answer(m)
	}
}

// tellAll answers a peer that has asked what there is. What is too much for an answer is not told at all, since a part
// would be taken for the whole: the call of the peer fails.
func (b *Bridge) tellAll(asked, a *official.Message, whole bool) {
	if !whole {
		b.drop("answer_too_large", a.Kind, nil)
		return
	}
	a.Namespace, a.Request = asked.Namespace, asked.Request
	b.publish(a, asked.UID)
}

// here is a message's target, of which this node does its own part.
func here(m *official.Message) service.Target {
	t := m.Target()
	t.Local = true
	return t
}

// change has sockets join, leave or go.
func (b *Bridge) change(m *official.Message) {
	t := here(m)
	if m.Old != "" {
		t = service.Target{Namespace: m.Namespace, Rooms: []string{m.Old}, Local: true}
	}
	var n int
	var err error
	switch m.Kind {
	case official.Join:
		n, _, err = b.Node.Join(b.context, t, m.Change)
	case official.Leave:
		n, _, err = b.Node.Leave(b.context, t, m.Change)
	default:
		mode := service.DisconnectNamespace
		if m.Close {
			mode = service.DisconnectConnection
		}
		n, _, err = b.Node.Disconnect(b.context, t, mode)
	}
	if err != nil {
		b.drop("refused", m.Kind, err)
	}
	if m.Old != "" && m.Request != "" && n > 0 {
		b.publish(&official.Message{Kind: official.Done, Namespace: m.Namespace, Request: m.Request}, m.UID)
	}
}

// collectFor delivers an event, and tells the peer that asked how many recipients it has here and what they answer.
func (b *Bridge) collectFor(m *official.Message, e service.Emit) {
	b.mu.Lock()
	busy := b.theirs >= maxCollecting || b.context.Err() != nil
	if !busy {
		b.theirs++
	}
	b.mu.Unlock()
	answer := func(kind official.Kind) *official.Message {
		return &official.Message{Kind: kind, Namespace: m.Namespace, Request: m.Request}
	}
	if busy { // the event is delivered as one that wants no answer, which the peer then hears: nobody has it
		b.drop("busy", m.Kind, nil)
		b.DeliverHere([]service.Emit{e}, nil)
		b.publish(answer(official.ClientCount), m.UID)
		return
	}
	done := func() {
		b.mu.Lock()
		b.theirs--
		b.mu.Unlock()
	}
	acks, err := b.CollectHere(e)
	count := answer(official.ClientCount)
	if err == nil {
		count.Count = acks.Matched
	}
	b.publish(count, m.UID)
	if err != nil || acks.Matched == 0 {
		if err != nil {
			b.drop("refused", m.Kind, err)
		} else {
			acks.Finish()
		}
		done()
		return
	}
	most := collectMost
	if m.Timeout > 0 {
		most = min(most, m.Timeout)
	}
	b.ended.Go(func() {
		defer done()
		ctx, stop := context.WithTimeout(b.context, most)
		defer stop()
		for {
			list, err := acks.Next(ctx)
			for i := range list {
				if list[i].Failure != service.AckOK {
					continue // nobody is told of those that do not answer
				}
				a := answer(official.Ack)
				a.Payload, a.Attachments = firstArgument(list[i].Payload, list[i].Attachments)
				b.publish(a, m.UID)
			}
			if err != nil {
				if !errors.Is(err, io.EOF) && ctx.Err() == nil {
					b.drop("refused", official.Ack, err)
				}
				acks.Finish()
				return
			}
		}
	})
}

// serverSideEmit tells the handlers of this node. The server that asked waits for one reply of each server, and so for
// this node's. That reply is the first one of a handler, or empty when there is none.
func (b *Bridge) serverSideEmit(m *official.Message) {
	e := service.ServerSideEmit{Namespace: m.Namespace, Packet: m.Packet(), Local: true, Relayed: true}
	if m.Request == "" {
		_, _ = b.Node.ServerSideEmit(b.context, e)
		return
	}
	e.WantsReplies, e.First, e.Timeout = true, true, serversWait
	b.mu.Lock()
	busy := b.theirs >= maxCollecting || b.context.Err() != nil
	if !busy {
		b.theirs++
	}
	b.mu.Unlock()
	if busy {
		b.drop("busy", m.Kind, nil)
		return
	}
	b.ended.Go(func() {
		r, err := b.Node.ServerSideEmit(b.context, e)
		b.mu.Lock()
		b.theirs--
		b.mu.Unlock()
		reply := &official.Message{Kind: official.Reply, Namespace: m.Namespace, Request: m.Request}
		switch {
		case err != nil:
			b.log.Debug("event of a server not told", zap.Error(err))
		case len(r.Replies) > 0:
			reply.Payload, reply.Attachments = firstArgument(r.Replies[0].Payload, r.Replies[0].Attachments)
		case r.Matched > 0: // nobody has replied in time, which who asked finds out by itself
			return
		}
		b.publish(reply, m.UID)
	})
}

// each calls a function for this node's sockets of a target, until it says that it has enough.
func (b *Bridge) each(t service.Target, view service.View, do func(s *service.SocketInfo) bool) {
	r := service.PageRequest{Limit: hearPage, View: view}
	for {
		page, err := b.Node.Sockets(b.context, t, r)
		if err != nil {
			return
		}
		for i := range page.Sockets {
			if !do(&page.Sockets[i]) {
				return
			}
		}
		if page.Next == (service.Place{}) {
			return
		}
		r.Place = page.Next
	}
}

// describe are this node's sockets of a target, as peers are told of them. false: they are too many for an answer.
func (b *Bridge) describe(t service.Target) (list []official.Socket, ok bool) {
	bytes := 0
	b.each(t, service.ViewFull, func(s *service.SocketInfo) bool {
		if bytes += service.ViewFull.Bytes(s); bytes > maxToldBytes {
			return false
		}
		list = append(list, official.Socket{ID: string(s.ID), Handshake: handshakeOf(s), Rooms: roomsOf(s), Data: s.Data})
		return true
	})
	return list, bytes <= maxToldBytes
}

// ids are those of this node's sockets of a target. false: they are too many for an answer.
func (b *Bridge) ids(t service.Target) (list []string, ok bool) {
	ok = true
	b.each(t, service.ViewRef, func(s *service.SocketInfo) bool {
		list = append(list, string(s.ID))
		ok = len(list)*socketIDLen <= maxToldBytes
		return ok
	})
	return list, ok
}

// rooms are those of this node's sockets, each socket's own among them. false: they are too many for an answer.
func (b *Bridge) rooms(namespace string) (list []string, ok bool) {
	list, ok = b.ids(service.Target{Namespace: namespace, All: true, Local: true})
	bytes := len(list) * socketIDLen
	r := service.RoomsRequest{Namespace: namespace, Limit: hearPage}
	for ok {
		page, err := b.Node.Rooms(b.context, r)
		if err != nil {
			return nil, false
		}
		for _, room := range page.Rooms {
			list = append(list, room.Name)
			bytes += len(room.Name)
		}
		ok = bytes <= maxToldBytes
		if r.After = page.Next; r.After == "" {
			break
		}
	}
	return list, ok
}
