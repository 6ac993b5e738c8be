package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
	"foyer/service/payload"
)

// The bounds of the API that are no settings of the node.
const (
	maxRooms         = 1000 // of a target, a join, a watch
	maxPatterns      = 1000 // of a registration
	maxEventNames    = 1000 // of a registration
	maxPageSize      = 1000
	defaultPageSize  = 100
	maxPageBytes     = 1 << 20
	maxAckRecipients = 1000
	maxRequestID     = 128
	maxUserID        = 1024
	maxMessage       = 16 << 10 // of a rejection
	defaultInFlight  = 256
	maxInFlight      = 65_536

	defaultAckTimeout = 5 * time.Second
	maxAckTimeout     = 60 * time.Second
	// ackMargin is left of a call's deadline for the answer to travel.
	ackMargin = 100 * time.Millisecond

	defaultDrainWindow = 30 * time.Second
	maxDrainWindow     = time.Hour
)

const (
	invalidTarget  = foyerv1.ErrorReason_ERROR_REASON_INVALID_TARGET
	invalidPayload = foyerv1.ErrorReason_ERROR_REASON_INVALID_PAYLOAD
	tooLarge       = foyerv1.ErrorReason_ERROR_REASON_PAYLOAD_TOO_LARGE
	fieldReason    = foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD
)

// checkName says what is wrong with a name: empty, too long, not UTF-8.
func checkName(reason foyerv1.ErrorReason, field, name string) error {
	switch {
	case name == "":
		return invalid(reason, field, "must not be empty")
	case len(name) > service.MaxNameBytes:
		return invalid(reason, field, "has %d bytes, at most %d", len(name), service.MaxNameBytes)
	case !utf8.ValidString(name):
		return invalid(reason, field, "is not UTF-8")
	}
	return nil
}

// namespaceName is the canonical name of a namespace. A comma ends the name on the wire of Socket.IO (protocol v5,
// "Packet encoding"), so that no namespace can have one.
func namespaceName(reason foyerv1.ErrorReason, field, name string) (string, error) {
	name = service.Canonical(name)
	if err := checkName(reason, field, name); err != nil {
		return "", err
	}
	if strings.Contains(name, ",") {
		return "", invalid(reason, field, "must not have a comma")
	}
	return name, nil
}

func checkRooms(reason foyerv1.ErrorReason, field string, rooms []string) error {
	if len(rooms) > maxRooms {
		return invalid(reason, field, "has %d rooms, at most %d", len(rooms), maxRooms)
	}
	for i, room := range rooms {
		if err := checkName(reason, "", room); err != nil { // the path is only made when it is needed
			return checkName(reason, fmt.Sprintf("%s[%d]", field, i), room)
		}
	}
	return nil
}

// target checks a Target: rooms or all, never neither and never both, so that nobody means everyone by accident.
func target(t *foyerv1.Target) (to service.Target, err error) {
	defer contain(&err)
	var none service.Target
	if t == nil {
		return none, invalid(invalidTarget, "target", "is required")
	}
	to = service.Target{
		Namespace: t.GetNamespace(), Rooms: t.GetRooms(), ExceptRooms: t.GetExceptRooms(), All: t.GetAll(), Local: t.GetLocal(),
	}
	if err := checkTarget(&to); err != nil {
		return none, err
	}
	return to, nil
}

// checkTarget checks a target and gives its namespace the canonical name.
func checkTarget(t *service.Target) (err error) {
	if t.Namespace, err = namespaceName(invalidTarget, "target.namespace", t.Namespace); err != nil {
		return err
	}
	if err := checkSelection(t.Rooms, t.All, "target.rooms", "target.all"); err != nil {
		return err
	}
	return checkRooms(invalidTarget, "target.except_rooms", t.ExceptRooms)
}

func checkSelection(rooms []string, all bool, roomsField, allField string) error {
	switch {
	case len(rooms) == 0 && !all:
		return invalid(invalidTarget, roomsField, "neither rooms nor all is given: name rooms, or set all for every socket of the namespace")
	case len(rooms) > 0 && all:
		return invalid(invalidTarget, allField, "rooms and all exclude each other: give one of them")
	}
	return checkRooms(invalidTarget, roomsField, rooms)
}

// scope checks what a watch follows; the rules are those of a target.
func scope(r *foyerv1.WatchRequest) (to service.Scope, err error) {
	defer contain(&err)
	namespace, err := namespaceName(fieldReason, "namespace", r.GetNamespace())
	if err != nil {
		return service.Scope{}, err
	}
	if err := checkSelection(r.GetRooms(), r.GetAll(), "rooms", "all"); err != nil {
		return service.Scope{}, err
	}
	return service.Scope{Namespace: namespace, Rooms: r.GetRooms(), All: r.GetAll()}, nil
}

