package adminui

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/bcrypt"

	foyerv1 "foyer/gen/foyer/v1"
)

const (
	wrongCredentials = "invalid credentials" // the page knows it by this text
	sessionLife      = 24 * time.Hour
	maxSessions      = 1000
	maxOperators     = 100
	maxWordBytes     = 256 // of a name or a password
	// Attempts in a minute: each costs a tenth of a second of a processor.
	attemptsOfAddress = 10
	attemptsOfAll     = 60
	maxCost           = 14 // of a hash: a second or two
)

// Users are names with their passwords' hashes. Safe for concurrent use.
type Users struct {
	now atomic.Pointer[map[string]user]
}

type user struct {
	hash     []byte
	readOnly bool
}

// Take reads users, one a line: NAME:HASH, or NAME:HASH:readonly, where HASH is bcrypt's. It says how many there are. An
// error names the line and changes nothing.
func (u *Users) Take(text []byte) (string, error) {
	all := map[string]user{}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		one := strings.TrimSpace(string(line))
		if one == "" || strings.HasPrefix(one, "#") {
			continue
		}
		parts := strings.Split(one, ":")
		if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || len(parts) == 3 && parts[2] != "readonly" {
			return "", fmt.Errorf("line %d is not of the form NAME:HASH or NAME:HASH:readonly", number)
		}
		hash := []byte(strings.Replace(parts[1], "$2y$", "$2a$", 1)) // PHP's and htpasswd's name for the same
		cost, err := bcrypt.Cost(hash)
		switch {
		case err != nil:
			return "", fmt.Errorf("line %d has no hash of bcrypt, which begins with $2a$, $2b$ or $2y$", number)
		case cost > maxCost:
			return "", fmt.Errorf("line %d has a hash of cost %d; %d is the most", number, cost, maxCost)
		}
		if _, twice := all[parts[0]]; twice {
			return "", fmt.Errorf("line %d has a name that an earlier one has", number)
		}
		all[parts[0]] = user{hash, len(parts) == 3}
	}
	if len(all) == 0 {
		return "", errors.New("there is no user in it: write one a line, as NAME:HASH")
	}
	u.now.Store(&all)
	return fmt.Sprintf("with %d users", len(all)), nil
}

// nobodysHash is compared with the password of a name that is not there, so that time does not tell names.
// It is of bcrypt's default cost, and made already: to make one takes a process a tenth of a second at its start.
var nobodysHash = []byte("$2a$10$3uraepqbq6P7eCIMxRPDm.krLLN779j0BS15OEUQXsdyjvF0A5abS")

// allows says whether a password is a user's.
func (u *Users) allows(name, password string) (is user, ok bool) {
	hash := nobodysHash
	if now := u.now.Load(); now != nil {
		if is, ok = (*now)[name]; ok {
			hash = is.hash
		}
	}
	return is, bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil && ok
}

// logins are the sessions that pages come back with, and who has tried of late. Owned by Run.
type logins struct {
	cfg      *Config
	sessions map[string]session
	minute   time.Time
	tried    map[string]int // by address, in this minute
	all      int
}

type session struct {
	operator operator
	until    time.Time
}

func newLogins(cfg *Config) *logins {
	return &logins{cfg: cfg, sessions: map[string]session{}, tried: map[string]int{}}
}

// attempt counts a look at a password; false: there were too many.
func (l *logins) attempt(address string, now time.Time) bool {
	if now.Sub(l.minute) >= time.Minute {
		l.minute, l.all = now, 0
		clear(l.tried)
	}
	if l.all >= attemptsOfAll || l.tried[address] >= attemptsOfAddress {
		return false
	}
	l.all++
	l.tried[address]++
	return true
}

// open makes a session; the one that ends first makes room.
func (l *logins) open(op operator, now time.Time) string {
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
	l.sessions[id] = session{op, now.Add(sessionLife)}
	return id
}

func (l *logins) known(id string, now time.Time) (operator, bool) {
	s, ok := l.sessions[id]
	if ok && now.After(s.until) {
		delete(l.sessions, id)
		ok = false
	}
	return s.operator, ok
}

// decision is who a page's user is, or why nobody.
type decision struct {
	call     uint64
	socket   *foyerv1.Socket
	operator operator
	refused  string
	fresh    bool // it is to be told a session
}

// look finds out who connects. Passwords are looked at beside, since that takes long.
func (p *panel) look(c *foyerv1.Connect) {
	d := decision{call: c.GetCallId(), socket: c.GetSocket()}
	auth := c.GetSocket().GetHandshake().GetAuth().AsMap()
	word := func(key string) string {
		if s, ok := auth[key].(string); ok && len(s) <= maxWordBytes {
			return s
		}
		return ""
	}
	id, name, password := word("sessionId"), word("username"), word("password")
	ok := false
	if id != "" {
		d.operator, ok = p.logins.known(id, time.Now())
	}
	switch {
	case ok:
	case password == "":
		d.refused = wrongCredentials
	case !p.logins.attempt(c.GetSocket().GetHandshake().GetAddress(), time.Now()):
		d.refused = "too many attempts: wait a minute"
	default:
		p.helpers.Go(func() {
			if p.cfg.Token != nil && p.cfg.Token(password) {
				d.operator = operator{name: "a token of the API", readOnly: p.cfg.ReadOnly}
			} else if is, ok := p.cfg.Users.allows(name, password); ok {
				d.operator = operator{name: name, readOnly: is.readOnly || p.cfg.ReadOnly}
			} else {
				d.refused = wrongCredentials
			}
			d.fresh = d.refused == ""
			select {
			case p.decided <- d:
			case <-p.ctx.Done():
			}
		})
		return
	}
	p.helpers.Go(func() {
		select {
		case p.decided <- d:
		case <-p.ctx.Done():
		}
	})
}

// decide answers the hall.
func (p *panel) decide(d decision) error {
	reply := &foyerv1.ConnectReply{CallId: d.call}
	if d.refused != "" {
		reply.Decision = &foyerv1.ConnectReply_Reject{Reject: &foyerv1.Reject{Message: d.refused}}
		p.refused(d)
		return p.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_ConnectReply{ConnectReply: reply}})
	}
	op := d.operator
	if d.fresh {
		op.session = p.logins.open(d.operator, time.Now())
	}
	if len(p.ops) > maxOperators { // some have gone before they were connected
		for id, one := range p.ops {
			if one.object.ID == "" {
				delete(p.ops, id)
			}
		}
	}
	p.ops[d.socket.GetId()] = &op
	reply.Decision = &foyerv1.ConnectReply_Accept{Accept: &foyerv1.Accept{}}
	return p.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_ConnectReply{ConnectReply: reply}})
}

// refused counts and tells a login that was tried in vain. A page that only opens has tried nothing.
func (p *panel) refused(d decision) {
	if auth := d.socket.GetHandshake().GetAuth().AsMap(); auth["username"] == nil && auth["password"] == nil {
		return
	}
	if p.cfg.Refused != nil {
		p.cfg.Refused()
	}
	p.cfg.Told.Warn("login refused", zap.String("reason", ReasonLogin), zap.String("address", d.socket.GetHandshake().GetAddress()),
		zap.String("detail", d.refused), zap.String("setting", "--ui-password-file"))
}

// ReasonLogin is the reason for which an operator is refused.
const ReasonLogin = "ui_login_refused"
