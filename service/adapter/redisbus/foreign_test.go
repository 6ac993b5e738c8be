package redisbus

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"foyer/service/adapter/freeport"
	"foyer/service/adapter/lives"
)

// What somebody else publishes to nodes' channels, however large, is not kept. What it takes is measured of the whole
// process: no other test may run beside it.
func TestForeignMessages(t *testing.T) {
	const size = 100 << 20
	large := strings.Repeat("x", size)
	for name, limit := range map[string]string{"read over": "pubsub 0 0 0", "cut off by the server": "pubsub 32mb 8mb 60"} {
		t.Run(name, func(t *testing.T) {
			server := startServer(t, freeport.New(t), "--client-output-buffer-limit", limit)
			url := "redis://" + server.Addr
			a, b := connect(t, Config{Node: "AAAA", URL: url}), newEar(t, connect(t, Config{Node: "BBBB", URL: url}))
			b.hears(t, a, "before")
			lost := b.Lost()
			stranger := dialClient(t, server.Addr)
			command := appendCommand(nil, "PUBLISH", "foyer.to.BBBB", large)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := io.Copy(stranger, bytes.NewReader(command)); err != nil {
				t.Fatal(err)
			}
			if err := stranger.ok(); err != nil {
				t.Fatal(err)
			}
			if limit == "pubsub 0 0 0" {
				await(t, "a loss", func() bool { return b.Lost() > lost })
			}
			b.hears(t, a, "after")
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > size/10 {
				t.Errorf("a message of %d MB took %d MB", size>>20, took>>20)
			}
		})
	}
}

// A name that stands for two servers does not make a bus that is up and deaf.
func TestSplit(t *testing.T) {
	t.Parallel()
	servers := []*process{startServer(t, freeport.New(t)), startServer(t, freeport.New(t))}
	var turn atomic.Int64
	either := listen(t, func(c net.Conn) {
		to, err := net.Dial("tcp", servers[turn.Add(1)%2].Addr)
		if err != nil {
			return
		}
		defer to.Close()
		go func() { // it ends with either connection
			_, _ = io.Copy(to, c)
			to.Close()
		}()
		_, _ = io.Copy(c, to)
	})
	await(t, "a line about what does not come back", func() bool { // with slow servers it may fail earlier
		log, logs := testLog()
		b := connect(t, Config{Node: "AAAA", URL: "redis://" + either, Logger: log, callTimeout: answerTimeout})
		defer b.Close()
		told := logs.FilterMessage("bus not reached yet")
		if b.Up() || told.Len() != 1 {
			t.Fatalf("the bus is up: %v; it has told %v", b.Up(), logs.All())
		}
		return strings.Contains(fmt.Sprint(told.All()[0].ContextMap()), "does not come back")
	})
}

// A server may answer anything: the bus is down, and lives on.
func TestStrangeServers(t *testing.T) {
	greeted := "+OK\r\n*3\r\n$9\r\nsubscribe\r\n$9\r\nfoyer.all\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$13\r\nfoyer.to.AAAA\r\n:2\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n"
	for name, answer := range map[string]string{
		"nothing more":        "",
		"a number":            ":1\r\n",
		"no list":             "*-1\r\n",
		"a message of no one": "*3\r\n$7\r\nmessage\r\n$9\r\nfoyer.all\r\n$-1\r\n",
		"a negative length":   "*3\r\n$7\r\nmessage\r\n$9\r\nfoyer.all\r\n$-7\r\n",
		"a length of 4 GiB":   "*3\r\n$7\r\nmessage\r\n$9\r\nfoyer.all\r\n$4294967296\r\n",
		"a long list":         "*2147483647\r\n$1\r\na\r\n",
		"a map":               "%1\r\n$1\r\na\r\n$1\r\na\r\n",
		"an error":            "-ERR what\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var conns atomic.Int64
			server := listen(t, func(c net.Conn) {
				_, _ = c.Read(make([]byte, 1000))
				if conns.Add(1)%2 == 1 { // it is asked three things, one after the other
					fmt.Fprint(c, greeted, answer)
				} else {
					fmt.Fprint(c, "+OK\r\n:1\r\n:1\r\n")
				}
				if answer != "" {
					_, _ = io.Copy(io.Discard, c)
				}
			})
			b, err := Connect(Config{Node: "AAAA", URL: "redis://" + server})
			if err == nil {
				if b.Up() {
					t.Error("the bus is up")
				}
				b.Close()
			}
		})
	}
}

// Frames that were sent before Close are with the others, although nobody waited for it.
func TestLastWord(t *testing.T) {
	server := startServer(t, freeport.New(t))
	url := "redis://" + server.Addr
	e := newEar(t, connect(t, Config{Node: "EEEE", URL: url}))
	for i, tries := 0, 0; i < 10; tries++ {
		if tries == 100 {
			t.Fatal("no last word goes out in time")
		}
		b := connect(t, Config{Node: "AAAA", URL: url})
		large := make([]byte, lives.MaxFrame)
		for range 30 {
			if err := b.Send("ZZZZ", large); err != nil {
				t.Fatal(err)
			}
		}
		word := fmt.Sprintf("goodbye %d", i)
		if err := b.SendAll([]byte(word)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		b.Close()
		if time.Since(began) >= time.Second { // Close waits no longer, and a busy server may not have all
			continue
		}
		await(t, "a last word", func() bool { return e.has(word) })
		i++
	}
}
