//go:build e2e

package e2e

import (
	"os"
	"sync"
	"testing"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

// TestClusterTrafficAtRest tells what three nodes cost whose sockets are silent, more than a node alone does: what is
// said between them. FIGURES=1 has it look for longer, for a figure to publish.
func TestClusterTrafficAtRest(t *testing.T) {
	const sockets = 1000
	look := 5 * time.Second
	if os.Getenv("FIGURES") != "" {
		look = time.Minute
	}
	needFiles(t, 4*sockets+500)
	quiet := []string{"--log-level=info", "--ping-interval=10m", "--handshake-rate=-1"}
	nodes := startMembersWith(t, []string{"AAAA", "BBBB", "CCCC"}, quiet...)
	alone := startFoyerOn(t, nil, quiet...)
	for _, f := range []*foyer{nodes[0], alone} {
		attach(t, f.api, &foyerv1.Register{Namespaces: []string{"/"}}, func(b *backend) { b.forgetEvents = true })
	}
	nodes = append(nodes, alone)
	var all sync.WaitGroup
	for _, f := range nodes {
		all.Go(func() {
			for range sockets {
				s, err := rawJoin("", f.edge)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { s.Close() })
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	<-time.After(2 * time.Second) // what the arrivals have left to do is done
	began := time.Now()
	before := map[*foyer]time.Duration{}
	for _, f := range nodes {
		before[f] = f.processor(t)
	}
	<-time.After(look)
	share := func(f *foyer) float64 { return 100 * float64(f.processor(t)-before[f]) / float64(time.Since(began)) }
	base := share(alone)
	for _, f := range nodes[:3] {
		got := share(f)
		t.Logf("%s takes %.2f %% of a processor, of which %.2f for the cluster; a node alone takes %.2f %%", f.name(t), got, got-base, base)
		if got-base > 2 { // four times what it should be: something is done that is not needed
			t.Errorf("%s: %.2f %% for the cluster", f.name(t), got-base)
		}
	}
}
