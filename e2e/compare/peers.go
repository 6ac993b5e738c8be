package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Two servers share rooms by a bus: either two nodes of Foyer, or two servers on Node with the official adapter. All
// calls go to the first of the two. Both servers share one processor; the load and the server of the bus share another
// one.

// Rows of the table.
const (
	rowRate     = "emits a second to all at a p99 below 50 ms"
	rowFlight   = "eight emits in flight: CPU of a million deliveries"
	rowSteady   = "five emits a second: CPU of a million deliveries"
	rowFar50    = "the same: p50 from emit to a socket at the other server"
	rowFar99    = "the same: p99"
	rowList     = "list of the sockets at the other server: p50"
	rowPeerDies = "kill -9 of a server on Node until a list is whole"
	rowDies     = "kill -9 of the other server until a list does not wait for it"
	rowRooms    = "5,000 rooms, each with a channel: memory of a server, each"
	rowChannels = "the same: subscriptions of both servers"
	rowTheirs   = "the same: memory of Redis, each"
)

var peerRows = []struct {
	name, unit string
	more       bool // is better
}{
	{rowRate, "/s", true},
	{rowFlight, "s", false},
	{rowSteady, "s", false},
	{rowFar50, "ms", false},
	{rowFar99, "ms", false},
	{rowList, "ms", false},
	{rowPeerDies, "ms", false},
	{rowDies, "ms", false},
	{rowRooms, "KiB", false},
	{rowChannels, "", false},
	{rowTheirs, "KiB", false},
}

// buses are what servers share rooms by: the flags of Foyer for a URL, and the options of the adapter on Node as JSON.
var buses = map[string]struct {
	flags   func(url string) []string
	options string
	redis   bool // it is a Redis server, which is run here where there is no URL
	rooms   bool // a room has a channel
}{
	"redis":         {busFlags("redis", "--cluster-prefix", "socket.io"), "{}", true, false},
	"redis-sharded": {busFlags("redis-sharded"), "{}", true, true},
	"redis-streams": {busFlags("redis-streams"), "{}", true, false},
	"postgres":      {busFlags("postgres", "--cluster-prefix", "socket.io"), "{}", false, false},
	"mongo":         {busFlags("mongo", "--cluster-collection", mongoCollection), `{"collection": "` + mongoCollection + `"}`, false, false},
}

// mongoCollection has to be there, capped.
const mongoCollection = "socket.io-adapter-events"

func busFlags(name string, more ...string) func(url string) []string {
	return func(url string) []string { return append([]string{"--cluster", name, "--cluster-url", url}, more...) }
}

const (
	peerSockets = 1000                  // at each server
	peerRate    = 5                     // emits a second of the steady load
	tail        = 50 * time.Millisecond // what a p99 has to be below
	mostRate    = 20_000                // emits a second that are tried
	listTurns   = 50
	listWaits   = 100 * time.Millisecond // a list that takes longer has waited for somebody
	killSockets = 10                     // at the server that stays
	killTurn    = 10 * time.Millisecond  // between two lists that are begun
	killMost    = 30 * time.Second
)

// peerKinds are who is measured, in the order of the columns.
var peerKinds = [...]struct {
	name  string
	start func(ctx context.Context, o *options, url string) (pair, error)
	first func(ctx context.Context, o *options, url string) (*server, error) // one that has a server on Node beside it
}{
	{"Foyer", func(ctx context.Context, o *options, url string) (pair, error) {
		return startNodes(ctx, o, func(int) []string { return buses[o.peers].flags(url) })
	}, func(ctx context.Context, o *options, url string) (*server, error) {
		return startFoyerWith(ctx, o, append(buses[o.peers].flags(url), "--admin", "127.0.0.1:0")...)
	}},
	{"Node", func(ctx context.Context, o *options, url string) (p pair, err error) {
		for i := range p {
			if p[i], err = startPeer(ctx, o, url); err != nil {
				p.stop()
				return p, err
			}
		}
		return p, nil
	}, startPeer},
}

