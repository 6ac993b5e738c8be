package client

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/term"
)

// System is what the commands have of the machine that they run on. Its methods are safe for concurrent use.
type System struct {
	// Set before start.
	In       io.Reader
	Out, Err io.Writer
	// ErrTerminal says that Err is a terminal: only there it is shown that a command waits.
	ErrTerminal bool
	Width       int    // of that terminal, in columns, which bounds what is shown so; 0: it is not known
	Colour      bool   // of Out
	Contexts    string // the file of the contexts; "": there is no place for one
	// Dial reaches the API. Default: by TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)

	// Guarded by mu.
	mu      sync.Mutex
	drawn   bool // the last line of Err shows that it waits
	waiting bool // something shows it already
}

// Machine is the System of this process.
func Machine() *System {
	out, told := int(os.Stdout.Fd()), int(os.Stderr.Fd()) //nolint:gosec // descriptors are small
	s := &System{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, ErrTerminal: term.IsTerminal(told)}
	if s.ErrTerminal {
		s.Width, _, _ = term.GetSize(told)
	}
	if term.IsTerminal(out) {
		s.Colour = terminalColour(os.Getenv("NO_COLOR"), os.Getenv("TERM")) //nolint:misspell // so the variable is called
	}
	if dir, err := os.UserConfigDir(); err == nil {
		s.Contexts = filepath.Join(dir, "foyer", "contexts.yaml")
	}
	return s
}

// terminalColour says whether a terminal has colours: neither where they are not wanted, nor where there are none.
func terminalColour(unwanted, kind string) bool { return unwanted == "" && kind != "dumb" }

// print writes lines to Out.
func (s *System) print(text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.undrawLocked()
	_, err := s.Out.Write(text)
	return err
}

// note tells a line on Err, beside what the command prints.
func (s *System) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.undrawLocked()
	_, _ = io.WriteString(s.Err, "foyer: "+clean(text)+"\n")
}

const eraseLine = "\r\x1b[K"

func (s *System) undrawLocked() {
	if s.drawn {
		s.drawn = false
		_, _ = io.WriteString(s.Err, eraseLine)
	}
}
