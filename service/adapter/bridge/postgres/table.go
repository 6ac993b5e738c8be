package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"foyer/service/adapter/pgdial"
)

// Statements about the table, which stands for %s.
const (
	create = "CREATE TABLE IF NOT EXISTS %s (id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)"
	// try does all that is done with the table, and leaves nothing.
	try = "BEGIN; INSERT INTO %[1]s (payload) VALUES ('x') RETURNING id; SELECT id, created_at, payload FROM %[1]s WHERE false; " +
		"DELETE FROM %[1]s WHERE created_at IS NULL AND false; ROLLBACK"
	insert  = "INSERT INTO %s (payload) VALUES ($1) RETURNING id"
	look    = "SELECT CASE WHEN octet_length(payload) <= $2 THEN payload END FROM %s WHERE id = $1"
	cleanUp = "DELETE FROM %s WHERE created_at < now() - interval '30000 milliseconds'"

	insertStatement, lookStatement = "insert", "look"
	cleanEvery                     = 30 * time.Second // as the official adapter
	maxIdentifier                  = 63
)

// TableError is why the table of attachments does not do.
type TableError struct{ err error }

func (t *TableError) Error() string { return t.err.Error() }
func (t *TableError) Unwrap() error { return t.err }

// ParseTable makes an identifier of SQL of a table's name as the official adapter takes it: with or without a schema,
// each in quotes or not. Without quotes its letters become small ones, as in SQL.
func ParseTable(text string) (string, error) {
	wrong := fmt.Errorf("%.100q is no name of a table, such as socket_io_attachments or a_schema.a_table", text)
	var parts []string
	for rest, more := text, true; more; {
		var part string
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			end := strings.IndexByte(quoted, '"')
			if end < 0 {
				return "", wrong
			}
			part, rest = quoted[:end], quoted[end+1:]
			if rest, more = strings.CutPrefix(rest, "."); !more && rest != "" {
				return "", wrong
			}
		} else {
			part, rest, more = strings.Cut(rest, ".")
			for i, c := range part {
				letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
				if !letter && (i == 0 || (c < '0' || c > '9') && c != '$') {
					return "", wrong
				}
			}
			part = strings.ToLower(part)
		}
		if part == "" || len(part) > maxIdentifier || strings.Contains(part, "\x00") {
			return "", wrong
		}
		parts = append(parts, pgdial.Quote(part))
	}
	if len(parts) > 2 {
		return "", wrong
	}
	return strings.Join(parts, "."), nil
}

// SQLSTATEs about a table.
const (
	noTable   = "42P01"
	noColumn  = "42703"
	noRights  = "42501"
	noSchema  = "3F000"
	sameTable = "42P07"
	sameType  = "42710"
	sameKey   = "23505"
)

func state(err error) string {
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		return answer.Code
	}
	return ""
}

// haveTable looks whether the table does, and makes it when it is not there, as the documentation of the official
// adapter does.
func (m *Medium) haveTable(ctx context.Context, c *pgdial.Conn) error {
	attempt := func(sql string) error {
		err := c.Do(ctx, fmt.Sprintf(sql, m.table))
		if state(err) != "" {
			_ = c.Do(ctx, "ROLLBACK")
		}
		return err
	}
	err := attempt(try)
	if state(err) == noTable {
		switch err = attempt(create); state(err) {
		case noRights, noSchema:
			return &TableError{fmt.Errorf("the table %s is not there, and this user cannot make it: %w", m.cfg.Table, err)}
		case "", sameTable, sameType, sameKey: // another node makes it just now
			err = attempt(try)
		}
	}
	switch state(err) {
	case "":
		return err
	case noRights:
		return &TableError{fmt.Errorf("this user may not do with the table %s what Foyer needs (INSERT, SELECT, DELETE, and USAGE of its sequence): %w", m.cfg.Table, err)}
	case noColumn:
		return &TableError{fmt.Errorf("the table %s is another one than that of attachments: %w", m.cfg.Table, err)}
	}
	return &TableError{fmt.Errorf("the table %s does not do: %w", m.cfg.Table, err)}
}

// clean deletes old rows now and then, whoever has made them, as each official server does.
func (l *life) clean() error {
	m := l.medium
	for {
		late := time.NewTimer(cleanEvery/2 + rand.N(cleanEvery))
		select {
		case <-l.over:
			late.Stop()
			return errOver
		case <-late.C:
		}
		switch err := l.sweep(); {
		case err == nil:
		case state(err) == "":
			return err
		default:
			m.log.Warn("old attachments not deleted", zap.Error(err))
		}
	}
}

func (l *life) sweep() error {
	return l.looking(func(ctx context.Context) error { return l.look.Do(ctx, fmt.Sprintf(cleanUp, l.medium.table)) })
}

// fetch reads the payload of a row. nil: it is not there. The error says whether it is too large.
func (l *life) fetch(row int64) (payload []byte, tooLarge bool, err error) {
	err = l.looking(func(ctx context.Context) error {
		r := l.look.ExecPrepared(ctx, lookStatement, [][]byte{appendInt8(nil, row), appendInt4(nil, l.medium.cfg.MaxBytes)}, binaryFormat, binaryFormat)
		for r.NextRow() {
			if v := r.Values()[0]; v != nil {
				payload = append([]byte{}, v...)
			} else {
				tooLarge = true
			}
		}
		_, err := r.Close()
		return err
	})
	return payload, tooLarge, err
}

// looking uses the connection that reads the table.
func (l *life) looking(do func(ctx context.Context) error) error {
	l.lookMu.Lock()
	defer l.lookMu.Unlock()
	ctx, stop := context.WithTimeout(l.ctx, l.medium.cfg.callTimeout)
	defer stop()
	return do(ctx)
}
