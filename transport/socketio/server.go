package socketio

import (
	"time"

	"go.uber.org/zap"

	"foyer/service"
	"foyer/transport/engineio"
)

// Server makes links of sessions. Safe for concurrent use; it starts nothing and needs no end.
type Server struct {
	cfg      Config
	hall     hall
	told     *zap.Logger // for lines that a hostile peer may cause: few of a kind
	epoch    time.Time
	counters counters
}

// hall is what a link asks of the service.
type hall interface {
	Connect(c service.Connect) (cancel func())
	Receive(s *service.Socket, p *service.Packet)
	End(s *service.Socket, r service.Reason, detail string)
}

var _ hall = (*service.Node)(nil)

// session is what a link asks of its *engineio.Session.
type session interface {
	Handshake() *engineio.Handshake
	Handle() string
	Protocol() int
	Transport() string
	Admit()
	Send(m *engineio.Message, f engineio.Flags) engineio.Outcome
	Room(bytes int) (room <-chan struct{}, since time.Time)
	Probe(bytes int, f engineio.Flags) (engineio.Outcome, engineio.QueueState)
	Flush()
	Pause()
	Resume()
	Paused() bool
	Charge(n int)
	Close(r engineio.Reason) (first bool)
}

var _ session = (*engineio.Session)(nil)

// New makes a Server that connects its links to node. The error is Config.Validate's.
func New(cfg Config, node *service.Node) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Budget == nil {
		cfg.Budget = node.Budget()
	}
	return newServer(cfg, node), nil
}

func newServer(cfg Config, h hall) *Server {
	cfg = cfg.withDefaults()
	return &Server{cfg: cfg, hall: h, told: cfg.Told.Named("socketio"), epoch: time.Now()}
}

// clock is the time in milliseconds, for differences of up to seven weeks.
func (srv *Server) clock() uint32 { return uint32(time.Since(srv.epoch) / time.Millisecond) }

// Accept makes a link of a session that has just opened: the accept function of engineio.New. The link is the session's
// from then on and ends with it.
func (srv *Server) Accept(s *engineio.Session) engineio.Receiver { return srv.accept(s) }

func (srv *Server) accept(s session) *Link {
	l := &Link{server: srv, session: s}
	if srv.cfg.ConnectTimeout > 0 {
		l.mu.Lock() // the timer may fire before it is kept
		l.timer = time.AfterFunc(srv.cfg.ConnectTimeout, l.expire)
		l.mu.Unlock()
	}
	if s.Protocol() == 3 {
		l.beginV2()
	}
	return l
}

// Counters returns how often a packet was not taken or a link was closed by this package, by reason. The set of reasons
// is closed. The map is the caller's.
func (srv *Server) Counters() map[string]int64 { return srv.counters.snapshot() }
