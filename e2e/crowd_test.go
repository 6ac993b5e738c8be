//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

// nodes is in how many Node processes a crowd is: one thread each, and there are two processors where this must run.
const nodes = 2

// crowdResult is what js/crowd.js counted; see there.
type crowdResult struct {
	Clients, Connected, OnWebsocket, Served         int
	Said, Echoes, Acks, Pushed, Connects, Upgrades  int
	Lost, Doubled, Disordered, Wrong, Released, Cut int
	AckBeforeEcho, Refused, SlowestLag              int
	Disconnects, ConnectErrors                      map[string]int
	Examples                                        []string
	Latency                                         map[string]map[int]int // kind, ms, how many
}

func (r *crowdResult) add(o crowdResult) {
	for to, n := range map[*int]int{
		&r.Clients: o.Clients, &r.Connected: o.Connected, &r.OnWebsocket: o.OnWebsocket, &r.Served: o.Served, &r.Said: o.Said,
		&r.Echoes: o.Echoes, &r.Acks: o.Acks, &r.Pushed: o.Pushed, &r.Connects: o.Connects, &r.Upgrades: o.Upgrades, &r.Lost: o.Lost,
		&r.Doubled: o.Doubled, &r.Disordered: o.Disordered, &r.Wrong: o.Wrong, &r.Released: o.Released, &r.Cut: o.Cut,
		&r.AckBeforeEcho: o.AckBeforeEcho, &r.Refused: o.Refused,
	} {
		*to += n
	}
	r.SlowestLag = max(r.SlowestLag, o.SlowestLag)
	sum := func(to *map[string]int, from map[string]int) {
		if *to == nil {
			*to = map[string]int{}
		}
		for k, n := range from {
			(*to)[k] += n
		}
	}
	sum(&r.Disconnects, o.Disconnects)
	sum(&r.ConnectErrors, o.ConnectErrors)
	r.Examples = append(r.Examples, o.Examples...)
	if r.Latency == nil {
		r.Latency = map[string]map[int]int{}
	}
	for kind, histogram := range o.Latency {
		if r.Latency[kind] == nil {
			r.Latency[kind] = map[int]int{}
		}
		for ms, n := range histogram {
			r.Latency[kind][ms] += n
		}
	}
}

// percentiles of a histogram, in words.
func percentiles(histogram map[int]int) string {
	total := 0
	for _, n := range histogram {
		total += n
	}
	values := slices.Sorted(maps.Keys(histogram))
	at := func(share float64) int {
		left := int(share * float64(total))
		for _, ms := range values {
			if left -= histogram[ms]; left < 0 {
				return ms
			}
		}
		if len(values) == 0 {
			return 0
		}
		return values[len(values)-1]
	}
	return fmt.Sprintf("n=%d p50=%d p90=%d p99=%d p99.9=%d max=%d ms", total, at(0.5), at(0.9), at(0.99), at(0.999), at(1))
}

func (r *crowdResult) log(t *testing.T) {
	t.Helper()
	t.Logf("%d clients: %d connects, %d upgrades, %d said, %d echoes, %d acknowledgements, %d pushes; disconnects %v, connect errors %v, cut off %d; node late by %d ms at most",
		r.Clients, r.Connects, r.Upgrades, r.Said, r.Echoes, r.Acks, r.Pushed, r.Disconnects, r.ConnectErrors, r.Cut, r.SlowestLag)
	for _, kind := range []string{"connect", "upgrade", "echo", "ack", "push", "together", "canary"} {
		if len(r.Latency[kind]) > 0 {
			t.Logf("%-8s %s", kind, percentiles(r.Latency[kind]))
		}
	}
}

// check fails the test for all that must never be, however slow the machine is.
func (r *crowdResult) check(t *testing.T) {
	t.Helper()
	for what, n := range map[string]int{
		"lost": r.Lost, "doubled": r.Doubled, "out of order": r.Disordered, "wrongly acknowledged": r.Wrong,
		"released by a heartbeat": r.Released, "acknowledged before the event that was emitted before": r.AckBeforeEcho,
		"refused": r.Refused, "not connected at the end": r.Clients - r.Connected, "not on websocket at the end": r.Clients - r.OnWebsocket,
	} {
		if n != 0 {
			t.Errorf("%d %s", n, what)
		}
	}
	if len(r.Examples) > 0 {
		t.Logf("for example:\n%s", strings.Join(r.Examples, "\n"))
	}
}

