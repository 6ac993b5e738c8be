package streams

import (
	"math"
	"strconv"
	"strings"

	"foyer/service/adapter/official"
)

// id names an entry of a stream. Those of later entries are greater.
type id struct{ ms, seq uint64 }

func parseID(text string) (at id, ok bool) {
	ms, seq, ok := strings.Cut(text, "-")
	if !ok {
		return id{}, false
	}
	var errs [2]error
	at.ms, errs[0] = strconv.ParseUint(ms, 10, 64)
	at.seq, errs[1] = strconv.ParseUint(seq, 10, 64)
	return at, errs[0] == nil && errs[1] == nil
}

func (at id) String() string {
	return strconv.FormatUint(at.ms, 10) + "-" + strconv.FormatUint(at.seq, 10)
}

func (at id) less(than id) bool {
	return at.ms < than.ms || at.ms == than.ms && at.seq < than.seq
}

// before is the greatest id that is less.
func (at id) before() id {
	switch {
	case at.seq > 0:
		return id{at.ms, at.seq - 1}
	case at.ms > 0:
		return id{at.ms - 1, math.MaxUint64}
	}
	return id{}
}

// entryOf is an entry by its fields; what is missing or no text is empty.
func entryOf(fields map[string]any) (e official.Entry) {
	e.UID, _ = fields["uid"].(string)
	e.NSP, _ = fields["nsp"].(string)
	e.Type, _ = fields["type"].(string)
	e.Data, _ = fields["data"].(string)
	return e
}