// memberRooms checks the rooms of a join or leave.
func memberRooms(rooms []string) error {
	if len(rooms) == 0 {
		return invalidField("rooms", "at least one room is required")
	}
	return checkRooms(fieldReason, "rooms", rooms)
}

// eventPacket checks a Payload and makes the packet of an event from it. Its JSON is copied once, into its place behind
// the event's name, and never encoded again. reserved says which names are not free.
func eventPacket(p *foyerv1.Payload, namespace string, reserved func(string) bool, maxBytes int) (*service.Packet, error) {
	if p == nil {
		return nil, invalidField("payload", "is required")
	}
	event := p.GetEvent()
	if err := checkEvent(event, reserved); err != nil {
		return nil, err
	}
	var array []byte
	args, ok := p.GetArgs().(*foyerv1.Payload_Json)
	if ok {
		array, ok = eventArray(event, args.Json, p.GetAttachments(), maxBytes)
	}
	if !ok {
		args, err := arguments(p, "payload", maxBytes)
		if err != nil {
			return nil, err
		}
		array = payload.Event(event, args)
	}
	if err := checkSize(len(array), p.GetAttachments(), "payload", maxBytes); err != nil {
		return nil, err
	}
	return &service.Packet{
		Kind: service.KindEvent, Namespace: namespace, AckID: service.NoAck,
		Payload: array, Attachments: p.GetAttachments(), Event: event,
	}, nil
}

func checkEvent(event string, reserved func(string) bool) error {
	if err := checkName(fieldReason, "payload.event", event); err != nil {
		return err
	}
	if reserved(event) {
		return invalid(foyerv1.ErrorReason_ERROR_REASON_RESERVED_EVENT, "payload.event", "%q is reserved by Socket.IO: give the event another name", event)
	}
	return nil
}

// eventArray is the array of an event whose arguments come as JSON, put together before it is checked: one copy and one
// look at each byte. Behind the name, what follows the arguments' bracket makes a valid array exactly if it does behind
// the bracket. false: the arguments have a fault, which arguments will tell.
func eventArray[T string | []byte](event string, args T, attachments [][]byte, maxBytes int) ([]byte, bool) {
	if len(args) > maxBytes {
		return nil, false
	}
	i := skipBlanks(args, 0)
	if i == len(args) || args[i] != '[' {
		return nil, false
	}
	if i = skipBlanks(args, i+1); i == len(args) {
		return nil, false
	}
	array := make([]byte, 0, len(`["",`)+len(event)+len(args)-i)
	array = payload.AppendQuoted(append(array, '['), event)
	if args[i] != ']' {
		array = append(array, ',')
	}
	array = append(array, args[i:]...)
	return array, payload.Check(array, len(attachments), payload.Options{Exact: true}) == nil
}

// skipBlanks is where the blanks of JSON (RFC 8259) end that begin at i.
func skipBlanks[T string | []byte](s T, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\t' || s[i] == '\r' || s[i] == '\n') {
		i++
	}
	return i
}

// argsMessage is what Payload and Args have in common.
type argsMessage interface {
	GetJson() string
	GetAttachments() [][]byte
}

// arguments are the arguments of a Payload or Args as a checked JSON array; without any, an empty one.
func arguments(m argsMessage, path string, maxBytes int) ([]byte, error) {
	if n := len(m.GetAttachments()); n > payload.MaxAttachments {
		return nil, invalid(tooLarge, path+".attachments", "has %d attachments, at most %d", n, payload.MaxAttachments)
	}
	var array []byte
	field := path + ".json"
	list, isList, isJSON := argsForm(m)
	switch {
	case isJSON:
		if err := checkSize(len(m.GetJson()), m.GetAttachments(), path, maxBytes); err != nil { // before any work is done
			return nil, err
		}
		array = []byte(m.GetJson())
	case isList:
		field = path + ".values"
		var err error
		if array, err = appendList(nil, list, 1); err != nil {
			return nil, wrongValue(invalidPayload, field, err)
		}
	default:
		array = []byte("[]")
	}
	if err := checkSize(len(array), m.GetAttachments(), path, maxBytes); err != nil {
		return nil, err
	}
	if err := payload.Check(array, len(m.GetAttachments()), payload.Options{Exact: true}); err != nil {
		if errors.Is(err, payload.Attachments) {
			return nil, invalid(tooLarge, path+".attachments", "%v", err)
		}
		if errors.Is(err, payload.Unnamed) {
			field = path + ".attachments"
		}
		return nil, invalid(invalidPayload, field, "%s", jsonFault(err, isJSON))
	}
	return array, nil
}