// startPeer starts an official server.
func startPeer(ctx context.Context, o *options, url string) (*server, error) {
	return startNodeWith(ctx, o, o.peers, url, buses[o.peers].options)
}

// figures are those of one run of one kind, by row.
type figures map[string]float64

// comparePeers prints what servers cost that share their rooms.
func comparePeers(ctx context.Context, o *options) error {
	if bus, known := buses[o.peers]; !known {
		return fmt.Errorf("-peers %s: want one of %s", o.peers, strings.Join(slices.Sorted(maps.Keys(buses)), ", "))
	} else if !bus.redis && o.bus == "" {
		return fmt.Errorf("-peers %s: -bus has to be the URL of a server", o.peers)
	}
	if err := raiseFiles(2*peerSockets + 1000); err != nil {
		return err
	}
	raw, err := openRaw(o.raw)
	if err != nil {
		return err
	}
	defer raw.Close()
	var found [len(peerKinds)][]figures
	for round := range o.rounds {
		for turn := range peerKinds {
			who := (round + turn) % len(peerKinds) // each goes first in turn
			f := figures{}
			for _, part := range []struct {
				rows    []string
				measure func(ctx context.Context, o *options, who int, f figures) error
			}{
				{[]string{rowRate, rowFlight, rowSteady, rowFar50, rowFar99}, measurePeerLoad},
				{[]string{rowList}, measurePeerList},
				{[]string{rowPeerDies}, measurePeerDies},
				{[]string{rowDies}, measureLikeDies},
				{[]string{rowRooms, rowChannels, rowTheirs}, measureRooms},
			} {
				if !slices.ContainsFunc(part.rows, o.only.MatchString) || part.rows[0] == rowRooms && !buses[o.peers].rooms {
					continue
				}
				if err := part.measure(ctx, o, who, f); err != nil {
					return fmt.Errorf("%s: %s: %w", peerKinds[who].name, part.rows[0], err)
				}
			}
			for _, r := range peerRows {
				v, ok := f[r.name]
				if !ok {
					continue
				}
				fmt.Fprintf(os.Stderr, "round %d of %d, %s, %s: %.4g %s\n", round+1, o.rounds, peerKinds[who].name, r.name, v, r.unit)
				if err := raw.add(rawLine{round + 1, r.name, peerKinds[who].name, map[string]any{r.unit: v}}); err != nil {
					return err
				}
			}
			found[who] = append(found[who], f)
		}
	}
	fmt.Printf("%s; %d rounds, medians (lowest to highest); %d sockets at each of two servers; %s, Node %s\n\n", o.peers, o.rounds, peerSockets/o.divide, processor(),
		version(ctx, "node", "--version"))
	fmt.Print("| | Foyer | Node | ratio (95 % interval) |\n| --- | --- | --- | --- |\n")
	for _, r := range peerRows {
		if _, ok := found[0][0][r.name]; ok {
			fmt.Println(peerLine(r.name, r.unit, found))
		}
	}
	return nil
}

func peerLine(name, unit string, found [len(peerKinds)][]figures) string {
	line := "| " + name
	for _, all := range found {
		values := make([]float64, len(all))
		for i, f := range all {
			values[i] = f[name]
		}
		slices.Sort(values)
		line += fmt.Sprintf(" | %s %s (%s to %s)", figure(values[len(values)/2]), unit, figure(values[0]), figure(values[len(values)-1]))
	}
	ratios := make([]float64, len(found[0]))
	for i := range ratios {
		ratios[i] = found[0][i][name] / found[1][i][name]
	}
	slices.Sort(ratios)
	low, high := between(ratios)
	return line + fmt.Sprintf(" | %.2f (%.2f to %.2f) |", ratios[len(ratios)/2], low, high)
}

