package official

import (
	"errors"

	"foyer/service/payload"
	"foyer/service/payload/msgpack"
)

// Fault is why a message was dropped, or was not written. As an error it is tested with errors.Is. 0 is none.
type Fault uint8

// The faults.
const (
	// Of what comes and of what is to be written.
	Shape        Fault = iota + 1 // a field is missing that the kind needs, or is of the wrong kind
	Namespace                     // another namespace, or none
	EventName                     // empty, reserved, or neither text nor number; or the event is no array
	TooDeep                       // more levels than the medium may carry
	TooManyParts                  // more binaries than payload.MaxAttachments
	Placeholder                   // binaries beside an object that looks like the place of one, or a place without binary

	// Of what comes.
	Garbled    // neither JSON nor msgpack, cut short, or with bytes behind it
	Unknown    // a type that this version of the protocol does not have
	PacketType // a broadcast of something else than an event
	TooLarge   // over the given bound

	// Of what is to be written.
	Medium // the medium has no message of this kind
	Text   // a name or a payload that is not UTF-8, or no JSON
	Key    // a member called __proto__, which @msgpack/msgpack refuses to read

	faults
)

var faultWords = [faults]string{
	Shape: "shape", Namespace: "namespace", EventName: "event_name", TooDeep: "depth", TooManyParts: "attachments",
	Placeholder: "placeholder", Garbled: "garbled", Unknown: "unknown_type", PacketType: "packet_type", TooLarge: "too_large",
	Medium: "medium", Text: "text", Key: "key",
}

// Faults are all of them.
func Faults() []Fault {
	all := make([]Fault, 0, faults-1)
	for f := Fault(1); f < faults; f++ {
		all = append(all, f)
	}
	return all
}

// Reason is the fault's word, for a counter and a line in the log.
func (f Fault) Reason() string { return faultWords[f] }

func (f Fault) Error() string { return "message of the official form: " + faultWords[f] }

var msgpackFaults = [...]Fault{
	msgpack.Broken: Garbled, msgpack.TooDeep: TooDeep, msgpack.TooLarge: TooLarge, msgpack.TooMany: TooManyParts,
}

// textFault is what an error of package payload is here.
func textFault(err error, other Fault) Fault {
	var f payload.Fault
	if !errors.As(err, &f) {
		return other
	}
	switch f {
	case payload.Depth:
		return TooDeep
	case payload.Attachments:
		return TooManyParts
	case payload.Placeholder:
		return Placeholder
	default:
		return other
	}
}

// ErrDoubt is the answer of a medium that has taken a message and is away: the message goes out if it is back in time.
var ErrDoubt = errors.New("the medium is away")
