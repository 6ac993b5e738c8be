package engineio

import (
	"io"
	"os"
	"syscall"
	"time"
)

// epoll is a poller whose loop waits for the epoll descriptor itself, through Go's own: no thread is blocked in
// epoll_wait.
type epoll struct {
	fd   int
	file *os.File
}

func newPoller() (poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	file := os.NewFile(uintptr(fd), "epoll")
	if err := file.SetReadDeadline(time.Time{}); err != nil { // where Go's poller does not take it the loop would not run
		_ = file.Close()
		return nil, err
	}
	return &epoll{fd: fd, file: file}, nil
}

// add watches for edges: what a worker does not need to be told twice costs no system call.
func (e *epoll) add(fd int) bool {
	const edge = 1 << 31 // syscall.EPOLLET has a sign
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | edge, Fd: int32(fd)}
	return syscall.EpollCtl(e.fd, syscall.EPOLL_CTL_ADD, fd, &ev) == nil
}

func (e *epoll) loop(p *parking) {
	raw, err := e.file.SyscallConn()
	if err != nil {
		return // closed already
	}
	events := make([]syscall.EpollEvent, 128)
	// One call for all of the loop's life: the function never has enough, so it is called at each edge.
	_ = raw.Read(func(uintptr) bool {
		for {
			n, err := syscall.EpollWait(e.fd, events, 0)
			if err == syscall.EINTR {
				continue
			}
			for _, ev := range events[:max(n, 0)] {
				p.ready(int(ev.Fd), ev.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0)
			}
			if n < len(events) {
				return false
			}
		}
	})
}

func (e *epoll) close() { _ = e.file.Close() }

// readNow is the read of tryRead. It always returns true: RawConn must not wait.
func (r *reader) readNow(fd uintptr) bool {
	for {
		r.n, r.err = syscall.Read(int(fd), r.p)
		switch {
		case r.err == syscall.EINTR: //nolint:errorlint // a bare errno
			continue
		case r.err == syscall.EAGAIN: //nolint:errorlint // a bare errno
			r.err = errNothing
		case r.err == nil && r.n == 0:
			r.err = io.EOF
		}
		r.n = max(r.n, 0)
		return true
	}
}
