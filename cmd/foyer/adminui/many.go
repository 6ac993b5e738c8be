package adminui

import (
	"context"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"

	"go.uber.org/zap"

	foyerv1 "foyer/gen/foyer/v1"
)

const (
	sampleEvery = 10 * time.Second
	dataEvery   = 5   // each so many looks also compare data
	sampleSize  = 200 // sockets of one namespace
	sampleAll   = 400 // sockets of all namespaces together
	sampleBytes = 2 << 20
	walkPage    = 1000
	walkPages   = 5 // pages that one look reads, of all namespaces together
	// A look asks for the reason of at most so many sockets that are gone. The others are shown with notKnown.
	maxReasons = 20
	notKnown   = "not known"
	maxIDs     = 500 // ids that one call names
	maxWhole   = 50  // the same of sockets with their data, each of which may have 64 KiB of it
)

// sample is what the pages show when there are many sockets: some sockets of each namespace, as long as they are
// connected.
type sample struct {
	at    time.Time        // when the whole sample was last sent to the pages; zero: never
	walks map[string]*walk // by namespace
	even  bool             // it is spread over all sockets; the first sample has those that a list begins with
	looks int
}

// walk reads the list of all sockets of a namespace, some pages at each look, and picks sockets at even distances, so
// that those of all nodes are among them.
type walk struct {
	token  string
	seen   int
	picked []string // ids, picked since the sample was renewed
	done   bool
}

// share returns how many sockets of one namespace a sample may have.
func share(namespaces int) int { return min(sampleSize, sampleAll/max(1, namespaces)) }

// lookAtSample tells the pages what has changed of the sockets in the sample, and replaces those that are gone.
func (w *watch) lookAtSample(c *counted, now time.Time) {
	if w.sample.at.IsZero() {
		w.first(c, now)
		return
	}
	size, free := share(len(c.namespaces)), false
	have := w.compareAll(now)
	for _, of := range c.namespaces {
		free = free || len(have[of.name]) < min(size, of.all)
	}
	if !free && w.sample.even {
		return
	}
	pages, done := walkPages, true
	for _, of := range c.namespaces {
		k := w.sample.walks[of.name]
		if k == nil {
			k = &walk{}
			w.sample.walks[of.name] = k
		}
		for ; pages > 0 && !k.done; pages-- {
			w.goOn(k, of, size)
		}
		done = done && k.done
	}
	if now.Sub(w.sample.at) >= sampleEvery {
		w.renew(c, have, size, done, now)
	}
}

// first makes the first sample of the sockets that a list begins with, so that a page has something to show at once.
func (w *watch) first(c *counted, now time.Time) {
	for _, of := range c.namespaces {
		w.keepSome(of.name, w.list(&foyerv1.Target{Namespace: of.name, All: true}, full, share(len(c.namespaces))).sockets)
	}
	w.sample = sample{at: now, walks: map[string]*walk{}}
	w.tellAll()
}

// keepSome keeps those sockets of a list that the sample has room for.
func (w *watch) keepSome(namespace string, list []*foyerv1.Socket) {
	for _, s := range list {
		if o := objectOf(s); w.hasRoom(&o) {
			w.keep(key{namespace, s.GetId()}, o)
		}
	}
}

func (w *watch) hasRoom(o *socketObject) bool {
	return len(w.sockets) < sampleAll && w.bytes+o.bytes() <= sampleBytes
}

// renew makes the sample of the sockets that are still there and of those that the walks have picked, and sends all of
// it. As long as the sample is not even, those that were picked come first.
func (w *watch) renew(c *counted, have map[string][]string, size int, done bool, now time.Time) {
	old := w.sockets
	w.sockets, w.bytes = map[key]socketObject{}, 0
	for _, of := range c.namespaces {
		k, ids := w.sample.walks[of.name], have[of.name]
		rand.Shuffle(len(k.picked), func(i, j int) { k.picked[i], k.picked[j] = k.picked[j], k.picked[i] })
		if w.sample.even {
			ids = slices.Concat(ids, k.picked)
		} else {
			ids = slices.Concat(k.picked, ids)
		}
		k.picked = nil
		missing, room := []string{}, size
		for _, id := range ids {
			o, ok := old[key{of.name, id}]
			_, twice := w.sockets[key{of.name, id}]
			switch {
			case room == 0 || twice:
			case !ok:
				missing = append(missing, id)
				room--
			case w.hasRoom(&o):
				w.keep(key{of.name, id}, o)
				room--
			}
		}
		w.keepSome(of.name, w.listThese(of.name, full, missing).sockets)
	}
	w.sample.at = now
	if done {
		w.sample.even, w.sample.walks = true, map[string]*walk{}
	}
	w.tellAll()
}

// goOn reads the next page of a walk.
func (w *watch) goOn(k *walk, of spaceCount, size int) {
	ctx, cancel := context.WithDeadline(w.ctx, w.until)
	defer cancel()
	page, err := foyerv1.NewSocketServiceClient(w.cfg.API).ListSockets(ctx, &foyerv1.ListSocketsRequest{
		Target: &foyerv1.Target{Namespace: of.name, All: true}, View: foyerv1.SocketView_SOCKET_VIEW_REF, PageSize: walkPage, PageToken: k.token,
	})
	if err != nil {
		w.toldOf("a namespace cannot be sampled for operators", err)
		k.done = true
		return
	}
	step := max(1, of.all/max(1, size))
	for _, s := range page.GetSockets() {
		if k.seen%step == 0 && len(k.picked) < 2*size {
			k.picked = append(k.picked, s.GetId())
		}
		k.seen++
	}
	k.token = page.GetNextPageToken()
	k.done = k.token == ""
}

