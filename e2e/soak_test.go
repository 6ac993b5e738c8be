//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
)

// soakTime is how long a soak lasts: SOAKTIME, which `make soak` sets, or what CI can afford.
func soakTime(t testing.TB) time.Duration {
	t.Helper()
	word := os.Getenv("SOAKTIME")
	switch {
	case word == "" && nodesOfOne() > 1:
		return 8 * time.Second
	case word == "":
		return 15 * time.Second
	}
	d, err := time.ParseDuration(word)
	if err != nil {
		t.Fatalf("SOAKTIME: %v", err)
	}
	return d
}

// byHand is whether `make soak` runs this, where a crowd may be larger than CI can afford.
func byHand() bool { return os.Getenv("SOAKTIME") != "" }

// soaker knows who is in which room when, and so what each client must hear.
type soaker struct {
	t     *testing.T
	b     *backend
	rooms []*soakRoom
	told  *feed[soakNote]
	ps    []*process
	each  int // clients a process

	mu     sync.Mutex
	faults []string
}

// soakRoom is a room whose emits, joins and leaves have one order: they are made under mu, each with its answer.
type soakRoom struct {
	name string
	mu   sync.Mutex
	seq  int
	in   map[string]int   // members, by socket id, and the first number that each hears
	past []soakMembership // those that ended
}

type soakMembership struct {
	id       string
	from, to int // the numbers it must hear: from, and all below to
}

// soakNote is a line of js/soak.js.
type soakNote struct {
	K, ID                                     string
	C                                         int
	Said, Echoed, Acked, Doubled, Misdirected int
	Upgrades, Unanswered                      int
	Wrong                                     []string
	Runs                                      map[string]map[string][][2]int
}

func (s *soaker) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

// emit sends the next number to a room, in one of the ways in which that can be done, and judges the answer.
func (s *soaker) emit(ctx context.Context, r *soakRoom, how int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	payload := say("room", r.name, r.seq, nil)
	if how%5 == 0 {
		payload = say("room", r.name, r.seq, map[string]any{"_placeholder": true, "num": 0})
		payload.Attachments = [][]byte{make([]byte, 300)}
	}
	to := &foyerv1.Target{Rooms: []string{r.name}}
	if how%4 > 0 {
		got, err := s.b.emits.Emit(ctx, &foyerv1.EmitRequest{Target: to, Payload: payload})
		if err != nil {
			s.fault("emit: %v", err)
			return
		}
		late := len(got.GetCoverage().GetUnreachable()) > 0 // a busy node is; its clients tell
		if n := int(got.GetEnqueued()); n > len(r.in) || n < len(r.in) && !late {
			s.fault("%s has %d members, and %d went to: %v", r.name, len(r.in), r.seq, got)
		}
		r.seq++
		return
	}
	got, err := s.b.emits.EmitWithAck(ctx, &foyerv1.EmitWithAckRequest{Target: to, Payload: payload, Timeout: durationpb.New(30 * time.Second)})
	if err != nil {
		s.fault("emit with ack: %v", err)
		return
	}
	r.seq++
	for _, outcome := range got.GetOutcomes() {
		if _, member := r.in[outcome.GetSocketId()]; !member || outcome.GetArgs().GetJson() != `["`+outcome.GetSocketId()+`"]` {
			s.fault("%s %d is answered by %v", r.name, r.seq-1, outcome)
		}
	}
	if len(got.GetOutcomes()) != len(r.in) {
		s.fault("%s has %d members, and %d was answered by %d", r.name, len(r.in), r.seq-1, len(got.GetOutcomes()))
	}
}

func (s *soaker) join(ctx context.Context, r *soakRoom, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	got, err := s.b.rooms.JoinRooms(ctx, &foyerv1.JoinRoomsRequest{Target: &foyerv1.Target{Rooms: []string{id}}, Rooms: []string{r.name}})
	if err != nil || got.GetMatched() != 1 {
		s.fault("join: %v, %v", got, err)
		return
	}
	if _, member := r.in[id]; !member {
		r.in[id] = r.seq
	}
}

func (s *soaker) leave(ctx context.Context, r *soakRoom, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from, member := r.in[id]
	if !member {
		return
	}
	got, err := s.b.rooms.LeaveRooms(ctx, &foyerv1.LeaveRoomsRequest{Target: &foyerv1.Target{Rooms: []string{id}}, Rooms: []string{r.name}})
	if err != nil || got.GetMatched() != 1 {
		s.fault("leave: %v, %v", got, err)
	}
	delete(r.in, id)
	r.past = append(r.past, soakMembership{id, from, r.seq})
}