type crowdProcesses []*process

// startCrowd lets clients come in, so many a second in all.
func startCrowd(t *testing.T, f *foyer, clients, perSecond int, pingInterval time.Duration, mode string, pushes int) crowdProcesses {
	t.Helper()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Max < uint64(3*clients+500) {
		t.Fatalf("a crowd of %d needs more open files than %d: raise the hard limit (%v)", clients, files.Max, err)
	}
	var ps crowdProcesses
	for range nodes {
		raw, err := json.Marshal(map[string]any{
			"url": f.url(), "clients": clients / nodes, "perSecond": float64(perSecond) / nodes, "pingInterval": pingInterval.Milliseconds(),
			"mode": mode, "pushes": pushes,
		})
		if err != nil {
			t.Fatal(err)
		}
		p := start(t, "node", nil, "js/crowd.js", string(raw))
		t.Cleanup(func() {
			p.kill()
			if t.Failed() {
				t.Logf("node said: %s", p.tail(20))
			}
		})
		ps = append(ps, p)
	}
	return ps
}

func (ps crowdProcesses) tell(order string) {
	for _, p := range ps {
		fmt.Fprintln(p.stdin, order)
	}
}

// await waits until each process has said something of this kind, and returns these lines.
func (ps crowdProcesses) await(t *testing.T, key string, within time.Duration) (lines []string) {
	t.Helper()
	for _, p := range ps {
		line, _, err := p.out.await(0, within, func(line string) bool { return strings.HasPrefix(line, `{"`+key+`"`) })
		if err != nil {
			t.Fatalf("no %q from node: %v\n%s", key, err, p.tail(20))
		}
		lines = append(lines, line)
	}
	return lines
}

func (ps crowdProcesses) result(t *testing.T, within time.Duration) *crowdResult {
	t.Helper()
	sum := &crowdResult{}
	for i, line := range ps.await(t, "result", within) {
		var r struct{ Result crowdResult }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("node %d: %v", i, err)
		}
		sum.add(r.Result)
	}
	return sum
}

// untimed are settings for a crowd on a machine that is busy with something else. Its answers and upgrades may take as
// long as that takes.
func untimed(args ...string) []string {
	return append(args, "--ping-timeout=90s", "--upgrade-timeout=90s", "--connect-timeout=90s", "--log-level=info")
}

// TestThousand has a thousand stock clients with default options come in, a hundred new ones a second, each talking
// through its upgrade.
func TestThousand(t *testing.T) {
	const pingInterval = 15 * time.Second
	f := startFoyer(t, untimed("--ping-interval="+pingInterval.String())...)
	const pushes = 25
	attach(t, f.api, crowdRegister(), func(b *backend) {
		crowdBackend(b)
		b.onConnected = func(c *foyerv1.Connected) { go pushTo(b, c.GetSocket().GetId(), pushes) }
	})
	crowd := startCrowd(t, f, 1000, 100, pingInterval, "through", pushes)
	r := crowd.result(t, 3*time.Minute)
	r.log(t)
	r.check(t)
	// On a machine that is much too slow a decision may be late, so that a link is closed and the client comes again. No
	// client that was in may fall out.
	if r.Echoes != r.Said || r.Acks != r.Said || r.Pushed != pushes*r.Clients || r.Cut > 0 || r.Connects != r.Clients {
		t.Errorf("counts differ, or somebody fell out")
	}
}

// pushTo sends what nobody asked for, every 2 ms from a client's first moment on: through its upgrade.
func pushTo(b *backend, id string, n int) {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for i := range n {
		b.emit("/", id, "push", i, time.Now().UnixMilli())
		<-ticker.C
	}
}

