package adminui

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/bcrypt"
)

const maxCost = 14 // of a hash: a second or two

// Users are names with their passwords' hashes. Safe for concurrent use.
type Users struct {
	now atomic.Pointer[users]
}

type users struct {
	of map[string]user
	// The hash that is compared for an unknown name. Its cost is the highest of all, so that the time of a refusal does
	// not tell whether a name exists.
	nobody []byte
}

type user struct {
	hash     []byte
	readOnly bool
}

// Take reads users, one a line: NAME:HASH, or NAME:HASH:readonly, where HASH is bcrypt's. It says how many there are.
// An error names the line and changes nothing.
func (u *Users) Take(text []byte) (string, error) {
	all := map[string]user{}
	number, highest := 0, 0
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
		highest = max(highest, cost)
	}
	if len(all) == 0 {
		return "", errors.New("there is no user in it: write one a line, as NAME:HASH")
	}
	u.now.Store(&users{all, nobody(highest)})
	return fmt.Sprintf("with %d users", len(all)), nil
}

// nobody returns a hash of this cost for which nobody knows a password. It only exchanges the cost in a fixed hash,
// since a real one would take a tenth of a second or more to make.
func nobody(cost int) []byte {
	return fmt.Appendf(nil, "$2a$%02d$3uraepqbq6P7eCIMxRPDm.krLLN779j0BS15OEUQXsdyjvF0A5abS", cost)
}

// find returns the user of a name, if there is one now.
func (u *Users) find(name string) (is user, ok bool) {
	if now := u.now.Load(); now != nil {
		is, ok = now.of[name]
	}
	return is, ok
}

// allows says whether a password is a user's.
func (u *Users) allows(name, password string) (is user, ok bool) {
	now := u.now.Load()
	if now == nil {
		return user{}, false
	}
	if is, ok = now.of[name]; !ok {
		is.hash = now.nobody
	}
	if bcrypt.CompareHashAndPassword(is.hash, []byte(password)) != nil || !ok {
		return user{}, false
	}
	return is, true
}
