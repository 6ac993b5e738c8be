package engineio

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the networks of proxies whose X-Forwarded-For header is believed.
type proxies []netip.Prefix

// ClientAddress returns the address that a request comes from, without the port: the connection's, or what a proxy of
// these networks says in X-Forwarded-For.
func ClientAddress(r *http.Request, trusted []netip.Prefix) string {
	text, _ := proxies(trusted).client(r)
	return text
}

// client returns the address that a request comes from, as text for people and as a value. A proxy that is trusted
// tells the client's: it is the last entry of X-Forwarded-For that is not a trusted proxy itself, as each proxy adds
// the address that it was called from at the end, and what stands before that may be the client's invention. Where the
// header is of no use, and from everybody else, it is the address of the connection.
func (p proxies) client(r *http.Request) (text string, addr netip.Addr) {
	text = r.RemoteAddr
	if host, _, err := net.SplitHostPort(text); err == nil {
		text = host
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || !p.contains(addr) {
		return text, addr
	}
	for _, line := range slices.Backward(r.Header["X-Forwarded-For"]) {
		for rest := line; rest != ""; {
			entry := rest
			if i := strings.LastIndexByte(rest, ','); i >= 0 {
				rest, entry = rest[:i], rest[i+1:]
			} else {
				rest = ""
			}
			told, ok := forwarded(strings.TrimSpace(entry))
			switch {
			case !ok:
				return text, addr
			case !p.contains(told):
				return told.String(), told
			}
		}
	}
	return text, addr
}

// forwarded reads an entry of X-Forwarded-For, which some proxies write with a port.
func forwarded(entry string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(entry)
	if err != nil {
		if with, err := netip.ParseAddrPort(entry); err == nil {
			return with.Addr().Unmap().WithZone(""), true
		}
	}
	return addr.Unmap().WithZone(""), err == nil
}

func (p proxies) contains(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(p, func(n netip.Prefix) bool { return n.Contains(addr) })
}
