package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// afterwards is for how long the load goes on when the CPU's profile is there: the others are of a server under it.
const afterwards = 3 * time.Second

// profile runs a scenario against a Foyer of its own and leaves in profiles/SCENARIO/ what its CPU, memory and locks
// were about: for go tool pprof, and as text.
func profile(ctx context.Context, o *options) error {
	dir := filepath.Join("profiles", o.profile)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	s, err := startFoyerWith(ctx, o, "--admin", "127.0.0.1:0", "--pprof")
	if err != nil {
		return err
	}
	defer s.stop()

	took := time.Duration(o.seconds * float64(time.Second))
	args := []string{o.profile}
	switch lasts := strconv.FormatFloat((took + afterwards).Seconds(), 'g', -1, 64); {
	case timed(o.profile):
		args = append(args, "--warmup", o.warmup.String(), "--seconds", lasts)
	case o.profile == "idle":
		args = append(args, "--seconds", lasts)
	}
	load := s.load(ctx, o, append(args, o.args...))
	var result bytes.Buffer
	load.Stdout = &result
	if err := load.Start(); err != nil {
		return err
	}
	defer (&server{cmd: load}).stop()
	if timed(o.profile) { // of others what comes first counts too
		select {
		case <-time.After(o.warmup):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}

	kinds := []struct{ name, query, index string }{
		{"cpu", "profile?seconds=" + strconv.Itoa(max(1, int(o.seconds))), "cpu"},
		{"heap", "heap?gc=1", "inuse_space"},
		{"allocs", "allocs", "alloc_space"},
		{"mutex", "mutex", "delay"},
		{"goroutine", "goroutine", "goroutine"},
	}
	file := func(kind, suffix string) string { return filepath.Join(dir, kind+suffix) }
	for _, k := range kinds {
		if err := fetch(ctx, "http://"+s.admin+"/debug/pprof/"+k.query, file(k.name, ".pprof")); err != nil {
			return err
		}
	}
	for _, k := range kinds { // only now: this takes a while
		text, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodecount=80", "-sample_index="+k.index, file(k.name, ".pprof")).CombinedOutput()
		if err != nil {
			return fmt.Errorf("go tool pprof: %w: %s", err, text)
		}
		if err := os.WriteFile(file(k.name, ".txt"), text, 0o644); err != nil {
			return err
		}
	}
	if err := load.Wait(); err != nil {
		return fmt.Errorf("foyer bench: %w: %s", err, &result)
	}
	fmt.Print(&result)
	fmt.Fprintf(os.Stderr, "profiles are in %s: cpu, heap, allocs, mutex, goroutine; .txt to read, .pprof for go tool pprof\n", dir)
	return os.WriteFile(file("result", ".json"), result.Bytes(), 0o644)
}

func fetch(ctx context.Context, url, file string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(file, body, 0o644)
}
