package main

import (
	"encoding/json"
	"fmt"
	"strings"

	foyerv1 "foyer/gen/foyer/v1"
)

// From values to what Foyer takes, and back, so that nobody writes JSON strings by hand. A []byte anywhere among the
// values, inside of []any and map[string]any too, is sent as binary; in a struct it would be base64, as encoding/json
// does it.

// toPayload makes an event: toPayload("photo", "cat.png", bytes).
func toPayload(event string, values ...any) (*foyerv1.Payload, error) {
	text, attachments, err := pack(values)
	return &foyerv1.Payload{Event: event, Args: &foyerv1.Payload_Json{Json: text}, Attachments: attachments}, err
}

// toArgs makes the arguments of an acknowledgement.
func toArgs(values ...any) (*foyerv1.Args, error) {
	text, attachments, err := pack(values)
	return &foyerv1.Args{Args: &foyerv1.Args_Json{Json: text}, Attachments: attachments}, err
}

func pack(values []any) (text string, attachments [][]byte, err error) {
	var walk func(v any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case []byte: // a placeholder stands for it; the bytes travel beside
			attachments = append(attachments, v)
			return map[string]any{"_placeholder": true, "num": len(attachments) - 1}
		case []any:
			out := make([]any, len(v))
			for i, item := range v {
				out[i] = walk(item)
			}
			return out
		case map[string]any:
			out := make(map[string]any, len(v))
			for key, item := range v {
				out[key] = walk(item)
			}
			return out
		}
		return v
	}
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // it would make six bytes of each < and >
	err = enc.Encode(walk(values))
	return strings.TrimSpace(out.String()), attachments, err
}

// fromWire has the values of an event or of an acknowledgement; what was sent as binary is a []byte.
func fromWire(p interface {
	GetJson() string // Foyer always answers with JSON, and has checked it
	GetAttachments() [][]byte
},
) ([]any, error) {
	var values []any
	if err := json.Unmarshal([]byte(p.GetJson()), &values); err != nil {
		return nil, fmt.Errorf("arguments: %w", err)
	}
	attachments := p.GetAttachments()
	var walk func(v any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		case map[string]any:
			if num, ok := v["num"].(float64); ok && v["_placeholder"] == true && int(num) < len(attachments) {
				return attachments[int(num)]
			}
			for key := range v {
				v[key] = walk(v[key])
			}
		}
		return v
	}
	walk(values)
	return values, nil
}
