package main

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listenError says why nobody can listen at an address, and what to do. What is the flag's name.
func listenError(what, addr string, err error) error {
	say := func(format string, args ...any) error {
		return fmt.Errorf("--%s: %s", what, fmt.Sprintf(format, args...))
	}
	switch dns, isDNS := errors.AsType[*net.DNSError](err); {
	case errors.Is(err, syscall.EADDRINUSE):
		return say("the address %s is already in use by another program; stop that one, or choose another port", addr)
	case errors.Is(err, syscall.EACCES):
		return say("this user has no permission to listen at %s; ports below 1024 need a privilege", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return say("%s is not an address of this machine", addr)
	case isDNS:
		return say("%s: there is no host %s", addr, dns.Name)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok { // without the address again
		err = op.Err
	}
	return say("%s: %v", addr, err)
}
