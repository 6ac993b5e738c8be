// Command compare measures Foyer and the official Socket.IO server on Node side by side: `make bench-compare`. Rounds are
// interleaved, every measurement has a server of its own, the server has one processor and the load another, and what is told
// are medians and the ratio between the two.
package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// row is one line of the table: what is run, what is read off, and how Foyer may at most (at least) relate to Node.
type row struct {
	name   string
	args   []string
	metric string
	unit   string
	scale  float64
	more   bool    // is better
	mark   float64 // ratio to Node; 0: none
}

const cpu = "server_cpu_us_per_op"

func rows(idle, connects int) []row {
	return []row{
		{"idle websocket session, memory", []string{"idle", "--clients", strconv.Itoa(idle), "--seconds", "10"}, "rss_bytes_per_session", "KiB", 1.0 / 1024, false, 0.42},
		{"connects a second", []string{"connect", "--clients", strconv.Itoa(connects)}, "connects_per_second", "/s", 1, true, 2.6},
		{"connect, CPU", nil, cpu, "µs", 1, false, 0},
		{"broadcast to 1,000, one in flight", []string{"broadcast", "--clients", "1000"}, cpu, "µs", 1, false, 0.51},
		{"the same, p99", nil, "p99_ms", "ms", 1, false, 1},
		{"broadcast to 1,000, eight in flight", []string{"broadcast", "--clients", "1000", "--window", "8"}, cpu, "µs", 1, false, 0.12},
		{"the same, p99", nil, "p99_ms", "ms", 1, false, 1},
		{"broadcast to 5,000, eight in flight", []string{"broadcast", "--clients", "5000", "--window", "8"}, cpu, "µs", 1, false, 0.09},
		{"echo with ack, 100 clients", []string{"echo", "--clients", "100"}, cpu, "µs", 1, false, 1},
		{"long-polling, broadcast to 500, one in flight", []string{"polling", "--clients", "500"}, cpu, "µs", 1, false, 0.86},
		{"emit to a room of one, 64 in flight", []string{"broadcast", "--clients", "100", "--rooms", "100", "--window", "64"}, cpu, "µs", 1, false, 0},
	}
}

type options struct {
	foyer, node string
	rounds      int
	seconds     float64
	only        *regexp.Regexp
	idle        int
	connects    int
}

func main() {
	var o options
	only := ""
	flag.StringVar(&o.foyer, "foyer", "bin/foyer", "the binary")
	flag.StringVar(&o.node, "node", "e2e/js/bench_server.js", "the server to compare with")
	flag.IntVar(&o.rounds, "rounds", 5, "how often each is measured")
	flag.Float64Var(&o.seconds, "seconds", 4, "how long each time")
	flag.StringVar(&only, "only", ".", "rows to measure, a regular expression")
	flag.IntVar(&o.idle, "idle", 9000, "idle sessions")
	flag.IntVar(&o.connects, "connects", 5000, "sessions that are connected")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(only); err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = run(ctx, &o)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options) error {
	if err := raiseFiles(uint64(max(o.idle, o.connects) + 1000)); err != nil {
		return err
	}
	table := rows(o.idle, o.connects)
	type measurement struct{ results [2][]map[string]any } // Foyer's, Node's
	found := map[int]*measurement{}
	for round := range o.rounds {
		for i, r := range table {
			if r.args == nil || !o.only.MatchString(r.name) {
				continue
			}
			if found[i] == nil {
				found[i] = &measurement{}
			}
			for who, peer := range []func(context.Context, *options) (*server, error){startFoyer, startNode} {
				result, err := measure(ctx, o, peer, r)
				if err != nil {
					return fmt.Errorf("%s: %w", r.name, err)
				}
				found[i].results[who] = append(found[i].results[who], result)
				fmt.Fprintf(os.Stderr, "round %d of %d, %s, %s: %.4g %s\n", round+1, o.rounds, r.name, []string{"Foyer", "Node"}[who], value(result, r), r.unit)
			}
		}
	}
	fmt.Printf("%d rounds, medians (lowest to highest); %s, %d processors, %s, Node %s, %s\n\n", o.rounds, processor(), runtime.NumCPU(), runtime.Version(),
		version(ctx, "node", "--version"), time.Now().Format(time.DateOnly))
	fmt.Println("| | Foyer | Node socket.io | ratio | mark |\n| --- | --- | --- | --- | --- |")
	at := -1
	for i, r := range table {
		if r.args != nil {
			at = i
		}
		m := found[at]
		if m == nil {
			continue
		}
		var medians [2]float64
		var cells [2]string
		for who, results := range m.results {
			var values []float64
			for _, result := range results {
				values = append(values, value(result, r))
			}
			slices.Sort(values)
			medians[who] = values[len(values)/2]
			cells[who] = fmt.Sprintf("%s %s (%s to %s)", figure(medians[who]), r.unit, figure(values[0]), figure(values[len(values)-1]))
		}
		mark := ""
		if r.mark > 0 {
			mark = fmt.Sprintf("at %s %.2f", map[bool]string{false: "most", true: "least"}[r.more], r.mark)
		}
		fmt.Printf("| %s | %s | %s | %.2f | %s |\n", r.name, cells[0], cells[1], medians[0]/medians[1], mark)
	}
	return nil
}

