package bridge

import "foyer/service/adapter/official"

// dropWords are the reasons for which a bridge or its Medium drops a message, beside those of package official.
var dropWords = []string{
	"answer_too_large", "attachment_lost", "attachment_missing", "busy", "channel_too_long", "connection_lost", "gap", "lost", "old_emitter",
	"refused", "trimmed", "unsent",
}

// DropReasons are all names that Info.Dropped of a Bridge can have beside those of its cluster.
func DropReasons() []string {
	names := make([]string, 0, len(dropWords)+2*len(official.Faults()))
	for _, word := range dropWords {
		names = append(names, dropPrefix+word)
	}
	for _, f := range official.Faults() {
		names = append(names, dropPrefix+f.Reason(), dropPrefix+unsaid+f.Reason())
	}
	return names
}

const (
	dropPrefix = "official_"
	unsaid     = "unsaid_" // what this node could not write
)
