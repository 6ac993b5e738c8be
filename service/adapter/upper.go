package adapter

// Upper is the code that uses Peers. Its methods are called from within those of Peers, of which they must call none
// but Members.
type Upper interface {
	// Began says that a member begins to tell all anew: what it told before is to be dropped.
	Began(from Member)
	// Room says whether there is room for what a frame of a member tells, of so many bytes. Where there is none the frame
	// counts as lost, and comes again.
	Room(from Member, bytes int) bool
	// Heard gets what a member told, in its order.
	Heard(from Member, it *item)
	// Ended says that an epoch of the way to a member has ended, with so many emits that it may not have heard.
	Ended(to Member, why End, lost int)
	// Changed says that a member has come into another state.
	Changed(m Member)
	// Risen says that this node was declared lost, and is back in a term.
	Risen(term uint64)
	// Ready says, once, that this node knows what there is to know and may serve.
	Ready()
	// Refused says that another node has the name of this one, and where its peer listener is, if that is known. Peers are
	// dead from then on.
	Refused(address string)
}

// End says why an epoch ended.
type End uint8

// The ends of an epoch.
const (
	EndLost  End = iota // the member is lost, gone or another run
	EndOver             // the member has forgotten what it was told, or has declared this node lost
	EndFull             // news found no room in the window
	EndStuck            // the member is there, and has heard nothing of what was sent again and again
)

// Drop is a reason for which a frame has no effect.
type Drop uint8

// The reasons; 0 is none.
const (
	DropUnreadable Drop = iota + 1 // it is cut, or has what nothing reads
	DropVersion                    // it is of a version that this node does not speak
	DropCheck                      // its check is missing or of another key
	DropForeign                    // it is for another node
	DropCluster                    // it is of another cluster
	DropUnknown                    // its sender has not said hello
	DropHeld                       // its sender wants a name that another run holds
	DropRun                        // it is of an earlier run, or for one
	DropTerm                       // it is of a member that has not heard yet that it was lost
	DropEpoch                      // it is of an earlier epoch
	DropRepeated                   // it was heard before
	DropGap                        // one before it is missing
	DropBusy                       // this node has not got through what came before
	drops
)

var dropWords = [drops]string{
	"", "unreadable", "version", "check", "foreign", "cluster", "unknown", "held", "run", "term", "epoch", "repeated", "gap", "busy",
}

func (d Drop) String() string { return dropWords[d] }