// TestThousandBackendKilled is the same while the backend, which also decides connects, is killed amid the arrivals and
// returns ten seconds later. The events that the backend had not answered are lost. No client is turned away, and all
// clients are served again.
func TestThousandBackendKilled(t *testing.T) {
	for _, tt := range []struct {
		name                 string
		clients, handlerWait int
		away                 time.Duration
	}{
		{"default wait", 1000, 10, 10 * time.Second},
		{"longer than the wait", 200, 2, 5 * time.Second}, // links are closed meanwhile, and come back
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := startFoyer(t, untimed("--connect=handler", fmt.Sprintf("--handler-wait=%ds", tt.handlerWait))...)
			backend := startBackendProcess(t, f.api)
			crowd := startCrowd(t, f, tt.clients, 100, 25*time.Second, "steady", 0)

			// Amid the arrivals: when a third of them is here. It is told by the API, since the crowd has other things to do.
			b := api(t, f.api)
			eventually(t, func() error {
				if n := connectedSockets(t, b); n < tt.clients/3 {
					return fmt.Errorf("only %d are connected", n)
				}
				return nil
			})
			backend.kill()
			t.Logf("killed with %d connected", connectedSockets(t, b))
			select { // this time is the condition: the backend is away for so long
			case <-time.After(tt.away):
			case <-t.Context().Done():
			}
			startBackendProcess(t, f.api)
			crowd.tell("mark")
			t.Log(crowd.await(t, "served", 150*time.Second))
			crowd.tell("stop")
			r := crowd.result(t, 90*time.Second)
			r.log(t)
			r.check(t)
			if r.Served != r.Clients {
				t.Errorf("%d of %d are served again", r.Served, r.Clients)
			}
		})
	}
}

// startBackendProcess runs this test binary again, as the backend of a crowd, and waits until it is attached.
func startBackendProcess(t *testing.T, addr string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, self, []string{backendEnv + "=" + addr})
	t.Cleanup(p.kill)
	if _, _, err := p.out.await(0, patience, func(line string) bool { return line == "attached" }); err != nil {
		t.Fatalf("the backend does not attach: %v\n%s", err, p.tail(10))
	}
	return p
}

func connectedSockets(t *testing.T, b *backend) int {
	t.Helper()
	return int(b.info(t).GetSockets())
}

// Three handlers of a group are restarted one after the other, by kill, under 500 clients that talk. Nothing comes out
// of order or twice, nobody notices but by what was in hand at the kill, and the server counts just that.
func TestRollingHandlers(t *testing.T) {
	f := startFoyer(t, untimed("--connect=handler")...)
	handlers := []*process{startBackendProcess(t, f.api), startBackendProcess(t, f.api), startBackendProcess(t, f.api)}
	crowd := startCrowd(t, f, 500, 100, 25*time.Second, "steady", 0)
	b := api(t, f.api)
	eventually(t, func() error {
		if n := connectedSockets(t, b); n < 400 {
			return fmt.Errorf("only %d are connected", n)
		}
		return nil
	})
	for i, h := range handlers {
		h.kill()
		handlers[i] = startBackendProcess(t, f.api)
	}
	crowd.tell("mark")
	t.Log(crowd.await(t, "served", 150*time.Second))
	crowd.tell("stop")
	r := crowd.result(t, 90*time.Second)
	r.log(t)
	r.check(t)
	if r.Served != r.Clients || len(r.Disconnects) > 0 {
		t.Errorf("%d of %d are served again; disconnects %v", r.Served, r.Clients, r.Disconnects)
	}
	dropped := b.info(t).GetDropped()
	lost, counted := r.Said-r.Acks, int(dropped["handler_lost"])
	t.Logf("without an answer: %d; counted as in flight with a killed handler: %d", lost, counted)
	// Each Node process has a canary besides, which may have had one event in flight at each kill.
	if lost > counted || counted > lost+len(handlers)*nodes || dropped["handler_absent"]+dropped["handler_slow"] > 0 {
		t.Errorf("%d lost, but counted: %v", lost, dropped)
	}
}