// compareAll tells the pages what has changed of the sockets that they know, and returns those that are still
// connected.
func (w *watch) compareAll(now time.Time) (have map[string][]string) {
	ctx, cancel := context.WithDeadline(w.ctx, w.until)
	defer cancel()
	have, asked, view := map[string][]string{}, 0, basic
	if w.sample.looks++; w.sample.looks%dataEvery == 0 {
		view = full
	}
	for name, ids := range w.known() {
		l := w.listThese(name, view, ids)
		found := make(map[string]bool, len(l.sockets))
		for _, s := range l.sockets {
			found[s.GetId()] = true
			w.compare(key{name, s.GetId()}, s, view, stamp(now))
		}
		for _, id := range ids {
			k := key{name, id}
			if found[id] || l.failed || slices.Contains(l.unreachable, w.sockets[k].node) {
				have[name] = append(have[name], id)
				continue
			}
			why, at := notKnown, now
			if asked++; asked <= maxReasons {
				why, at = w.whyGone(ctx, k, now)
			}
			w.tellDisconnected(k, why, stamp(at))
		}
	}
	return have
}

// known returns the ids of the sockets that the pages know, by namespace.
func (w *watch) known() map[string][]string {
	ids := map[string][]string{}
	for k := range w.sockets {
		ids[k.namespace] = append(ids[k.namespace], k.id)
	}
	return ids
}

// compare tells the pages what has changed of one socket.
func (w *watch) compare(k key, s *foyerv1.Socket, view foyerv1.SocketView, at string) {
	was, is := w.sockets[k], objectOf(s)
	if view == basic {
		is.Data, is.dataBytes, is.Handshake, is.partial = was.Data, was.dataBytes, was.Handshake, was.partial
	}
	w.keep(k, is)
	for _, room := range minus(is.Rooms, was.Rooms) {
		w.say("", "room_joined", k.namespace, room, k.id, at)
	}
	for _, room := range minus(was.Rooms, is.Rooms) {
		w.say("", "room_left", k.namespace, room, k.id, at)
	}
	if was.Transport != is.Transport {
		w.say("", "socket_updated", map[string]any{"id": k.id, "nsp": k.namespace, "transport": is.Transport})
	}
	if view == full && !reflect.DeepEqual(was.Data, is.Data) {
		w.say("", "socket_updated", map[string]any{"id": k.id, "nsp": k.namespace, "data": is.Data})
	}
}

// whyGone asks why and when a socket has disconnected. Its node remembers that for a while.
func (w *watch) whyGone(ctx context.Context, k key, now time.Time) (why string, at time.Time) {
	x, err := foyerv1.NewSocketServiceClient(w.cfg.API).Explain(ctx, &foyerv1.ExplainRequest{
		Target: &foyerv1.Target{Namespace: k.namespace, Rooms: []string{w.nobody}}, Who: &foyerv1.ExplainRequest_SocketId{SocketId: k.id}, SampleSize: 1,
	})
	if err == nil && len(x.GetAsked()) == 1 && x.GetAsked()[0].GetDeparture() != nil {
		d := x.GetAsked()[0].GetDeparture()
		return reasonWords(d.GetReason()), d.GetTime().AsTime()
	}
	return notKnown, now
}

const (
	basic = foyerv1.SocketView_SOCKET_VIEW_BASIC // without data and handshake
	full  = foyerv1.SocketView_SOCKET_VIEW_FULL
)

// listed is what a list of sockets has found.
type listed struct {
	sockets     []*foyerv1.Socket
	unreachable []string // nodes whose sockets are missing
	failed      bool     // some are missing
}

// missing says whether a node has not answered, or not in time.
func (l *listed) missing() bool { return l.failed || len(l.unreachable) > 0 }

// list lists at most so many sockets of a target.
func (w *watch) list(target *foyerv1.Target, view foyerv1.SocketView, most int) (l listed) {
	ctx, cancel := context.WithDeadline(w.ctx, w.until)
	defer cancel()
	for token := ""; len(l.sockets) < most; {
		page, err := foyerv1.NewSocketServiceClient(w.cfg.API).ListSockets(ctx, &foyerv1.ListSocketsRequest{
			Target: target, View: view, PageSize: int32(most - len(l.sockets)), PageToken: token,
		})
		if err != nil {
			w.toldOf("sockets cannot be listed for operators", err)
			l.failed = true
			break
		}
		l.sockets = append(l.sockets, page.GetSockets()...)
		l.unreachable = append(l.unreachable, page.GetCoverage().GetUnreachable()...)
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	return l
}

// listThese lists the sockets with these ids.
func (w *watch) listThese(namespace string, view foyerv1.SocketView, ids []string) (all listed) {
	for part := range slices.Chunk(ids, maxIDs) {
		l := w.list(&foyerv1.Target{Namespace: namespace, Rooms: part}, view, len(part))
		all.sockets, all.unreachable, all.failed = append(all.sockets, l.sockets...), append(all.unreachable, l.unreachable...), all.failed || l.failed
	}
	return all
}

// minus returns what is in a list and not in another one.
func minus(list, other []string) []string {
	if slices.Equal(list, other) {
		return nil
	}
	in := make(map[string]bool, len(other))
	for _, one := range other {
		in[one] = true
	}
	return slices.DeleteFunc(slices.Clone(list), func(one string) bool { return in[one] })
}

func (w *watch) toldOf(what string, err error) {
	if w.ctx.Err() == nil {
		w.cfg.Told.Info(what, zap.NamedError("err", err))
	}
}
