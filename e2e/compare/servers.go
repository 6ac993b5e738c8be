package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is one that runs, on a processor of its own.
type server struct {
	cmd   *exec.Cmd
	flags []string // for the load generator
	admin string   // Foyer's address of health and profiles
	rest  func()   // ends the reading of its metrics; nil: nobody reads them
}

func (s *server) stop() {
	if s.rest != nil {
		s.rest()
	}
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
	// What is measured is what the table says, not what somebody has exported.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "FOYER_") })
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func startFoyer(ctx context.Context, o *options) (*server, error) {
	if o.scrape == 0 {
		if o.collects {
			return startFoyerWith(ctx, o, "--admin", "127.0.0.1:0", "--pprof")
		}
		return startFoyerWith(ctx, o, "--admin", "")
	}
	s, err := startFoyerWith(ctx, o, "--admin", "127.0.0.1:0", "--pprof")
	if err != nil {
		return nil, err
	}
	ctx, s.rest = context.WithCancel(ctx)
	go s.scrape(ctx, o.scrape) // ends with rest
	return s, nil
}

// scrape reads the metrics again and again, as Prometheus does, until ctx ends. A reading that fails ends the process:
// a figure of what was not read would be a wrong one.
func (s *server) scrape(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+"/metrics", http.NoBody)
		var resp *http.Response
		if err == nil {
			req.Header.Set("Accept", "application/openmetrics-text")
			resp, err = http.DefaultClient.Do(req)
		}
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "compare: the metrics cannot be read:", err)
			os.Exit(1)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// startBefore starts an earlier binary; the load is still that of the present one.
func startBefore(ctx context.Context, o *options) (*server, error) {
	earlier := *o
	earlier.foyer, earlier.scrape = o.before, 0
	return startFoyer(ctx, &earlier)
}

// startFoyerWith learns the node's addresses from the line that it logs.
func startFoyerWith(ctx context.Context, o *options, flags ...string) (*server, error) {
	cmd := pinned(ctx, 0, o.foyer, append([]string{"serve", "--edge", "127.0.0.1:0", "--api", "127.0.0.1:0", "--log-format", "json"}, flags...)...)
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
		var line struct{ Msg, Edge, API, Admin string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			go func() { _, _ = io.Copy(io.Discard, log) }() // ends with the process
			s.flags, s.admin = []string{"--url", "http://" + line.Edge, "--api", line.API}, line.Admin
			return s, nil
		}
	}
	s.stop()
	return nil, errors.New("foyer does not start")
}

func startNode(ctx context.Context, o *options) (*server, error) { return startNodeWith(ctx, o) }

func startNodeWith(ctx context.Context, o *options, args ...string) (*server, error) {
	cmd := pinned(ctx, 0, "node", append([]string{o.node, "0"}, args...)...)
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
func measure(ctx context.Context, o *options, start func(context.Context, *options) (*server, error), r row) (map[string]any, error) {
	asked := *o
	// Two binaries of Foyer are told apart by less than where their last collection of garbage fell.
	asked.collects = o.before != "" && r.args[0] == "idle"
	s, err := start(ctx, &asked)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	args := slices.Clone(r.args)
	if asked.collects {
		args = append(args, "--collect", "http://"+s.admin+"/debug/pprof/heap?gc=1")
	}
	if timed(args[0]) {
		args = append(args, "--warmup", o.warmup.String(), "--seconds", strconv.FormatFloat(o.seconds, 'g', -1, 64))
	}
	out, err := s.load(ctx, o, args).Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var result map[string]any
	return result, json.Unmarshal(out, &result)
}

// timed says whether a scenario goes on for as long as one likes. Those that do need the API too, and those that do not
// have no flag for it.
func timed(scenario string) bool {
	return !slices.Contains([]string{"idle", "connect", "upgrade"}, scenario)
}

// load is the load generator with the arguments of a scenario, against the server.
func (s *server) load(ctx context.Context, o *options, args []string) *exec.Cmd {
	flags := s.flags
	if !timed(args[0]) {
		flags = flags[:2]
	}
	args = slices.Concat([]string{"bench"}, args, flags, []string{"--server-pid", strconv.Itoa(s.cmd.Process.Pid), "-o", "json"})
	return pinned(ctx, 1, o.foyer, args...)
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
