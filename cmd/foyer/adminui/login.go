package adminui

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"time"

	"go.uber.org/zap"

	foyerv1 "foyer/gen/foyer/v1"
)

const (
	wrongCredentials = "invalid credentials" // the page knows it by this text
	tooManyAttempts  = "too many attempts: wait a minute"
	sessionLife      = 24 * time.Hour
	maxSessions      = 1000
	maxOperators     = 100
	maxWordBytes     = 256 // of a name or a password
)

// ReasonLogin is the reason for which an operator is refused.
const ReasonLogin = "ui_login_refused"

// logins holds the sessions with which pages come back without a password. Owned by Run.
type logins struct {
	sessions map[string]session
}

// session belongs to an operator who has shown a password.
type session struct {
	account
	from  netip.Addr
	until time.Time
}

// account says who an operator is, and by what that is known.
type account struct {
	name     string
	readOnly bool
	hash     string // of the password
	token    string // of the API, shown in the place of a password; "": none was
}

// holds says whether an operator could log in as before: with this password, or with this token.
func (cfg *Config) holds(who account) bool {
	if who.token != "" {
		return cfg.Token(who.token)
	}
	is, ok := cfg.Users.find(who.name)
	return ok && string(is.hash) == who.hash && (is.readOnly || cfg.ReadOnly) == who.readOnly
}

// open makes a session. When there are too many, it drops the one that ends first.
func (l *logins) open(who account, from netip.Addr, now time.Time) string {
	if len(l.sessions) >= maxSessions {
		first := ""
		for id, s := range l.sessions {
			if first == "" || s.until.Before(l.sessions[first].until) {
				first = id
			}
		}
		delete(l.sessions, first)
	}
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // it does not fail
	id := hex.EncodeToString(raw)
	l.sessions[id] = session{who, from, now.Add(sessionLife)}
	return id
}

func (l *logins) known(id string, now time.Time) (account, bool) {
	s, ok := l.sessions[id]
	if ok && now.After(s.until) {
		delete(l.sessions, id)
		ok = false
	}
	return s.account, ok
}

// from says whether an operator has a session that was opened from an address.
func (l *logins) from(at netip.Addr, now time.Time) bool {
	for _, s := range l.sessions {
		if s.from == at && !now.After(s.until) {
			return true
		}
	}
	return false
}

// decision says who the user of a page is, or why the page is refused.
type decision struct {
	call    uint64
	socket  *foyerv1.Socket
	who     account
	refused string
	fresh   bool // the page gets a new session
}

// look decides whether a page may connect. A login with a password is queued and decided later.
func (p *panel) look(c *foyerv1.Connect) error {
	d := decision{call: c.GetCallId(), socket: c.GetSocket()}
	auth := c.GetSocket().GetHandshake().GetAuth().AsMap()
	word := func(key string) string {
		if s, ok := auth[key].(string); ok && len(s) <= maxWordBytes {
			return s
		}
		return ""
	}
	id, name, password, now := word("sessionId"), word("username"), word("password"), time.Now()
	if id != "" {
		who, ok := p.logins.known(id, now)
		if d.who = who; ok && p.cfg.holds(who) {
			return p.decide(d)
		}
		delete(p.logins.sessions, id)
	}
	if password == "" {
		d.refused = wrongCredentials
		return p.decide(d)
	}
	t := &attempt{decision: d, name: name, password: password}
	t.known = p.logins.from(origin(d.socket.GetHandshake().GetAddress()), now)
	return p.leave(p.attempts.ask(t, now))
}

// leave refuses an attempt whose password is not checked. It does nothing for nil.
func (p *panel) leave(t *attempt) error {
	if t == nil {
		return nil
	}
	t.refused = tooManyAttempts
	return p.decide(t.decision)
}

// check checks passwords, one after the other, until ctx ends.
func (p *panel) check(ctx context.Context) {
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-rest.C:
		case <-ctx.Done():
			return
		}
		select {
		case t := <-p.turn:
			began := time.Now()
			t.who, t.fresh = p.cfg.account(t.name, t.password)
			rest.Reset(min(restTimes*time.Since(began), maxRest))
			if !t.fresh {
				t.refused = wrongCredentials
			}
			select {
			case p.decided <- t.decision:
			case <-ctx.Done():
			}
		case <-ctx.Done():
			return
		}
	}
}

// account returns the operator with this name and password. A token of the API may stand in the place of the password.
func (cfg *Config) account(name, password string) (who account, ok bool) {
	if cfg.Token != nil && cfg.Token(password) {
		return account{name: "a token of the API", readOnly: cfg.ReadOnly, token: password}, true
	}
	is, ok := cfg.Users.allows(name, password)
	return account{name: name, readOnly: is.readOnly || cfg.ReadOnly, hash: string(is.hash)}, ok
}

// decide answers the hall.
func (p *panel) decide(d decision) error {
	reply := &foyerv1.ConnectReply{CallId: d.call}
	if d.refused != "" {
		reply.Decision = &foyerv1.ConnectReply_Reject{Reject: &foyerv1.Reject{Message: d.refused}}
		p.refused(d)
		return p.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_ConnectReply{ConnectReply: reply}})
	}
	op := newOperator(d.who, d.socket.GetHandshake().GetAddress())
	if d.fresh {
		op.session = p.logins.open(d.who, origin(op.address), time.Now())
	}
	if len(p.ops) > maxOperators { // some pages left before they were connected
		for id, one := range p.ops {
			if one.object.ID == "" {
				delete(p.ops, id)
			}
		}
	}
	p.ops[d.socket.GetId()] = op
	reply.Decision = &foyerv1.ConnectReply_Accept{Accept: &foyerv1.Accept{}}
	return p.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_ConnectReply{ConnectReply: reply}})
}

// refused counts and logs a failed login. A page that has only been opened has not tried one.
func (p *panel) refused(d decision) {
	if auth := d.socket.GetHandshake().GetAuth().AsMap(); auth["username"] == nil && auth["password"] == nil {
		return
	}
	p.cfg.count(ReasonLogin)
	p.cfg.Told.Warn("login refused", zap.String("reason", ReasonLogin), zap.String("address", d.socket.GetHandshake().GetAddress()),
		zap.String("detail", d.refused), zap.String("setting", "--ui-password-file"))
}
