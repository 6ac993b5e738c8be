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
