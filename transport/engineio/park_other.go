//go:build !linux

package engineio

import "errors"

// newPoller: everywhere else each websocket session keeps a goroutine.
func newPoller() (poller, error) { return nil, errors.ErrUnsupported }

// readNow is not called where nothing is parked.
func (r *reader) readNow(uintptr) bool { return true }
