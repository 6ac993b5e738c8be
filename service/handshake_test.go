package service

import "time"

// fakeHandshake is one that tells its address.
type fakeHandshake string

func (h fakeHandshake) Address() string          { return string(h) }
func (fakeHandshake) Time() time.Time            { return time.Time{} }
func (fakeHandshake) URL() string                { return "" }
func (fakeHandshake) Query() map[string]string   { return nil }
func (fakeHandshake) Headers() map[string]string { return nil }
func (fakeHandshake) Bytes() int                 { return 0 }
