// Command compare measures Foyer and the official Socket.IO server on Node side by side: `make bench-compare`. Rounds
// are interleaved and change which of the two goes first, every measurement has a server of its own, the server has one
// processor and the load another. What is told are medians, and the ratio of the two measurements of a round: its
// median over the rounds, and where that surely lies (between). Beside them stands the floor, which is what the writes
// alone cost (floor.go). With
// -peers it measures two nodes and two servers on Node that share their rooms by a Redis server (peers.go). With
// -profile it leaves profiles of Foyer in one scenario instead (profile.go): `make profile`.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"
)

type options struct {
	foyer, node string
	redis       string
	peers, bus  string // the name of a bus, and the URL of its server
	before      string // an earlier binary, to compare with instead of Node
	rounds      int
	seconds     float64
	warmup      time.Duration
	rest        float64
	collects    bool          // idle servers are asked to collect their garbage
	scrape      time.Duration // how often Foyer's metrics are read; 0: never
	only        *regexp.Regexp
	idle        int
	connects    int
	divide      int
	raw         string
	profile     string
	args        []string // what is left
}

func main() {
	var o options
	only, floor, cluster := "", "", false
	flag.StringVar(&o.foyer, "foyer", "bin/foyer", "the binary")
	flag.StringVar(&o.node, "node", "e2e/js/bench_server.js", "the server to compare with")
	flag.StringVar(&o.before, "before", "", "an earlier binary of Foyer, to compare with instead of Node")
	flag.DurationVar(&o.scrape, "scrape", 0, "how often Foyer's metrics are read, and those of -before not; with -before bin/foyer it is what that costs")
	flag.IntVar(&o.rounds, "rounds", 5, "how often each is measured")
	flag.Float64Var(&o.seconds, "seconds", 4, "how long each time")
	flag.DurationVar(&o.warmup, "warmup", 2*time.Second, "how long it runs before that")
	flag.Float64Var(&o.rest, "rest", 10, "how many seconds idle sessions rest")
	flag.StringVar(&only, "only", ".", "rows to measure, a regular expression")
	flag.IntVar(&o.idle, "idle", 9000, "idle sessions")
	flag.IntVar(&o.connects, "connects", 5000, "sessions that are connected")
	flag.IntVar(&o.divide, "divide", 1, "by what all other numbers of clients are divided, for a quick look")
	flag.BoolVar(&cluster, "cluster", false, "what it costs that clients are at another node of a cluster, instead of Node")
	flag.StringVar(&o.peers, "peers", "", "two nodes that share rooms by a bus, against two servers on Node that do: redis, redis-sharded, redis-streams, postgres, mongo")
	flag.StringVar(&o.redis, "redis", "bin/redis-server", "the Redis server to run for -peers")
	flag.StringVar(&o.bus, "bus", "", "the URL of a server for -peers that runs already; postgres and mongo need it")
	flag.StringVar(&o.raw, "raw", "", "a file to add every single result to, as JSON lines")
	flag.StringVar(&o.profile, "profile", "", "a scenario of foyer bench: leave profiles of it in profiles/; arguments are more of its flags")
	flag.StringVar(&floor, "floor", "", "for the program's own use: be one side of the floor")
	flag.Parse()
	o.args = flag.Args()
	var err error
	if o.only, err = regexp.Compile(only); err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		switch {
		case o.divide < 1 || o.rounds < 1:
			err = errors.New("-divide and -rounds are at least 1")
		case floor != "":
			err = floorSide(ctx, floor, o.args)
		case o.profile != "":
			err = profile(ctx, &o)
		case cluster:
			err = compareCluster(ctx, &o)
		case o.peers != "":
			err = comparePeers(ctx, &o)
		default:
			err = compare(ctx, &o)
		}
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// row is one line of the table: what is run, what is read off, and how Foyer may at most (at least) relate to Node. A
// row without args reads something else off the run before it.
type row struct {
	name    string
	args    []string
	metric  string
	unit    string
	scale   float64
	more    bool    // is better
	mark    float64 // ratio to Node; 0: none
	clients int     // and
	frames  int     // to each in one write, for the floor; 0: there is none
}

const (
	cpu     = "server_cpu_us_per_op"
	largest = 5000 // clients of a broadcast
)

func rows(o *options) []row {
	n := func(clients int) int { return max(1, clients/o.divide) }
	// broadcast is a run and two rows, its cost and its tail.
	broadcast := func(clients, window int, mark float64) []row {
		c, flight := n(clients), "one"
		if window > 1 {
			flight = strconv.Itoa(window)
		}
		return []row{{
			name: fmt.Sprintf("broadcast to %d, %s in flight", c, flight), mark: mark, clients: c, frames: window,
			args: []string{"broadcast", "--clients", strconv.Itoa(c), "--window", strconv.Itoa(window)}, metric: cpu, unit: "µs", scale: 1,
		}, {
			name: "the same, p99", mark: 1, metric: "p99_ms", unit: "ms", scale: 1,
		}}
	}
	echo, polling, single := strconv.Itoa(n(100)), strconv.Itoa(n(500)), strconv.Itoa(n(100))
	return slices.Concat(
		[]row{
			{
				name: "idle websocket session, memory", mark: 0.42, metric: "rss_bytes_per_session", unit: "KiB", scale: 1.0 / 1024,
				args: []string{"idle", "--clients", strconv.Itoa(o.idle), "--seconds", strconv.FormatFloat(o.rest, 'g', -1, 64)},
			},
			{
				name: "connects a second", mark: 2.6, more: true, metric: "connects_per_second", unit: "/s", scale: 1,
				args: []string{"connect", "--clients", strconv.Itoa(o.connects)},
			},
			{name: "connect, CPU", metric: cpu, unit: "µs", scale: 1},
		},
		broadcast(1000, 1, 0.51),
		broadcast(1000, 8, 0.12),
		broadcast(largest, 8, 0.09),
		[]row{
			{name: "echo with ack, " + echo + " clients", mark: 1, metric: cpu, unit: "µs", scale: 1, args: []string{"echo", "--clients", echo}},
			{
				name: "long-polling, broadcast to " + polling + ", one in flight", mark: 0.86, metric: cpu, unit: "µs", scale: 1,
				args: []string{"polling", "--clients", polling},
			},
			{
				name: "emit to a room of one, 64 in flight", metric: cpu, unit: "µs", scale: 1,
				args: []string{"broadcast", "--clients", single, "--rooms", single, "--window", "64"},
			},
		},
	)
}

// peers are what is measured, in the order of the columns.
var peers = [...]struct {
	name    string
	measure func(context.Context, *options, row) (map[string]any, error)
}{
	{"Foyer", func(ctx context.Context, o *options, r row) (map[string]any, error) {
		return measure(ctx, o, startFoyer, r)
	}},
	{"Node", func(ctx context.Context, o *options, r row) (map[string]any, error) {
		if o.before != "" {
			return measure(ctx, o, startBefore, r)
		}
		return measure(ctx, o, startNode, r)
	}},
	{"floor", measureFloor},
}

const foyer, node, floor = 0, 1, 2 // of peers

func compare(ctx context.Context, o *options) error {
	if err := raiseFiles(uint64(max(o.idle, o.connects, largest/o.divide) + 1000)); err != nil {
		return err
	}
	table := rows(o)
	if !slices.ContainsFunc(table, func(r row) bool { return r.args != nil && o.only.MatchString(r.name) }) {
		return fmt.Errorf("-only: no run is named like %q; \"connect, CPU\" and the tails come with the row above them", o.only)
	}
	if o.before != "" { // the marks are of Node
		for i := range table {
			table[i].mark = 0
		}
	}
	found := make([][len(peers)]results, len(table))
	raw, err := openRaw(o.raw)
	if err != nil {
		return err
	}
	defer raw.Close()
	for round := range o.rounds {
		for i, r := range table {
			if r.args == nil || !o.only.MatchString(r.name) {
				continue
			}
			order := []int{foyer, node, floor}
			if round%2 == 1 {
				order[foyer], order[node] = node, foyer
			}
			for _, who := range order {
				if who == floor && r.frames == 0 {
					continue
				}
				p := peers[who]
				result, err := p.measure(ctx, o, r)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", r.name, p.name, err)
				}
				found[i][who] = append(found[i][who], result)
				if err := raw.add(rawLine{round + 1, r.name, p.name, result}); err != nil {
					return err
				}
				fmt.Fprintf(os.Stderr, "round %d of %d, %s, %s: %.4g %s\n", round+1, o.rounds, r.name, p.name, value(result, r), r.unit)
			}
		}
	}
	fmt.Printf("%d rounds, medians (lowest to highest); %s, %d processors, %s, Node %s, %s\n\n", o.rounds, processor(), runtime.NumCPU(), runtime.Version(),
		version(ctx, "node", "--version"), time.Now().Format(time.DateOnly))
	other := "Node socket.io"
	if o.before != "" {
		other = "Foyer before"
	}
	fmt.Println("| | Foyer | " + other + " | ratio (95 % interval) | mark | write(2) floor |\n| --- | --- | --- | --- | --- | --- |")
	at := -1
	for i, r := range table {
		if r.args != nil {
			at = i
		}
		if m := &found[at]; m[foyer] != nil {
			fmt.Println(line(r, m))
		}
	}
	return nil
}

