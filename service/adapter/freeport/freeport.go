// Package freeport finds ports for the servers of tests.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"testing"
)

const first = 10_000

// New is a port that nobody has. It is below those that the kernel gives by itself, so that no connection takes it
// before it is used.
func New(tb testing.TB) string {
	tb.Helper()
	end := 32768
	if raw, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(raw), &end)
	}
	if end < first+2000 {
		end = 32768
	}
	for range 100 {
		port := strconv.Itoa(first + rand.IntN(end-first))
		if l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", ":"+port); err == nil {
			l.Close()
			return port
		}
	}
	tb.Fatal("no port is free")
	return ""
}