func checkSize(jsonBytes int, attachments [][]byte, path string, maxBytes int) error {
	size := jsonBytes
	for _, a := range attachments {
		size += len(a)
	}
	if size > maxBytes {
		return invalid(tooLarge, path, "has %d bytes, at most %d (Limits.max_payload_bytes, --max-payload of the node)", size, maxBytes)
	}
	return nil
}

// jsonFault says what is wrong with the arguments. Of values nobody has seen the bytes.
func jsonFault(err error, isJSON bool) string {
	e, ok := errors.AsType[*payload.Error](err)
	if !ok {
		return err.Error()
	}
	what := "is " + e.Fault.Error()
	switch e.Fault {
	case payload.Unnamed:
		return `has one that no argument refers to: {"_placeholder":true,"num":0} stands for the first`
	case payload.Placeholder:
		what = `has a "_placeholder" whose "num" is that of no attachment`
	case payload.Depth:
		what = fmt.Sprintf("is nested deeper than %d levels", payload.MaxDepth)
	}
	if isJSON {
		what = fmt.Sprintf("%s, at byte %d", what, e.Offset)
	}
	if e.Fault == payload.Syntax || e.Fault == payload.NotArray {
		what += `: the arguments are a JSON array, as ["hello",1]`
	}
	return what
}

// wrongValue names the value in a Struct, Value or ListValue that has no JSON.
func wrongValue(reason foyerv1.ErrorReason, field string, err error) error {
	if e, ok := errors.AsType[*valueError](err); ok {
		return invalid(reason, field+e.path, "%v", e.fault)
	}
	return invalid(reason, field, "%v", err)
}

// ackArguments are the arguments of an acknowledgement; nil Args are none.
func ackArguments(a *foyerv1.Args, maxBytes int) (array []byte, attachments [][]byte, err error) {
	defer contain(&err)
	array, err = arguments(a, "event_reply.args", maxBytes)
	return array, a.GetAttachments(), err
}

func emitFlags(o *foyerv1.EmitOptions) service.Flags {
	var f service.Flags
	if o.GetVolatile() {
		f |= service.Volatile
	}
	if o != nil && o.Compress != nil && !*o.Compress {
		f |= service.NoCompress
	}
	return f
}

// emitOf checks what the emitting calls have in common.
func emitOf(t *foyerv1.Target, p *foyerv1.Payload, o *foyerv1.EmitOptions, requestID string, maxBytes int) (e service.Emit, err error) {
	defer contain(&err)
	to, err := target(t)
	if err != nil {
		return service.Emit{}, err
	}
	packet, err := eventPacket(p, to.Namespace, payload.Reserved, maxBytes)
	if err != nil {
		return service.Emit{}, err
	}
	if len(requestID) > maxRequestID {
		return service.Emit{}, invalidField("request_id", "has more than %d bytes", maxRequestID)
	}
	return service.Emit{Target: to, Packet: packet, Flags: emitFlags(o)}, nil
}

// serverSideReserved are the names that no server may emit to the others: those of io.serverSideEmit in Socket.IO.
func serverSideReserved(event string) bool {
	return event == "connect" || event == "connection" || event == "new_namespace"
}

// serverSideOf checks a ServerSideEmitRequest.
func serverSideOf(ctx context.Context, r *foyerv1.ServerSideEmitRequest, maxBytes int) (e service.ServerSideEmit, err error) {
	defer contain(&err)
	none := service.ServerSideEmit{}
	namespace, err := namespaceName(fieldReason, "namespace", r.GetNamespace())
	if err != nil {
		return none, err
	}
	packet, err := eventPacket(r.GetPayload(), namespace, serverSideReserved, maxBytes)
	if err != nil {
		return none, err
	}
	if len(r.GetRequestId()) > maxRequestID {
		return none, invalidField("request_id", "has more than %d bytes", maxRequestID)
	}
	if !r.GetWantsReplies() { // then no deadline can be too near
		ctx = context.Background()
	}
	wait, err := ackWait(ctx, r.GetTimeout())
	if err != nil {
		return none, err
	}
	return service.ServerSideEmit{Namespace: namespace, Packet: packet, WantsReplies: r.GetWantsReplies(), Timeout: wait}, nil
}

// ackWait is how long a call waits for acknowledgements or replies: min(timeout or 5 s, deadline - 100 ms, 60 s). A
// deadline that leaves no time at all is an error before anything is sent.
func ackWait(ctx context.Context, timeout *durationpb.Duration) (time.Duration, error) {
	wait := defaultAckTimeout
	if timeout != nil {
		if err := timeout.CheckValid(); err != nil {
			return 0, invalidField("timeout", "is out of a duration's range, or its seconds and nanos differ in sign")
		}
		switch d := timeout.AsDuration(); {
		case d < 0:
			return 0, invalidField("timeout", "must not be negative")
		case d > 0:
			wait = d
		}
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		if wait = min(wait, left-ackMargin); wait <= 0 {
			return 0, &noTime{left}
		}
	}
	return min(wait, maxAckTimeout), nil
}

