package grpcapi

import "errors"

// Limits are those parts of a Config that may change while the server runs. None is zero.
type Limits struct {
	MaxConnections int
	QueueBytes     int64 // of a link; what GetInfo and Registered tell
}

// SetLimits has other limits hold from now on. Connections that are open stay, also when there are more than may be. An
// error has changed nothing. Safe for concurrent use.
func (s *Server) SetLimits(l Limits) error {
	if l.MaxConnections <= 0 || l.QueueBytes <= 0 {
		return errors.New("grpcapi: a limit is not above zero")
	}
	s.gate.max.Store(int64(l.MaxConnections))
	s.queueBytes.Store(l.QueueBytes)
	return nil
}
