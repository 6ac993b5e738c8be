package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// clockTick is the unit of times in /proc/PID/stat: Linux tells programs that it is a hundredth of a second, always.
const clockTick = 10 * time.Millisecond

// processes are the server as /proc shows it, which may be several nodes. Without any it knows nothing and says so by
// zeros.
type processes []int

// process is one of them.
type process struct{ pid int }

// usage is what a process has used of the machine.
type usage struct {
	cpu time.Duration // of the system's time too
	rss int64         // bytes that are in RAM
}

// usage is the sum of what all have used.
func (ps processes) usage() (sum usage, err error) {
	for _, pid := range ps {
		u, err := process{pid}.usage()
		if err != nil {
			return usage{}, err
		}
		sum.cpu += u.cpu
		sum.rss += u.rss
	}
	return sum, nil
}

func (p process) usage() (u usage, err error) {
	if u.cpu, err = p.cpu(); err == nil {
		u.rss, err = p.rss()
	}
	if errors.Is(err, os.ErrNotExist) {
		return u, fmt.Errorf("there is no process %d, or no /proc that shows it", p.pid)
	}
	return u, err
}

// cpu reads utime and stime (proc(5), /proc/pid/stat).
func (p process) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return 0, fmt.Errorf("the server's processor time: %w", err)
	}
	// The second field is the program's name in brackets and may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const utime, stime = 14 - 3, 15 - 3
	if len(fields) <= stime {
		return 0, errors.New("the server's processor time: too few fields")
	}
	var ticks int64
	for _, f := range [][]byte{fields[utime], fields[stime]} {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("the server's processor time: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// rss reads the resident pages (proc(5), /proc/pid/statm).
func (p process) rss() (int64, error) {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid))
	if err != nil {
		return 0, fmt.Errorf("the server's memory: %w", err)
	}
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0, errors.New("the server's memory: too few fields")
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}