// settle waits until a socket has heard all that was sent to it: its acknowledgement comes behind that.
func (s *soaker) settle(ctx context.Context, id string) {
	got, err := s.b.emits.EmitWithAck(ctx, &foyerv1.EmitWithAckRequest{
		Target: &foyerv1.Target{Rooms: []string{id}}, Payload: say("room", "settle", 0, nil), Timeout: durationpb.New(30 * time.Second),
	})
	if err != nil || got.GetSummary().GetAcked() != 1 {
		s.fault("a client does not answer: %v, %v", got, err)
	}
}

func (s *soaker) order(c int, op string) {
	fmt.Fprintf(s.ps[c/s.each].stdin, `{"op":%q,"c":%d}`+"\n", op, c)
}

// live moves a client in and out of rooms, and has it come back now and then, until ctx is over.
func (s *soaker) live(ctx context.Context, c int) {
	rng := rand.New(rand.NewPCG(uint64(c), 1))
	call := context.WithoutCancel(ctx) // what was begun is finished
	from, id := 0, ""
	arrive := func() bool {
		note, at, err := s.told.await(from, time.Minute, func(n soakNote) bool { return n.K == "connect" && n.C == c })
		if err != nil {
			s.fault("client %d does not come: %v", c, err)
			return false
		}
		from, id = at+1, note.ID
		return true
	}
	if !arrive() {
		return
	}
	for {
		r := s.rooms[rng.IntN(len(s.rooms))]
		switch what := rng.IntN(20); {
		case what < 12:
			s.join(call, r, id)
		case what < 18:
			s.leave(call, r, id)
		default:
			for _, r := range s.rooms {
				s.leave(call, r, id)
			}
			s.settle(call, id)
			s.order(c, []string{"again", "break"}[what%2])
			if !arrive() {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(50+rng.IntN(100)) * time.Millisecond):
		}
	}
}

// TestSoak: clients of all transports and parsers come, go, move between rooms and upgrade, backends are killed and
// stopped, strangers come and break off: nothing is lost, doubled or misdirected.
func TestSoak(t *testing.T) {
	f := startFoyer(t, "--log-level=info", "--connect=handler")
	handlers := []*process{startBackendProcess(t, f.api), startBackendProcess(t, f.api)}
	s := &soaker{t: t, b: api(t, f.api), told: newFeed[soakNote](), each: 30}
	for i := range 8 {
		s.rooms = append(s.rooms, &soakRoom{name: fmt.Sprintf("room %d", i), in: map[string]int{}})
	}
	reports := newFeed[soakNote]()
	for i := range nodes {
		p := start(t, "node", nil, "js/soak.js", fmt.Sprintf(`{"url":%q,"clients":%d,"first":%d}`, f.url(), s.each, i*s.each))
		t.Cleanup(p.kill)
		s.ps = append(s.ps, p)
		lines := newFeed[soakNote]()
		followLines(p, lines)
		go func() {
			for from := 0; ; from++ {
				note, _, err := lines.await(from, time.Hour, func(soakNote) bool { return true })
				if err != nil {
					return
				}
				if note.K == "report" {
					reports.add(note)
				} else {
					s.told.add(note)
				}
			}
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), soakTime(t))
	defer cancel()
	var all sync.WaitGroup
	for c := range nodes * s.each {
		all.Go(func() { s.live(ctx, c) })
	}
	emits := make([]int, len(s.rooms))
	for i, r := range s.rooms {
		all.Go(func() {
			for ; ctx.Err() == nil; emits[i]++ {
				s.emit(context.WithoutCancel(ctx), r, emits[i])
				<-time.After(10 * time.Millisecond)
			}
		})
	}
	strangers := during(func(context.Context) { churn(ctx, t, f, s.b) })
	all.Go(func() { s.trouble(ctx, f, handlers) })
	all.Wait()
	strangers()

	sum := s.finish(t, reports)
	info := s.b.info(t)
	t.Logf("%v emits; clients said %d, %d upgrades; without an answer %d; dropped %v", emits, sum.Said, sum.Upgrades, sum.Unanswered, info.GetDropped())
	for _, what := range append(s.faults, sum.Wrong...) {
		t.Error(what)
	}
	if sum.Doubled+sum.Misdirected > 0 {
		t.Errorf("%d doubled, %d misdirected", sum.Doubled, sum.Misdirected)
	}
	// What a killed backend had in hand may be lost, and nothing else.
	if lost := int(info.GetDropped()["handler_lost"]); sum.Unanswered > lost {
		t.Errorf("%d are without an answer, and %d were lost with a backend", sum.Unanswered, lost)
	}
	s.judge(t, sum.Runs)
}

