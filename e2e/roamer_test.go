//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// roamer is a client that comes back as the stock one does, after its link has ended: after a second, give or take a
// half, and twice that for each time in a row that it is refused, up to five.
type roamer struct {
	edge    string
	polling bool
	http    *http.Client // of those that poll

	mu      sync.Mutex
	id      string // of its socket; "" while it has none
	stays   []stay
	got     []int // the numbers that it was sent
	refused int
}

// stay is one connection, from its CONNECT to its end.
type stay struct {
	id      string
	began   time.Time
	ended   time.Time // zero: it has not
	why     error
	without time.Duration // from the end of the one before
}

const (
	reconnectAfter  = time.Second
	reconnectAtMost = 5 * time.Second
)

// node is where its socket is; "" when it has none.
func (r *roamer) node() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id[:min(4, len(r.id))]
}

// live connects again and again until ctx ends.
func (r *roamer) live(ctx context.Context) {
	for tries := 0; ctx.Err() == nil; {
		before := len(r.stays)
		var err error
		if r.polling {
			err = r.poll(ctx)
		} else {
			err = r.websocket(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		if len(r.stays) > before {
			last := &r.stays[before]
			last.ended, last.why, r.id, tries = time.Now(), err, "", 0
		} else {
			r.refused++
		}
		r.mu.Unlock()
		delay := min(reconnectAfter<<tries, reconnectAtMost)
		tries = min(tries+1, 3)
		select {
		case <-time.After(time.Duration((0.5 + rand.Float64()) * float64(delay))):
		case <-ctx.Done():
		}
	}
}

// connected notes that it has a socket.
func (r *roamer) connected(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := stay{id: id, began: time.Now()}
	if n := len(r.stays); n > 0 {
		s.without = s.began.Sub(r.stays[n-1].ended)
	}
	r.id, r.stays = id, append(r.stays, s)
}

// event notes what it was sent.
func (r *roamer) event(args string) {
	var number int
	if _, err := fmt.Sscanf(args, `["roam",%d]`, &number); err == nil {
		r.mu.Lock()
		r.got = append(r.got, number)
		r.mu.Unlock()
	}
}

func (r *roamer) websocket(ctx context.Context) error {
	s, err := rawJoin("", r.edge)
	if err != nil {
		return err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	r.connected(s.id)
	return s.read(r.event)
}

var errRoamerClosed = errors.New("closed by the node")

func (r *roamer) poll(ctx context.Context) error {
	open, err := r.ask(ctx, "", "")
	if err != nil {
		return err
	}
	var hello struct{ SID string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(open, "0")), &hello); err != nil {
		return fmt.Errorf("%q: %w", open, err)
	}
	if _, err := r.ask(ctx, hello.SID, "40"); err != nil {
		return err
	}
	for {
		body, err := r.ask(ctx, hello.SID, "")
		if err != nil {
			return err
		}
		for packet := range strings.SplitSeq(body, "\x1e") {
			switch {
			case packet == "1":
				return errRoamerClosed
			case packet == "2":
				if _, err := r.ask(ctx, hello.SID, "3"); err != nil {
					return err
				}
			case strings.HasPrefix(packet, "42"):
				r.event(packet[2:])
			case strings.HasPrefix(packet, "40"):
				var socket struct{ SID string }
				if err := json.Unmarshal([]byte(packet[2:]), &socket); err != nil {
					return fmt.Errorf("%q: %w", packet, err)
				}
				r.connected(socket.SID)
			}
		}
	}
}

// ask makes a poll, or a POST if it has something to say.
func (r *roamer) ask(ctx context.Context, sid, say string) (string, error) {
	url := "http://" + r.edge + "/socket.io/?EIO=4&transport=polling"
	if sid != "" {
		url += "&sid=" + sid
	}
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if say != "" {
		method, body = http.MethodPost, strings.NewReader(say)
	}
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return "", err
	}
	response, err := r.http.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %.80s", response.Status, text)
	}
	return string(text), err
}