func figure(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'f', max(0, 1-int(math.Floor(math.Log10(max(v, 0.01))))), 64)
}

func value(result map[string]any, r row) float64 {
	v, _ := result[r.metric].(float64)
	return v * r.scale
}

// server is one that runs, on a processor of its own.
type server struct {
	cmd   *exec.Cmd
	flags []string // for the load generator
}

func (s *server) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// pinned runs a program on one processor, where there are two.
func pinned(ctx context.Context, processor int, name string, args ...string) *exec.Cmd {
	if runtime.NumCPU() > 1 {
		args = append([]string{"-c", strconv.Itoa(processor), name}, args...)
		name = "taskset"
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// startFoyer learns the node's addresses from the line that it logs.
func startFoyer(ctx context.Context, o *options) (*server, error) {
	cmd := pinned(ctx, 0, o.foyer, "serve", "--edge", "127.0.0.1:0", "--api", "127.0.0.1:0", "--admin", "", "--log-format", "json")
	cmd.Stderr = nil
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd}
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Msg, Edge, API string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			go func() { _, _ = io.Copy(io.Discard, log) }() // ends with the process
			s.flags = []string{"--url", "http://" + line.Edge, "--api", line.API}
			return s, nil
		}
	}
	s.stop()
	return nil, errors.New("foyer does not start")
}

func startNode(ctx context.Context, o *options) (*server, error) {
	cmd := pinned(ctx, 0, "node", o.node)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("node does not start: %w", err)
	}
	s.flags = []string{"--url", "http://127.0.0.1:" + strings.TrimSpace(line)}
	return s, nil
}

// measure runs one scenario against a fresh server.
func measure(ctx context.Context, o *options, peer func(context.Context, *options) (*server, error), r row) (map[string]any, error) {
	s, err := peer(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	args := append([]string{"bench"}, r.args...)
	flags := s.flags
	switch r.args[0] {
	case "idle", "connect":
		flags = flags[:2] // no API is needed
	default:
		args = append(args, "--seconds", strconv.FormatFloat(o.seconds, 'g', -1, 64))
	}
	args = append(append(args, flags...), "--server-pid", strconv.Itoa(s.cmd.Process.Pid), "-o", "json")
	load := pinned(ctx, 1, o.foyer, args...)
	out, err := load.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var result map[string]any
	return result, json.Unmarshal(out, &result)
}

func raiseFiles(n uint64) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if l.Max < n {
		return fmt.Errorf("a process may open %d files, %d are needed", l.Max, n)
	}
	l.Cur = l.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}

func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	_, name, _ := strings.Cut(string(info), "model name\t: ")
	name, _, _ = strings.Cut(name, "\n")
	return cmp.Or(name, "unknown processor")
}

func version(ctx context.Context, name string, args ...string) string {
	out, _ := exec.CommandContext(ctx, name, args...).Output()
	return strings.TrimSpace(string(out))
}
