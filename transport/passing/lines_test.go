package passing

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// resting is how many lines wait for a request.
func (ls *lines) resting() (n int) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, list := range ls.idle {
		n += len(list)
	}
	return n
}

// TestClosedLines: a connection that the other side has closed while it rested is not used again, so no client loses
// its session by it.
func TestClosedLines(t *testing.T) {
	for name, o := range map[string]options{"plain": {}, "TLS": {secure: newAuthority(t)}} {
		t.Run(name, func(t *testing.T) {
			c := startCluster(t, o, "aaaa", "bbbb")
			a, b := c.nodes[0], c.nodes[1]
			query := b.open()
			for range 20 {
				if res := a.ask(http.MethodPost, query, "4x"); res.body != "ok" {
					t.Fatalf("%v, counted %v", res, a.passing.drops())
				}
				eventually(t, "the line rests", func() bool { return a.passing.lines.resting() == 1 })
				b.peers.CloseClientConnections()
			}
		})
	}
}

// TestRestingLines: one line serves one request after the other, and ends when nobody needs it.
func TestRestingLines(t *testing.T) {
	inBubble(t, func(p *pair) {
		query := polling + "&sid=" + p.owner.passing.NewSID() // its node says that there is none
		dialled := 0
		dial := p.other.passing.dial
		p.other.passing.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialled++
			return dial(ctx, network, addr)
		}
		for range 5 {
			p.ask(http.MethodGet, query, nil)
			time.Sleep(idleFor - time.Second)
			if n := p.other.passing.lines.resting(); n != 1 || dialled != 1 {
				t.Errorf("%d lines rest, %d were made", n, dialled)
			}
		}
		time.Sleep(2 * time.Second)
		if n := p.other.passing.lines.resting(); n != 0 || len(p.other.passing.lines.idle) != 0 {
			t.Errorf("%d lines rest for nobody", n)
		}
	})
}

// noting is a connection that notes when it was written to.
type noting struct {
	net.Conn
	writes *[]time.Time
}

func (n noting) Write(b []byte) (int, error) {
	*n.writes = append(*n.writes, time.Now())
	return n.Conn.Write(b)
}

// TestHeadGoesWithTheBody: a POST whose body is there is one write to its member; the head of another one does not wait
// for its body, which comes as it comes.
func TestHeadGoesWithTheBody(t *testing.T) {
	inBubble(t, func(p *pair) {
		query, _ := p.open()
		var writes []time.Time
		dial := p.other.passing.dial
		p.other.passing.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			return noting{conn, &writes}, err
		}
		for _, c := range []struct {
			body io.Reader
			want []time.Duration // when it was written to
		}{
			{strings.NewReader("4x"), []time.Duration{0}},
			{&slowly{2, time.Second}, []time.Duration{headWaits, time.Second, 2 * time.Second, 2 * time.Second}}, // the last one has no more than its end
			{nil, []time.Duration{0}},
		} {
			began := time.Now()
			writes = nil
			method := http.MethodPost
			if c.body == nil {
				method = http.MethodGet
			}
			if res, _ := p.ask(method, query, c.body); res.status != http.StatusOK {
				t.Errorf("%v", res)
			}
			var got []time.Duration
			for _, w := range writes {
				got = append(got, w.Sub(began))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: written after %v, want %v", method, got, c.want)
			}
		}
	})
}
