package deploy

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestImageRuns runs the binary as the image does: as a user without a name, in a root that has nothing else in it and
// that it cannot write to. The healthcheck of the image says that it is ready, the files of the client are there, and
// SIGTERM ends it.
func TestImageRuns(t *testing.T) {
	home := t.TempDir()
	for dir := home; dir != filepath.Dir(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		_ = os.Chmod(dir, 0o755) // the user has to get there; what is not ours need not be changed
	}
	program, err := os.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "foyer"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	node := inside(t.Context(), home, "/foyer", "serve")
	node.Env = []string{"FOYER_EDGE=127.0.0.1:0", "FOYER_API=127.0.0.1:0", "FOYER_ADMIN=127.0.0.1:0"}
	log, err := node.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	var at struct{ Msg, Edge, Admin string }
	lines := bufio.NewScanner(log)
	for at.Msg != "listening" && lines.Scan() {
		if err := json.Unmarshal(lines.Bytes(), &at); err != nil {
			t.Fatalf("%v: %s", err, lines.Text())
		}
	}
	go func() { _, _ = io.Copy(io.Discard, log) }() // ends with the node

	var health []string
	if err := json.Unmarshal([]byte(healthcheck(t)), &health); err != nil {
		t.Fatal(err)
	}
	probe := inside(t.Context(), home, health[0], append(slices.Clone(health[1:]), "--ready", "--patience", "5m")...)
	probe.Env = []string{"FOYER_ADMIN=" + at.Admin}
	if said, err := probe.CombinedOutput(); err != nil || len(said) > 0 {
		t.Errorf("%v: %v, %s", probe, err, said)
	}
	resp, err := http.Get("http://" + at.Edge + "/socket.io/socket.io.min.js")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if script, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(script), "Socket.IO v") {
		t.Errorf("the client's file: %d, %v, %.100s", resp.StatusCode, err, script)
	}
	if err := node.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := node.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// healthcheck is the command of the image's HEALTHCHECK, as JSON.
func healthcheck(t *testing.T) string {
	t.Helper()
	all := stages(t)
	_, command, _ := strings.Cut(all[len(all)-1].all("HEALTHCHECK")[0], "CMD ")
	return command
}

// inside is a command that sees dir as the root, and runs as the user of the image.
func inside(ctx context.Context, dir, command string, args ...string) *exec.Cmd {
	const user = 65532
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir, Credential: &syscall.Credential{Uid: user, Gid: user}}
	if os.Geteuid() != 0 { // only root may change the root, so this user is root of a namespace
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.Credential.NoSetGroups = true
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Getegid(), Size: 1}}
	}
	return cmd
}
