package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	foyerv1 "foyer/gen/foyer/v1"
)

// Calls of one node about a socket of the other one, one in flight: each kind in turn, so that both meet the same
// moments.

const (
	callWarmup = 300
	callTurns  = 2000
	joinReach  = 1.5 // the ratio to reach
)

// measureCalls returns how long an emit that waits for all nodes takes, and a join of a room that nobody has heard of;
// sorted.
func measureCalls(ctx context.Context, p pair) (emits, joins []time.Duration, err error) {
	conn, err := grpc.NewClient(p[0].flags[3], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	id, leave, err := enter(ctx, p[1].flags[1])
	if err != nil {
		return nil, nil, err
	}
	defer leave()
	target := &foyerv1.Target{Rooms: []string{id}}
	emit, rooms := foyerv1.NewEmitServiceClient(conn), foyerv1.NewRoomServiceClient(conn)
	for i := range callWarmup + callTurns {
		began := time.Now()
		receipt, err := emit.Emit(ctx, &foyerv1.EmitRequest{Target: target, Payload: &foyerv1.Payload{Event: "x"}})
		if err != nil || receipt.GetEnqueued() != 1 {
			return nil, nil, fmt.Errorf("emit to the other node: %v, %w", receipt, err)
		}
		between := time.Now()
		joined, err := rooms.JoinRooms(ctx, &foyerv1.JoinRoomsRequest{Target: target, Rooms: []string{fmt.Sprint("room", i%500)}})
		if err != nil || joined.GetMatched() != 1 {
			return nil, nil, fmt.Errorf("join at the other node: %v, %w", joined, err)
		}
		if i >= callWarmup {
			emits, joins = append(emits, between.Sub(began)), append(joins, time.Since(between))
		}
		if _, err = rooms.LeaveRooms(ctx, &foyerv1.LeaveRoomsRequest{Target: target, Rooms: []string{fmt.Sprint("room", i%500)}}); err != nil {
			return nil, nil, err
		}
	}
	slices.Sort(emits)
	slices.Sort(joins)
	return emits, joins, nil
}

// enter connects a client and reads what it is sent until leave.
func enter(ctx context.Context, url string) (id string, leave func(), err error) {
	conn, id, err := dialSocket(ctx, url)
	if err != nil {
		return "", nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, text, err := conn.ReadMessage()
			if err != nil {
				return
			}
			if string(text) == "2" && conn.WriteMessage(websocket.TextMessage, []byte("3")) != nil {
				return
			}
		}
	}()
	return id, func() { conn.Close(); <-done }, nil
}

// dialSocket connects a client.
func dialSocket(ctx context.Context, url string) (conn *websocket.Conn, id string, err error) {
	address := strings.Replace(url, "http", "ws", 1) + "/socket.io/?EIO=4&transport=websocket"
	conn, answer, err := websocket.DefaultDialer.DialContext(ctx, address, http.Header{})
	if err != nil {
		return nil, "", err
	}
	answer.Body.Close()
	err = conn.WriteMessage(websocket.TextMessage, []byte("40"))
	for err == nil && !strings.HasPrefix(id, `40{"sid":"`) {
		var text []byte
		_, text, err = conn.ReadMessage()
		id = string(text)
	}
	if err != nil {
		conn.Close()
		return nil, "", err
	}
	id, _, _ = strings.Cut(strings.TrimPrefix(id, `40{"sid":"`), `"`)
	return conn, id, nil
}

// compareCalls prints what a join costs that others are told of, beside an emit that waits for them.
func compareCalls(ctx context.Context, o *options) error {
	const name = "JoinRooms of a new room at the other node: p50"
	if !o.only.MatchString(name) {
		return nil
	}
	var medians [2][]float64
	for range o.rounds {
		p, err := startPair(ctx, o)
		if err != nil {
			return err
		}
		emits, joins, err := measureCalls(ctx, p)
		p.stop()
		if err != nil {
			return err
		}
		for i, all := range [][]time.Duration{emits, joins} {
			medians[i] = append(medians[i], float64(all[len(all)/2])/float64(time.Millisecond))
		}
	}
	for i := range medians {
		slices.Sort(medians[i])
	}
	emit, join := medians[0], medians[1]
	fmt.Printf("\n| | an emit there | the call | ratio | to reach |\n| --- | --- | --- | --- | --- |\n| %s | %s ms (%s to %s) | %s ms (%s to %s) | %.2f | ≤ %s |\n", name,
		figure(emit[len(emit)/2]), figure(emit[0]), figure(emit[len(emit)-1]), figure(join[len(join)/2]), figure(join[0]), figure(join[len(join)-1]),
		join[len(join)/2]/emit[len(emit)/2], figure(joinReach))
	return nil
}
