package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"

	"foyer/service"
)

// memoryShare is which part of the memory the budget has: one half. The other is for sockets and rooms, for what is
// being worked on, and for garbage that is not collected yet.
const memoryShare = 2

// blindBudget is the budget where nobody says how much memory there is.
const blindBudget = 1 << 30

// memoryBudget is the budget that the flag names, else a share of the memory that this process may have, and where that
// number is from.
func memoryBudget(flag memorySize) (budget int64, from string) {
	if flag > 0 {
		return int64(flag), "--memory-budget"
	}
	memory, from := memoryLimit(os.DirFS("/").(fileReader))
	if memory <= 0 {
		return blindBudget, from
	}
	return max(memory/memoryShare, 1), from
}

// fileReader reads files below the root of a file system.
type fileReader interface {
	ReadFile(name string) ([]byte, error)
}

// memoryLimit is how many bytes this process may have: by GOMEMLIMIT when it is set, else by the tightest of its
// control groups and the machine. 0: nobody says.
func memoryLimit(root fileReader) (limit int64, from string) {
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		return limit, "GOMEMLIMIT"
	}
	limit, from = machineMemory(root), "machine"
	for _, file := range groupFiles(root) {
		text, err := root.ReadFile(file)
		if err != nil {
			continue
		}
		// "max", and numbers beyond the machine's memory, are no limit.
		if n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64); err == nil && n > 0 && (limit == 0 || n < limit) {
			limit, from = n, "cgroup"
		}
	}
	if limit == 0 {
		from = "unknown"
	}
	return limit, from
}

// groupFiles are the files that may limit this process: of its control group and of all that it is within. In a
// container its own group is often shown as the root.
func groupFiles(root fileReader) []string {
	files := []string{"sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"}
	text, _ := root.ReadFile("proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for group := path.Clean("/" + parts[2]); group != "/"; group = path.Dir(group) {
			switch {
			case parts[0] == "0":
				files = append(files, "sys/fs/cgroup"+group+"/memory.max")
			case parts[1] == "memory":
				files = append(files, "sys/fs/cgroup/memory"+group+"/memory.limit_in_bytes")
			}
		}
	}
	return files
}

// machineMemory is the memory of the machine; 0 when it cannot be read.
func machineMemory(root fileReader) int64 {
	text, _ := root.ReadFile("proc/meminfo")
	for line := range strings.Lines(string(text)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}

// memorySize is a number of bytes as byteSize has it, without its bound; 0 leaves it to memoryLimit.
type memorySize int64

// UnmarshalText reads a size.
func (m *memorySize) UnmarshalText(text []byte) error {
	v, ok := parseBytes(string(text))
	if !ok || v < 0 || v > 1<<50 {
		return fmt.Errorf("%q is no size such as 512MiB or 4GB", text)
	}
	*m = memorySize(v)
	return nil
}

// use is the part of the budget that the edge takes for one use.
type use struct {
	budget *service.Budget
	of     service.Use
}

func (u use) Take(bytes int) bool { return u.budget.Take(u.of, bytes) }
func (u use) Fits(bytes int) bool { return u.budget.Fits(bytes) }
func (u use) Force(bytes int)     { u.budget.Force(u.of, bytes) }
func (u use) Give(bytes int)      { u.budget.Give(u.of, bytes) }
