package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	foyerv1 "foyer/gen/foyer/v1"
)

// lister lists the sockets of all servers, by one of them.
type lister struct {
	list  func(ctx context.Context) (sockets int, whole bool, err error)
	close func()
}

// find waits until a list has so many sockets and is whole: servers have to find each other.
func (l *lister) find(ctx context.Context, sockets int) error {
	for began := time.Now(); ; time.Sleep(killTurn) {
		n, whole, err := l.list(ctx)
		if err == nil && n == sockets && whole {
			return nil
		}
		if time.Since(began) > killMost {
			return errors.Join(fmt.Errorf("a list has %d sockets (whole: %t), want %d", n, whole, sockets), err)
		}
	}
}

// listerAt is one at a server: by the API of Foyer, or by an event of a client on Node, which is none of the sockets.
func listerAt(ctx context.Context, s *server) (*lister, error) {
	if len(s.flags) > 2 {
		return listFoyer(s.flags[3])
	}
	return listNode(ctx, s.flags[1])
}

func listFoyer(api string) (*lister, error) {
	conn, err := grpc.NewClient(api, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	service := foyerv1.NewSocketServiceClient(conn)
	return &lister{close: func() { conn.Close() }, list: func(ctx context.Context) (sockets int, whole bool, err error) {
		r := &foyerv1.ListSocketsRequest{Target: &foyerv1.Target{All: true}, View: foyerv1.SocketView_SOCKET_VIEW_FULL, PageSize: 1000}
		whole = true
		for {
			page, err := service.ListSockets(ctx, r)
			if err != nil {
				return 0, false, err
			}
			sockets += len(page.GetSockets())
			c := page.GetCoverage()
			last := page.GetNextPageToken() == ""
			// Before the last page those of servers on Node are still to come.
			whole = whole && len(c.GetUnreachable()) == 0 && c.GetUnreachableUnnamed() == 0 && (!last || c.GetUncountedNodes() == 0)
			if last {
				return sockets, whole, nil
			}
			r.PageToken = page.GetNextPageToken()
		}
	}}, nil
}

// listNode asks by events, of which several may be under way.
func listNode(ctx context.Context, url string) (*lister, error) {
	conn, _, err := dialSocket(ctx, url)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // guards the writing side and asked
	asked := map[string]chan string{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, text, err := conn.ReadMessage()
			if err != nil {
				return
			}
			mu.Lock()
			if id, answer, ok := strings.Cut(strings.TrimPrefix(string(text), "43"), "["); ok && asked[id] != nil {
				asked[id] <- strings.TrimSuffix(answer, "]")
				delete(asked, id)
			} else if string(text) == "2" {
				_ = conn.WriteMessage(websocket.TextMessage, []byte("3"))
			}
			mu.Unlock()
		}
	}()
	last := 0
	return &lister{close: func() { conn.Close(); <-done }, list: func(ctx context.Context) (int, bool, error) {
		answer := make(chan string, 1)
		mu.Lock()
		last++
		asked[strconv.Itoa(last)] = answer
		err := conn.WriteMessage(websocket.TextMessage, []byte("42"+strconv.Itoa(last)+`["bench:list"]`))
		mu.Unlock()
		if err != nil {
			return 0, false, err
		}
		select {
		case text := <-answer:
			n, err := strconv.Atoi(text)
			return n - 1, n >= 0, err // it has counted the one that asks
		case <-done:
			return 0, false, errors.New("the server has closed the connection")
		case <-ctx.Done():
			return 0, false, ctx.Err()
		}
	}}, nil
}

// enterMany connects clients.
func enterMany(ctx context.Context, url string, n int) (leave func(), err error) {
	leaves := make([]func(), 0, n)
	leave = func() {
		for _, one := range leaves {
			one()
		}
	}
	for range n {
		_, one, err := enter(ctx, url)
		if err != nil {
			leave()
			return nil, err
		}
		leaves = append(leaves, one)
	}
	return leave, nil
}

