package main

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"foyer/cmd/foyer/near"
)

const prefix = "FOYER_"

// strays are warnings: variables that look like settings and are none.
type strays []string

// Kubernetes gives each pod such variables of each Service beside it: of one called foyer, or foyer-api.
var (
	servicePort = regexp.MustCompile(`_PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`)
	serviceHost = regexp.MustCompile(`_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$`)
)

// fromKubernetes says whether a variable is one of those. A person who writes FOYER_PORT=3000 means something else.
func fromKubernetes(name, value string) bool {
	if strings.HasSuffix(name, "_SERVICE_HOST") {
		_, err := netip.ParseAddr(value)
		return err == nil
	}
	if serviceHost.MatchString(name) {
		return true
	}
	m := servicePort.FindStringSubmatch(name)
	return m != nil && (m[1] != "" || strings.Contains(value, "://"))
}

// straysOf looks for settings that nobody knows, as NAME=value, and says what each may have meant.
func straysOf(model *kong.Application, environ []string) (found strays) {
	var known []string
	_ = kong.Visit(model, func(node kong.Visitable, next kong.Next) error {
		if f, ok := node.(*kong.Flag); ok {
			for _, name := range f.Envs {
				known = append(known, strings.TrimPrefix(name, prefix))
			}
		}
		return next(nil)
	})
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		rest, ours := strings.CutPrefix(name, prefix)
		if !ours || slices.Contains(known, rest) || fromKubernetes(name, value) {
			continue
		}
		meant := near.Name(rest, known)
		if rest == "PORT" { // by its meaning, which is nearer than PATH
			meant = "EDGE"
		}
		if meant != "" {
			meant = prefix + meant
		}
		found = append(found, name+" is not a setting of Foyer, and has no effect"+near.Question(meant))
	}
	slices.Sort(found)
	return found
}
