package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	foyerv1 "foyer/gen/foyer/v1"
)

const (
	manyRooms   = 5000
	roomsOfEach = 100 // that a socket joins
	roomsSettle = time.Second
)

// measureRooms has sockets at both servers join the same rooms.
func measureRooms(ctx context.Context, o *options, who int, f figures) error {
	return withBus(ctx, o, func(url string) error {
		p, err := peerKinds[who].start(ctx, o, url)
		if err != nil {
			return err
		}
		defer p.stop()
		at, err := redis.ParseURL(url)
		if err != nil {
			return err
		}
		server := redis.NewClient(at)
		defer server.Close()
		rooms := manyRooms / o.divide
		var joins []func() error
		for _, s := range p {
			for first := 0; first < rooms; first += roomsOfEach {
				conn, id, err := dialSocket(ctx, s.flags[1])
				if err != nil {
					return err
				}
				defer conn.Close()
				names := make([]string, 0, roomsOfEach)
				for i := first; i < min(rooms, first+roomsOfEach); i++ {
					names = append(names, fmt.Sprint("room number ", i))
				}
				joins = append(joins, func() error { return join(ctx, s, conn, id, names) })
			}
		}
		look := func() (memory, theirs, channels float64, err error) {
			time.Sleep(roomsSettle)
			memory, err = resident(p[0].cmd.Process.Pid)
			if err != nil {
				return
			}
			theirs, channels, err = ofRedis(ctx, server)
			return
		}
		memory, theirs, _, err := look()
		if err != nil {
			return err
		}
		for _, join := range joins {
			if err := join(); err != nil {
				return err
			}
		}
		memoryNow, theirsNow, channels, err := look()
		if err != nil {
			return err
		}
		f[rowRooms], f[rowTheirs] = (memoryNow-memory)/1024/float64(rooms), (theirsNow-theirs)/1024/float64(rooms)
		f[rowChannels] = channels
		return nil
	})
}

// join has a socket join rooms: by the API of Foyer, or by events that a server on Node acknowledges.
func join(ctx context.Context, s *server, conn *websocket.Conn, id string, rooms []string) error {
	if len(s.flags) > 2 {
		api, err := grpc.NewClient(s.flags[3], grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer api.Close()
		r, err := foyerv1.NewRoomServiceClient(api).JoinRooms(ctx, &foyerv1.JoinRoomsRequest{Target: &foyerv1.Target{Rooms: []string{id}}, Rooms: rooms})
		if err == nil && r.GetMatched() != 1 {
			err = fmt.Errorf("a join is answered by %v", r)
		}
		return err
	}
	for i, room := range rooms {
		if err := conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `42%d["bench:join",%q]`, i, room)); err != nil {
			return err
		}
	}
	for acks := 0; acks < len(rooms); {
		_, text, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		switch {
		case strings.HasPrefix(string(text), "43"):
			acks++
		case string(text) == "2":
			if err := conn.WriteMessage(websocket.TextMessage, []byte("3")); err != nil {
				return err
			}
		}
	}
	return nil
}

// resident is the memory of a process, in bytes.
func resident(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, after, found := strings.Cut(string(raw), "VmRSS:")
	fields := strings.Fields(after)
	if !found || len(fields) == 0 {
		return 0, errors.New("no VmRSS")
	}
	kib, err := strconv.ParseFloat(fields[0], 64)
	return kib * 1024, err
}

// ofRedis returns the memory that a server uses, in bytes, and how many subscriptions there are to channels of shards.
func ofRedis(ctx context.Context, server *redis.Client) (memory, subscriptions float64, err error) {
	info, err := server.Info(ctx, "memory").Result()
	if err != nil {
		return 0, 0, err
	}
	_, after, _ := strings.Cut(info, "used_memory:")
	line, _, _ := strings.Cut(after, "\r\n")
	if memory, err = strconv.ParseFloat(line, 64); err != nil {
		return 0, 0, err
	}
	channels, err := server.PubSubShardChannels(ctx, "*").Result()
	if err != nil || len(channels) == 0 {
		return memory, 0, err
	}
	numbers, err := server.PubSubShardNumSub(ctx, channels...).Result()
	for _, n := range numbers {
		subscriptions += float64(n)
	}
	return memory, subscriptions, err
}
