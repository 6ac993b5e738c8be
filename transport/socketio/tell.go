package socketio

import (
	"fmt"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"foyer/service"
)

// faultTexts say what was wrong, for the log and for the backends that hear of the end of its sockets. Those without a
// text are told with numbers or words of their own, or are ignored.
var faultTexts = [faults]string{
	faultType:           "a packet has no type that there is",
	faultAttachments:    "the number of a packet's attachments is missing, zero or too large",
	faultNamespace:      "a packet names a namespace with bytes that no name may have",
	faultAckID:          "the acknowledgement id of a packet is missing or too large",
	faultPayload:        "the payload of a packet is malformed, or not of the kind that its type wants",
	faultDepth:          "the payload of a packet is nested too deeply",
	faultPlaceholder:    "a payload refers to an attachment that its packet does not have",
	faultEventName:      "the name of an event is reserved, or is neither a string nor a number",
	faultDirection:      "a packet of a type that only servers send",
	faultTextMeanwhile:  "a text came while attachments of a packet were missing",
	faultBinary:         "a binary message came that no packet waits for",
	faultMemory:         "the memory budget is spent, and a packet waits for its attachments or its namespace",
	faultOtherParser:    "a message is of another parser than the first one",
	faultNotConnected:   "a packet is for a namespace that the client has not joined",
	faultConnectTimeout: "the client has joined no namespace in time",
}

// wrong says what was wrong and which setting rules it. Bytes are what was too large, where that is the fault.
func (l *Link) wrong(f fault, bytes int) (detail, setting string) {
	cfg := &l.server.cfg
	switch f {
	case faultTooLarge:
		if l.waiting != nil {
			return fmt.Sprintf("packet of %d bytes with its attachments is over --max-packet (%d)", bytes, cfg.MaxPacketBytes), settingOf("max-packet", cfg.MaxPacketBytes)
		}
		if bytes <= cfg.MaxPayload { // of msgpack
			return fmt.Sprintf("payload of a packet is over --max-payload (%d) as JSON", cfg.MaxPayload), settingOf("max-payload", cfg.MaxPayload)
		}
		return fmt.Sprintf("payload of a packet of %d bytes is over --max-payload (%d)", bytes, cfg.MaxPayload), settingOf("max-payload", cfg.MaxPayload)
	case faultAuthTooLarge:
		return fmt.Sprintf("auth of a client that has joined no namespace is over --max-connect-payload (%d)", cfg.MaxConnectPayload),
			settingOf("max-connect-payload", cfg.MaxConnectPayload)
	case faultAttachmentTimeout:
		return fmt.Sprintf("the next attachment of a packet did not come within --attachment-timeout (%v)", cfg.AttachmentTimeout),
			settingOf("attachment-timeout", cfg.AttachmentTimeout)
	case faultConnectTimeout:
		return fmt.Sprintf("the client has joined no namespace within --connect-timeout (%v)", cfg.ConnectTimeout), settingOf("connect-timeout", cfg.ConnectTimeout)
	case faultMemory:
		setting = "--memory-budget"
	default:
	}
	return faultTexts[f], setting
}

func settingOf(flag string, value any) string { return fmt.Sprint("--", flag, "=", value) }

// tell logs why a client was turned away: few of a kind. Reason is a counter's name, as GetInfo has it.
func (l *Link) tell(level zapcore.Level, message, reason, namespace, detail, setting string) {
	ce := l.server.told.Check(level, message)
	if ce == nil {
		return
	}
	fields := append(make([]zap.Field, 0, 6), zap.String("reason", reason), zap.String("address", l.session.Handshake().Address()),
		zap.String("session", l.session.Handle()))
	for _, f := range [...]struct{ key, text string }{{"namespace", namespace}, {"detail", detail}, {"setting", setting}} {
		if f.text != "" {
			fields = append(fields, zap.String(f.key, f.text))
		}
	}
	ce.Write(fields...)
}

// tellClosed logs that the link is closed for a fault.
func (l *Link) tellClosed(f fault, detail, setting string) {
	level := zap.InfoLevel
	if f == faultMemory {
		level = zap.WarnLevel
	}
	l.tell(level, "session closed", f.reason(), "", detail, setting)
}

// tellRefused logs that the client is not let into a namespace.
func (l *Link) tellRefused(namespace string, r service.Refusal) {
	if r.Reason != "" {
		l.tell(zap.InfoLevel, "connect refused", r.Reason, cut(namespace), cut(r.Detail), r.Setting)
	}
}

// cut bounds what of others' words goes into the log.
func cut(words string) string {
	const most = 300
	return words[:min(len(words), most)]
}
