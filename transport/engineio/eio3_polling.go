package engineio

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// eio3Body returns what writePoll has to write in version 3, and sets its type: items, or the packets of a ready body
// as they would be written in version 4. A payload with a binary in it is binary as a whole where the client can take
// that.
func (s *Session) eio3Body(h http.Header, items []item, ready string) (body string, compress bool) {
	octets := false
	for _, it := range items {
		octets = octets || s.dialect == eio3 && len(it.msg.attachments) > 0
		compress = compress || it.flags&NoCompress == 0
	}
	var b strings.Builder
	for _, it := range items {
		if octets {
			b.Write(it.msg.eio3Octets())
		} else {
			b.Write(it.msg.eio3Text())
		}
	}
	if len(items) == 0 {
		for p := range strings.SplitSeq(ready, string(rune(separator))) {
			fmt.Fprintf(&b, "%d:%s", len(p), p) // ASCII
		}
	}
	body = b.String()
	switch {
	case octets:
		h.Set("Content-Type", "application/octet-stream")
	case s.jsonp():
		body = scriptOf(s.handshake.Query()["j"], body)
	}
	return body, compress
}

// eio3Packets returns the reader of a POST's body, which it owns.
func (s *Session) eio3Packets(r *http.Request, body []byte) packetReader {
	if s.jsonp() {
		return newEIO3Reader(formData(body), false)
	}
	return newEIO3Reader(body, isOctets(r))
}

// JSONP: a GET is a <script>, which calls a function of the page with the payload; a POST is a <form>.

func isJSONP(query map[string]string) bool {
	_, ok := query["j"]
	return ok && query["EIO"] != "4" && query["transport"] == "polling"
}

// jsonp says whether the session's polling is JSONP.
func (s *Session) jsonp() bool { return s.dialect == eio3Base64 && isJSONP(s.handshake.Query()) }

// scriptOf returns the script that hands a payload to callback number j of the client. Of j only digits are believed.
func scriptOf(j, payload string) string {
	digits := strings.Map(func(c rune) rune {
		if c < '0' || c > '9' {
			return -1
		}
		return c
	}, j)
	var b strings.Builder
	b.Grow(len(payload) + len(payload)/8 + 32)
	b.WriteString("___eio[" + digits + "](\"")
	_, _ = scriptEscaper.WriteString(&b, payload) // a strings.Builder does not fail
	b.WriteString("\");")
	return b.String()
}

// scriptEscaper makes of a text the inside of a JavaScript string: what JSON asks for, the two line separators of
// Unicode, which end a line of JavaScript but not of JSON, and "<", since some browsers that need JSONP take text for
// HTML.
var scriptEscaper = strings.NewReplacer(scriptEscapes()...)

func scriptEscapes() []string {
	pairs := []string{`"`, `\"`, `\`, `\\`} //nolint:prealloc // once
	for _, c := range "<\u2028\u2029" {
		pairs = append(pairs, string(c), fmt.Sprintf(`\u%04x`, c))
	}
	for c := range ' ' {
		pairs = append(pairs, string(c), fmt.Sprintf(`\u%04x`, c))
	}
	return pairs
}

// formData returns the payload in a form's field d, or nothing when it cannot be had.
func formData(body []byte) []byte {
	for pair := range bytes.SplitSeq(body, []byte("&")) {
		v, ok := bytes.CutPrefix(pair, []byte("d="))
		if !ok {
			continue
		}
		d, err := url.QueryUnescape(string(v))
		if err != nil {
			return nil
		}
		return []byte(formUnescaper.Replace(d))
	}
	return nil
}

// formUnescaper undoes what the client does because browsers change line feeds in forms: it sends a line feed as \n,
// and a \n as \\n. Replacements are tried in this order, and none is looked at again.
var formUnescaper = strings.NewReplacer(`\\n`, `\n`, `\n`, "\n")

// allowsScript decides about a JSONP handshake. A page may load scripts from anywhere, and no Origin is sent then, so
// without this every page could use the server; only the Referer tells which one asks. Without a page there is no
// JSONP.
func (p originPolicy) allowsScript(r *http.Request) bool {
	if p.any || r.Header.Get("Origin") != "" { // which has been looked at
		return true
	}
	page, err := url.Parse(r.Header.Get("Referer"))
	return err == nil && page.Host != "" && p.allowsOrigin(page.Scheme+"://"+page.Host, r.Host)
}
