package main

import (
	"math"
	"runtime/debug"
	"testing"
	"testing/fstest"
)

// TestMemoryLimit: the tightest bound that anybody has set for this process counts, and none at all is no bound.
func TestMemoryLimit(t *testing.T) {
	limit := debug.SetMemoryLimit(math.MaxInt64) // whatever it is for the tests
	defer debug.SetMemoryLimit(limit)
	const meminfo = "MemFree: 1 kB\nMemTotal:        8000 kB\n"
	for name, c := range map[string]struct {
		files map[string]string
		limit int64
		from  string
	}{
		"nothing can be read": {nil, 0, "unknown"},
		"a machine":           {map[string]string{"proc/meminfo": meminfo}, 8000 << 10, "machine"},
		"a container": {
			map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "4096000\n"}, 4096000, "cgroup",
		},
		"no limit of the group": {
			map[string]string{"proc/meminfo": meminfo, "sys/fs/cgroup/memory.max": "max\n"}, 8000 << 10, "machine",
		},
		"a limit above the machine": {
			map[string]string{"proc/meminfo": meminfo, "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8000 << 10, "machine",
		},
		"a group within a group": {
			map[string]string{
				"proc/meminfo": meminfo, "proc/self/cgroup": "0::/system.slice/foyer.service\n",
				"sys/fs/cgroup/system.slice/memory.max": "2048\n", "sys/fs/cgroup/system.slice/foyer.service/memory.max": "max",
			}, 2048, "cgroup",
		},
		"an old group": {
			map[string]string{
				"proc/self/cgroup": "11:cpu:/x\n9:memory:/docker/a\n",
				"sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes": "1024\n",
			}, 1024, "cgroup",
		},
	} {
		files := fstest.MapFS{}
		for file, text := range c.files {
			files[file] = &fstest.MapFile{Data: []byte(text)}
		}
		if limit, from := memoryLimit(files); limit != c.limit || from != c.from {
			t.Errorf("%s: got %d from %s, want %d from %s", name, limit, from, c.limit, c.from)
		}
	}
}

func TestMemoryBudget(t *testing.T) {
	for text, want := range map[string]memorySize{"4GiB": 4 << 30, "512MiB": 512 << 20, "1000": 1000} {
		if s, err := parse(t, "--memory-budget", text); err != nil || s.MemoryBudget != want {
			t.Errorf("%s: got %d, %v, want %d", text, s.MemoryBudget, err, want)
		}
	}
	for _, bad := range []string{"-1", "much", "NaN", "1e40"} {
		if _, err := parse(t, "--memory-budget="+bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	if budget, from := memoryBudget(1000); budget != 1000 || from != "--memory-budget" {
		t.Errorf("got %d from %s, want what the flag says", budget, from)
	}
	if budget, from := memoryBudget(0); budget <= 0 {
		t.Errorf("got %d from %s, want some", budget, from)
	}
	previous := debug.SetMemoryLimit(1 << 30)
	defer debug.SetMemoryLimit(previous)
	if budget, from := memoryBudget(0); budget != 1<<29 || from != "GOMEMLIMIT" {
		t.Errorf("got %d from %s, want half of GOMEMLIMIT", budget, from)
	}
}
