package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// frameBytes is a message of 100 bytes and the head of its websocket frame.
const frameBytes = 102

// measureFloor is what a row's deliveries would cost a server that does nothing but write: as many connections, and one
// write(2) to each with as many frames as are in flight, on the server's processor; the other ends are read by another
// process on the load's. It goes on to the next round when all of the last has been read, as a broadcast does.
func measureFloor(ctx context.Context, o *options, r row) (map[string]any, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	clients, frames := strconv.Itoa(r.clients), strconv.Itoa(r.frames)
	reader := pinned(ctx, 1, self, "-floor", "read", clients, frames)
	out, err := reader.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := reader.Start(); err != nil {
		return nil, err
	}
	defer (&server{cmd: reader}).stop()
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("the reading side does not start: %w", err)
	}
	text, err := pinned(ctx, 0, self, "-floor", "write", clients, frames, strings.TrimSpace(addr), strconv.FormatFloat(o.seconds, 'g', -1, 64)).Output()
	if err != nil {
		return nil, err
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
	return map[string]any{cpu: v}, err
}

// floorSide is one of the two processes. It prints the address, or the microseconds of a frame.
func floorSide(ctx context.Context, side string, args []string) error {
	if len(args) < 2 {
		return errors.New("-floor is for the program's own use")
	}
	clients, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	frames, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if err := raiseFiles(uint64(2*clients + 100)); err != nil {
		return err
	}
	if side == "read" {
		return floorRead(ctx, clients, clients*frames*frameBytes)
	}
	seconds, err := strconv.ParseFloat(args[3], 64)
	if err != nil {
		return err
	}
	us, err := floorWrite(ctx, args[2], clients, frames, time.Duration(seconds*float64(time.Second)))
	if err == nil {
		fmt.Println(us)
	}
	return err
}

// floorRead reads with a goroutine for each connection, as the load generator does, and tells the writer by the first
// of them whenever a round of so many bytes has come.
func floorRead(ctx context.Context, clients, round int) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	control, err := l.Accept()
	if err != nil {
		return err
	}
	var came atomic.Int64
	for range clients {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() { // ends with the process
			buf := make([]byte, 4<<10)
			for {
				n, err := conn.Read(buf)
				if err != nil {
					return
				}
				if came.Add(int64(n))%int64(round) == 0 {
					_, _ = control.Write([]byte{1})
				}
			}
		}()
	}
	_, err = io.Copy(io.Discard, control) // until the writer has gone
	return err
}

// floorWrite returns the CPU of a frame, in microseconds.
func floorWrite(ctx context.Context, addr string, clients, frames int, d time.Duration) (float64, error) {
	var dialer net.Dialer
	control, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	files := make([]*os.File, clients) // kept, since the end of a file closes its descriptor
	for i := range files {
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err != nil {
			return 0, err
		}
		if files[i], err = conn.(*net.TCPConn).File(); err != nil {
			return 0, err
		}
		conn.Close() // the file has a descriptor of its own
	}
	fds := make([]int, clients)
	for i, f := range files {
		fds[i] = int(f.Fd()) // blocking from here on: none of the runtime's poller is in what is measured
	}
	frame, done := make([]byte, frames*frameBytes), make([]byte, 1)
	rounds := func(d time.Duration) (n int, err error) {
		for began := time.Now(); time.Since(began) < d; n++ {
			for _, fd := range fds {
				if wrote, err := syscall.Write(fd, frame); err != nil || wrote != len(frame) {
					return n, fmt.Errorf("write of %d bytes: %d, %w", len(frame), wrote, err)
				}
			}
			if _, err := control.Read(done); err != nil {
				return n, err
			}
		}
		return n, nil
	}
	if _, err := rounds(d / 4); err != nil { // to warm up
		return 0, err
	}
	before := ownCPU()
	n, err := rounds(d)
	took := ownCPU() - before
	for _, f := range files {
		f.Close()
	}
	return float64(took.Nanoseconds()) / 1e3 / float64(n*clients*frames), err
}

// ownCPU is what this process has used, of the system's time too.
func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // does not fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