// measurePeerLoad emits to all sockets of both servers.
func measurePeerLoad(ctx context.Context, o *options, who int, f figures) error {
	return withBus(ctx, o, func(url string) error {
		p, err := peerKinds[who].start(ctx, o, url)
		if err != nil {
			return err
		}
		defer p.stop()
		sockets := 2 * peerSockets / o.divide
		load := func(seconds float64, args ...string) (map[string]any, error) {
			args = slices.Concat([]string{"bench", "broadcast", "--clients", strconv.Itoa(sockets), "--seconds", strconv.FormatFloat(seconds, 'g', -1, 64), "-o", "json"},
				p[0].flags, []string{"--others", p[1].flags[1], "--server-pid", fmt.Sprintf("%d,%d", p[0].cmd.Process.Pid, p[1].cmd.Process.Pid)}, args)
			out, err := pinned(ctx, 1, o.foyer, args...).Output()
			if err != nil {
				return nil, fmt.Errorf("%w: %s", err, out)
			}
			var result map[string]any
			return result, json.Unmarshal(out, &result)
		}
		get := func(result map[string]any, metric string) float64 {
			return value(result, row{metric: metric, scale: 1})
		}
		if o.only.MatchString(rowSteady) || o.only.MatchString(rowFar50) || o.only.MatchString(rowFar99) {
			steady, err := load(o.seconds, "--warmup", o.warmup.String(), "--rate", strconv.Itoa(peerRate), "--window", "1000")
			if err != nil {
				return err
			}
			f[rowSteady], f[rowFar50], f[rowFar99] = get(steady, cpu), get(steady, "far_p50_ms"), get(steady, "far_p99_ms") // µs of one are s of a million
		}
		if o.only.MatchString(rowFlight) {
			flight, err := load(o.seconds, "--warmup", o.warmup.String(), "--window", "8")
			if err != nil {
				return err
			}
			f[rowFlight] = get(flight, cpu)
		}
		if !o.only.MatchString(rowRate) {
			return nil
		}
		f[rowRate], err = highest(peerRate, func(rate float64) (bool, error) {
			for range 2 { // the machine may have had something else to do
				result, err := load(o.seconds/2, "--warmup", (o.warmup / 2).String(), "--rate", strconv.FormatFloat(rate, 'f', 1, 64), "--window", "65536")
				if err != nil {
					return false, err
				}
				p99 := get(result, "p99_ms")
				fmt.Fprintf(os.Stderr, "%s, %.0f emits a second: p99 %.1f ms\n", peerKinds[who].name, rate, p99)
				if p99 < float64(tail.Milliseconds()) {
					return true, nil
				}
			}
			return false, nil
		})
		return err
	})
}

// highest returns the highest rate that holds, within a tenth: it is doubled until it does not, or halved until it
// does, and then looked for between the two. 0: not even one a second does.
func highest(from float64, holds func(rate float64) (bool, error)) (float64, error) {
	low, high := 0.0, 0.0
	for rate := from; low == 0 || high == 0; {
		ok, err := holds(rate)
		if err != nil {
			return 0, err
		}
		if ok {
			low = rate
			rate *= 2
		} else {
			high = rate
			rate /= 2
		}
		if low > mostRate/2 || high > 0 && high <= 1 {
			return low, nil
		}
	}
	for high/low > 1.1 {
		middle := math.Sqrt(low * high)
		ok, err := holds(middle)
		switch {
		case err != nil:
			return 0, err
		case ok:
			low = middle
		default:
			high = middle
		}
	}
	return low, nil
}

// withBus runs a Redis server for as long as do takes, or has it be done with the server that there is.
func withBus(ctx context.Context, o *options, do func(url string) error) error {
	if o.bus != "" {
		return do(o.bus)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(address)
	cmd := pinned(ctx, 1, o.redis, "--port", port, "--bind", "127.0.0.1", "--save", "")
	if err := cmd.Start(); err != nil {
		return err
	}
	defer (&server{cmd: cmd}).stop()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			conn.Close()
			return do("redis://" + address)
		}
		if time.Since(began) > 10*time.Second {
			return errors.Join(errors.New("the Redis server does not start"), err)
		}
	}
}