// results are those of one row and peer, one a round.
type results []map[string]any

// line is a line of the table.
func line(r row, found *[len(peers)]results) string {
	var medians [len(peers)]float64
	var cells [len(peers)]string
	for who, all := range found {
		if all == nil || who == floor && r.frames == 0 {
			continue
		}
		values := make([]float64, len(all))
		for i, result := range all {
			values[i] = value(result, r)
		}
		slices.Sort(values)
		medians[who] = values[len(values)/2]
		cells[who] = fmt.Sprintf("%s %s (%s to %s)", figure(medians[who]), r.unit, figure(values[0]), figure(values[len(values)-1]))
	}
	mark := ""
	if r.mark > 0 {
		mark = fmt.Sprintf("at %s %.2f", map[bool]string{false: "most", true: "least"}[r.more], r.mark)
	}
	ratios := make([]float64, len(found[foyer]))
	for i := range ratios {
		ratios[i] = value(found[foyer][i], r) / value(found[node][i], r)
	}
	slices.Sort(ratios)
	low, high := between(ratios)
	return fmt.Sprintf("| %s | %s | %s | %.2f (%.2f to %.2f) | %s | %s |",
		r.name, cells[foyer], cells[node], ratios[len(ratios)/2], low, high, mark, cells[floor])
}