// measurePeerList lists the sockets of the other server, with all that is known of them.
func measurePeerList(ctx context.Context, o *options, who int, f figures) error {
	return withBus(ctx, o, func(url string) error {
		p, err := peerKinds[who].start(ctx, o, url)
		if err != nil {
			return err
		}
		defer p.stop()
		n := peerSockets / o.divide
		leave, err := enterMany(ctx, p[1].flags[1], n)
		if err != nil {
			return err
		}
		defer leave()
		l, err := listerAt(ctx, p[0])
		if err != nil {
			return err
		}
		defer l.close()
		if err := l.find(ctx, n); err != nil {
			return err
		}
		var took []float64
		for i := range 5 + listTurns {
			began := time.Now()
			sockets, whole, err := l.list(ctx)
			if err != nil || sockets != n || !whole {
				return fmt.Errorf("a list of %d sockets (whole: %t): %w", sockets, whole, err)
			}
			if i >= 5 { // the first ones warm up
				took = append(took, float64(time.Since(began))/float64(time.Millisecond))
			}
		}
		slices.Sort(took)
		f[rowList] = took[len(took)/2]
		return nil
	})
}

// measurePeerDies kills a server on Node that a server of each kind has beside it.
func measurePeerDies(ctx context.Context, o *options, who int, f figures) error {
	return withBus(ctx, o, func(url string) (err error) {
		var p pair
		defer func() { p.stop() }()
		if p[0], err = peerKinds[who].first(ctx, o, url); err != nil {
			return err
		}
		if p[1], err = startPeer(ctx, o, url); err != nil {
			return err
		}
		f[rowPeerDies], err = untilListed(ctx, p, func(_ time.Duration, whole bool) bool { return whole })
		return err
	})
}

// measureLikeDies kills a server of the same kind. Foyer goes on to name a node that was lost, so that its list is
// not whole for a minute, but does not wait for it.
func measureLikeDies(ctx context.Context, o *options, who int, f figures) error {
	return withBus(ctx, o, func(url string) error {
		p, err := peerKinds[who].start(ctx, o, url)
		if err != nil {
			return err
		}
		defer p.stop()
		f[rowDies], err = untilListed(ctx, p, func(took time.Duration, _ bool) bool { return took < listWaits })
		return err
	})
}

// untilListed kills the second server of a pair and begins a list at the first one every now and then, until one is
// good: it has those of the first server, and what it took and whether it is whole is good too. It returns when that
// was, in ms.
func untilListed(ctx context.Context, p pair, good func(took time.Duration, whole bool) bool) (float64, error) {
	leave, err := enterMany(ctx, p[0].flags[1], killSockets)
	if err != nil {
		return 0, err
	}
	defer leave()
	gone, err := enterMany(ctx, p[1].flags[1], killSockets)
	if err != nil {
		return 0, err
	}
	defer gone()
	l, err := listerAt(ctx, p[0])
	if err != nil {
		return 0, err
	}
	defer l.close()
	if err := l.find(ctx, 2*killSockets); err != nil {
		return 0, err
	}
	killed := time.Now()
	p[1].stop()
	listed := make(chan time.Duration, 1)
	ctx, stop := context.WithTimeout(ctx, killMost)
	defer stop()
	var lists sync.WaitGroup
	defer lists.Wait()
	defer stop() // before that
	for tick := time.NewTicker(killTurn); ; {
		began := time.Now()
		lists.Go(func() {
			sockets, whole, err := l.list(ctx)
			if now := time.Now(); err == nil && sockets == killSockets && good(now.Sub(began), whole) {
				select {
				case listed <- now.Sub(killed):
				default:
				}
			}
		})
		select {
		case took := <-listed:
			tick.Stop()
			return float64(took) / float64(time.Millisecond), nil
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return 0, errors.New("no list is good any more")
		}
	}
}