// trouble kills one backend and starts it anew, and stops the other for a while, as often as there is time.
func (s *soaker) trouble(ctx context.Context, f *foyer, handlers []*process) {
	wait := func(d time.Duration) bool {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(d):
			return true
		}
	}
	for wait(3 * time.Second) {
		handlers[0].kill()
		handlers[0] = startBackendProcess(s.t, f.api)
		if !wait(2 * time.Second) {
			return
		}
		_ = handlers[1].cmd.Process.Signal(syscall.SIGSTOP)
		wait(3 * time.Second)
		_ = handlers[1].cmd.Process.Signal(syscall.SIGCONT)
	}
}

// finish ends the clients and adds up what they report.
func (s *soaker) finish(t *testing.T, reports *feed[soakNote]) (sum soakNote) {
	t.Helper()
	sum.Runs = map[string]map[string][][2]int{}
	for i, p := range s.ps {
		fmt.Fprintln(p.stdin, `{"op":"finish"}`)
		if _, _, err := reports.await(i, 2*time.Minute, func(soakNote) bool { return true }); err != nil {
			t.Fatalf("no report: %v\n%s", err, p.tail(20))
		}
	}
	for _, r := range reports.all() {
		sum.Said, sum.Echoed, sum.Acked = sum.Said+r.Said, sum.Echoed+r.Echoed, sum.Acked+r.Acked
		sum.Doubled, sum.Misdirected = sum.Doubled+r.Doubled, sum.Misdirected+r.Misdirected
		sum.Upgrades, sum.Unanswered = sum.Upgrades+r.Upgrades, sum.Unanswered+r.Unanswered
		sum.Wrong = append(sum.Wrong, r.Wrong...)
		for id, rooms := range r.Runs {
			sum.Runs[id] = rooms
		}
	}
	return sum
}

// judge compares what each socket heard with what it had to hear.
func (s *soaker) judge(t *testing.T, heard map[string]map[string][][2]int) {
	t.Helper()
	deliveries := 0
	for _, r := range s.rooms {
		want := map[string][][2]int{}
		for id, from := range r.in {
			r.past = append(r.past, soakMembership{id, from, r.seq})
		}
		for _, m := range r.past {
			if m.from == m.to {
				continue
			}
			deliveries += m.to - m.from
			runs := want[m.id]
			if n := len(runs); n > 0 && runs[n-1][1]+1 == m.from { // it left and came without missing anything
				runs[n-1][1] = m.to - 1
			} else {
				runs = append(runs, [2]int{m.from, m.to - 1})
			}
			want[m.id] = runs
		}
		for id, rooms := range heard {
			if got := rooms[r.name]; !slices.Equal(got, want[id]) {
				t.Errorf("%s: %s heard %v, want %v", r.name, id, got, want[id])
			}
			delete(want, id)
		}
		for id, runs := range want {
			t.Errorf("%s: %s heard nothing, want %v", r.name, id, runs)
		}
	}
	t.Logf("%d deliveries to rooms", deliveries)
}

// ---- strangers

// churn has clients come, hear what is meant for them alone, and break off at any moment, so that ids of sockets and
// descriptors of the kernel are used again and again. What one hears must be its own.
func churn(ctx context.Context, t *testing.T, f *foyer, b *backend) {
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(n), 2))
			for ctx.Err() == nil {
				s, err := rawJoin(mallory, f.edge)
				if err != nil {
					continue // while no backend is there
				}
				reader := make(chan struct{})
				go func() {
					defer close(reader)
					_ = s.read(func(args string) {
						var event []string
						if err := json.Unmarshal([]byte(args), &event); err != nil || len(event) != 2 || event[1] != s.id {
							t.Errorf("%s heard %s", s.id, args)
						}
					})
				}()
				to := &foyerv1.EmitRequest{Target: &foyerv1.Target{Rooms: []string{s.id}}, Payload: say("yours", s.id)}
				for range rng.IntN(20) {
					_, _ = b.emits.Emit(context.WithoutCancel(ctx), to)
				}
				if rng.IntN(2) == 0 {
					cut(s.Conn)
				} else {
					s.Close()
				}
				_, _ = b.emits.Emit(context.WithoutCancel(ctx), to) // to whom has its descriptor now?
				<-reader
			}
		})
	}
	all.Wait()
}