// between returns where the median of what sorted is drawn from lies with 95 % confidence, whatever the distribution:
// each draw is above the median or below it, like a coin. Of fewer than six draws nothing is that sure; then it is the
// lowest and the highest.
func between(sorted []float64) (low, high float64) {
	n := len(sorted)
	// chance is how likely k of n coins or fewer show heads; term is how likely just k do.
	k, term := 0, math.Pow(0.5, float64(n))
	for chance := term; chance <= 0.025 && k < (n-1)/2; chance += term {
		term *= float64(n-k) / float64(k+1)
		k++
	}
	k = max(k-1, 0)
	return sorted[k], sorted[n-1-k]
}

// figure is a number with two digits or more.
func figure(v float64) string {
	digits := 0
	for limit := 10.0; v < limit && digits < 3; limit /= 10 {
		digits++
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}

func value(result map[string]any, r row) float64 {
	v, _ := result[r.metric].(float64)
	return v * r.scale
}

// rawFile takes every result as it comes; nil takes none.
type rawFile struct{ f *os.File }

type rawLine struct {
	Round  int            `json:"round"`
	Row    string         `json:"row"`
	Server string         `json:"server"`
	Result map[string]any `json:"result"`
}

func openRaw(name string) (*rawFile, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return &rawFile{f}, err
}

func (w *rawFile) add(l rawLine) error {
	if w == nil {
		return nil
	}
	return json.NewEncoder(w.f).Encode(l)
}

// Close closes the file. What could go wrong, add has said.
func (w *rawFile) Close() {
	if w != nil {
		w.f.Close()
	}
}