// noTime is a deadline of the caller's that leaves no time to wait.
type noTime struct{ left time.Duration }

func (e *noTime) Error() string {
	return fmt.Sprintf("the call's deadline is %v away, and the wait for answers ends %v before it: nothing was sent",
		e.left.Round(time.Millisecond), ackMargin)
}

// Unwrap lets it be what it is: the end of the caller's time.
func (e *noTime) Unwrap() error { return context.DeadlineExceeded }

// knownEnum refuses a number that the enum does not have: a wish of a newer client must not be taken for the default.
func knownEnum[E ~int32](field string, names map[int32]string, v E) error {
	if _, ok := names[int32(v)]; !ok {
		return invalidField(field, "%d is no value that this version knows", v)
	}
	return nil
}

// viewOf is the view asked for, BASIC when none is.
func viewOf(field string, v foyerv1.SocketView) (foyerv1.SocketView, error) {
	if v == foyerv1.SocketView_SOCKET_VIEW_UNSPECIFIED {
		return foyerv1.SocketView_SOCKET_VIEW_BASIC, nil
	}
	return v, knownEnum(field, foyerv1.SocketView_name, v)
}

func disconnectMode(m foyerv1.DisconnectMode) (service.DisconnectMode, error) {
	switch m {
	case foyerv1.DisconnectMode_DISCONNECT_MODE_UNSPECIFIED, foyerv1.DisconnectMode_DISCONNECT_MODE_NAMESPACE:
		return service.DisconnectNamespace, nil
	case foyerv1.DisconnectMode_DISCONNECT_MODE_CONNECTION:
		return service.DisconnectConnection, nil
	case foyerv1.DisconnectMode_DISCONNECT_MODE_TRANSPORT:
		return service.DisconnectTransport, nil
	}
	return 0, knownEnum("mode", foyerv1.DisconnectMode_name, m)
}

func pageSize(n int32) (int, error) {
	switch {
	case n < 0:
		return 0, invalidField("page_size", "must not be negative")
	case n == 0:
		return defaultPageSize, nil
	}
	return min(int(n), maxPageSize), nil
}

// drainWindow is over how long a drain is spread.
func drainWindow(d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return defaultDrainWindow, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, invalidField("window", "is out of a duration's range, or its seconds and nanos differ in sign")
	}
	if w := d.AsDuration(); w >= 0 && w <= maxDrainWindow {
		return w, nil
	}
	return 0, invalidField("window", "must be between 0 and %v", maxDrainWindow)
}

// notes are an application's data about a socket as JSON; nil for nil. They come back to every handler and watcher that
// wants them, so they are such as every client can read.
func notes(field string, s *structpb.Struct) ([]byte, error) {
	data, err := objectJSON(s)
	if err != nil {
		return nil, wrongValue(fieldReason, field, err)
	}
	if len(data) > service.MaxDataBytes {
		return nil, invalid(tooLarge, field, "has %d bytes as JSON, at most %d", len(data), service.MaxDataBytes)
	}
	if data != nil && payload.CheckObject(data, payload.Options{MaxDepth: maxStructDepth}) != nil {
		return nil, invalidField(field, "is nested deeper than %d levels", maxStructDepth)
	}
	return data, nil
}

// update checks an UpdateSocketRequest.
func update(r *foyerv1.UpdateSocketRequest) (namespace string, id service.SocketID, u service.Update, err error) {
	defer contain(&err)
	if namespace, err = namespaceName(fieldReason, "namespace", r.GetNamespace()); err != nil {
		return "", "", u, err
	}
	if err := checkName(fieldReason, "socket_id", r.GetSocketId()); err != nil {
		return "", "", u, err
	}
	switch c := r.GetChange().(type) {
	case *foyerv1.UpdateSocketRequest_Data:
		u.Data, err = notes("data", c.Data)
	case *foyerv1.UpdateSocketRequest_MergeData:
		u.Merge, err = notes("merge_data", c.MergeData)
	default:
		if r.UserId == nil {
			err = invalidField("change", "one of data, merge_data and user_id is required")
		}
	}
	if err != nil {
		return "", "", u, err
	}
	if len(r.GetUserId()) > maxUserID {
		return "", "", u, invalidField("user_id", "has more than %d bytes", maxUserID)
	}
	u.UserID = r.UserId
	return namespace, service.SocketID(r.GetSocketId()), u, nil
}
