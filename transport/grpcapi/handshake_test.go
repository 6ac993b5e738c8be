package grpcapi

import "time"

// handshake is a service.Handshake with everything written down.
type handshake struct {
	address        string
	time           time.Time
	url            string
	query, headers map[string]string
}

func (h handshake) Address() string            { return h.address }
func (h handshake) Time() time.Time            { return h.time }
func (h handshake) URL() string                { return h.url }
func (h handshake) Query() map[string]string   { return h.query }
func (h handshake) Headers() map[string]string { return h.headers }
func (h handshake) Bytes() int                 { return 100 }
