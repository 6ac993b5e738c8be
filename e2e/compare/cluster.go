package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A cluster of two nodes: callers are at the first, and clients at the first ("here") or at the second ("there"). What
// the nodes cost is the first one's alone for the former, and that of both for the latter.

// clusterRow is one figure of a run; without a scenario it is read off the run before.
type clusterRow struct {
	name   string
	args   []string
	metric string
	unit   string
	reach  float64 // the ratio to reach
}

var clusterRows = []clusterRow{
	{"emit to one socket, one in flight: p50", []string{"broadcast", "--clients", "1"}, "p50_ms", "ms", 2},
	{"the same: CPU", nil, cpu, "µs", 2.2},
	{"rooms of one, 64 in flight: CPU of an emit", []string{"broadcast", "--clients", "100", "--rooms", "100", "--window", "64"}, cpu, "µs", 2},
	{"broadcast to 1000, eight in flight: CPU of a delivery", []string{"broadcast", "--clients", "1000", "--window", "8"}, cpu, "µs", 1.15},
	{"join and leave, one in flight: p50", []string{"churn", "--clients", "100", "--rooms", "100", "--window", "1"}, "p50_ms", "ms", 0},
	{"event to a handler and its ack, 100 clients: CPU", []string{"echo", "--clients", "100"}, cpu, "µs", 2},
	{"the same, one client: p50", []string{"echo", "--clients", "1"}, "p50_ms", "ms", 0},
}

// pair is two nodes that know each other.
type pair [2]*server

func (p pair) stop() {
	for _, s := range p {
		if s != nil {
			s.stop()
		}
	}
}

func startPair(ctx context.Context, o *options) (p pair, err error) {
	var ports [2]string
	for i := range ports {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return p, err
		}
		ports[i] = l.Addr().String()
		l.Close()
	}
	return startNodes(ctx, o, func(i int) []string {
		return []string{"--cluster", "embedded", "--cluster-listen", ports[i], "--cluster-routes", strings.Join(ports[:], ",")}
	})
}

// startNodes starts two nodes, each with flags of its own, and waits until they know each other.
func startNodes(ctx context.Context, o *options, flags func(i int) []string) (p pair, err error) {
	for i := range p {
		p[i], err = startFoyerWith(ctx, o, append(flags(i), "--admin", "127.0.0.1:0", "--node-id", "NOD"+strconv.Itoa(i))...)
		if err != nil {
			p.stop()
			return p, err
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, s := range p { // until each says that the other is up
		for !s.knows(ctx, o, 2) {
			if time.Now().After(deadline) {
				p.stop()
				return p, errors.New("the nodes do not find each other")
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	return p, nil
}

// knows says whether so many nodes are up, as this one sees them.
func (s *server) knows(ctx context.Context, o *options, n int) bool {
	out, err := pinned(ctx, 1, o.foyer, "nodes", "--api", s.flags[3], "-o", "json").Output()
	return err == nil && bytes.Count(out, []byte(`"state":"NODE_STATE_UP"`)) == n // one object a line
}

// measureAt runs a scenario with its clients at one node and its calls at the first.
func measureAt(ctx context.Context, o *options, p pair, clients int, args []string) (map[string]any, error) {
	pids := []string{strconv.Itoa(p[0].cmd.Process.Pid)}
	if clients != 0 {
		pids = append(pids, strconv.Itoa(p[clients].cmd.Process.Pid))
	}
	args = slices.Concat([]string{"bench"}, args, []string{
		"--warmup", o.warmup.String(), "--seconds", strconv.FormatFloat(o.seconds, 'g', -1, 64),
		"--url", p[clients].flags[1], "--api", p[0].flags[3], "--server-pid", strings.Join(pids, ","), "-o", "json",
	})
	out, err := pinned(ctx, 1, o.foyer, args...).Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var result map[string]any
	return result, json.Unmarshal(out, &result)
}

// compareCluster prints what it costs that a client is at another node.
func compareCluster(ctx context.Context, o *options) error {
	found := map[string][2]results{} // by the scenario's row
	for round := range o.rounds {
		for _, r := range clusterRows {
			if r.args == nil || !o.only.MatchString(r.name) {
				continue
			}
			p, err := startPair(ctx, o)
			if err != nil {
				return err
			}
			both := found[r.name]
			for at := range both {
				result, err := measureAt(ctx, o, p, at, r.args)
				if err != nil {
					p.stop()
					return fmt.Errorf("%s: %w", r.name, err)
				}
				both[at] = append(both[at], result)
				fmt.Fprintf(os.Stderr, "round %d of %d, %s, %s: %.4g %s\n", round+1, o.rounds, r.name, []string{"here", "there"}[at],
					value(result, row{metric: r.metric, scale: 1}), r.unit)
			}
			found[r.name] = both
			p.stop()
		}
	}
	fmt.Printf("%d rounds, medians (lowest to highest); %s\n", o.rounds, processor())
	if len(found) > 0 {
		fmt.Print("\n| | here | at the other node | ratio | to reach |\n| --- | --- | --- | --- | --- |\n")
	}
	run := ""
	for _, r := range clusterRows {
		if r.args != nil {
			run = r.name
		}
		both, ok := found[run]
		if !ok {
			continue
		}
		var medians [2]float64
		var cells [2]string
		for at, all := range both {
			values := make([]float64, len(all))
			for i, result := range all {
				values[i] = value(result, row{metric: r.metric, scale: 1})
			}
			slices.Sort(values)
			medians[at] = values[len(values)/2]
			cells[at] = fmt.Sprintf("%s %s (%s to %s)", figure(medians[at]), r.unit, figure(values[0]), figure(values[len(values)-1]))
		}
		reach := ""
		if r.reach > 0 {
			reach = "≤ " + figure(r.reach)
		}
		fmt.Printf("| %s | %s | %s | %.2f | %s |\n", r.name, cells[0], cells[1], medians[1]/medians[0], reach)
	}
	return compareCalls(ctx, o)
}
