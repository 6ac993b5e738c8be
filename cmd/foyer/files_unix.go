//go:build unix

package main

import "syscall"

// fileLimit is how many descriptors the process may have open; 0: not known. Go has raised it as far as it goes.
func fileLimit() uint64 {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 0
	}
	return uint64(r.Cur) //nolint:unconvert // it is signed on some systems
}
