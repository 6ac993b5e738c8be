package client

import "encoding/json"

// contextCommand looks after the names for places of nodes.
type contextCommand struct {
	List contextList `cmd:"" default:"withargs" help:"List them."`
	Set  contextSet  `cmd:"" help:"Make a context, or replace it. The first one is in use from then on."`
	Use  contextUse  `cmd:"" help:"Have commands use a context that do not name another one."`
	Rm   contextRm   `cmd:"" help:"Forget a context."`
}

type contextList struct{ format }

// Run prints the contexts.
func (c *contextList) Run(sys *System) error {
	all, err := sys.readContexts()
	if err != nil {
		return err
	}
	t := sys.table("", "CONTEXT", "API", "TLS", "CA FILE", "TOKEN FILE")
	for _, name := range all.names() {
		one := all.Contexts[name]
		if c.json() {
			text, err := json.Marshal(struct {
				Name string `json:"name"`
				*storedContext
				InUse bool `json:"inUse"`
			}{name, one, name == all.Use})
			if err != nil {
				return err
			}
			if err := sys.print(plainJSON(append(text, '\n'))); err != nil {
				return err
			}
			continue
		}
		row := cells(" ", name, one.API, "no", one.CA, one.TokenFile)
		if one.TLS || one.CA != "" {
			row[3].text = "yes"
		}
		if name == all.Use {
			row[0] = cell{"*", green}
		}
		if err := t.add(row...); err != nil {
			return err
		}
	}
	if c.json() {
		return nil
	}
	if len(all.Contexts) == 0 {
		sys.note("there are no contexts yet; foyer context set NAME --api ADDR makes one")
		return nil
	}
	return t.flush()
}

type contextSet struct {
	Name         string `arg:"" help:"Its name: letters, digits, dots, dashes."`
	API          string `name:"api" env:"-" required:"" placeholder:"ADDR" help:"The gRPC API of a node."`
	APITLS       bool   `name:"api-tls" env:"-" help:"The API is served by TLS."`
	APICA        string `name:"api-ca" env:"-" type:"path" placeholder:"FILE" help:"Certificates that the API's has to come from; it means --api-tls."`
	APITokenFile string `name:"api-token-file" env:"-" type:"path" placeholder:"FILE" help:"Bearer tokens of the API, of which the first is used. Only the name of the file is kept."`
}

// Validate is called by kong.
func (c *contextSet) Validate() error {
	switch { // kong tells what is missing
	case c.Name != "" && !contextName.MatchString(c.Name):
		return failure(Usage, "NAME: %q is no name for a context: it has letters, digits, dots and dashes, 64 at most", c.Name)
	case c.API != "" && !isAddress(c.API):
		return failure(Usage, "--api: %q is no address of the form HOST:PORT", c.API)
	}
	return nil
}

// Run keeps the context.
func (c *contextSet) Run(sys *System) error {
	switch {
	case c.Name == "":
		return failure(Usage, "NAME: must not be empty")
	case c.API == "":
		return failure(Usage, "--api: must not be empty")
	}
	all, err := sys.readContexts()
	if err != nil {
		return err
	}
	all.Contexts[c.Name] = &storedContext{c.API, c.APITLS, c.APICA, c.APITokenFile}
	first := all.Use == ""
	if first {
		all.Use = c.Name
	}
	err = sys.writeContexts(all)
	if err == nil && first {
		sys.note("context " + c.Name + " is in use")
	}
	return err
}

type contextUse struct {
	Name string `arg:"" complete:"context" help:"Its name."`
}

// Run has the context used.
func (c *contextUse) Run(sys *System) error {
	all, err := sys.readContexts()
	if err != nil {
		return err
	}
	if _, err := all.find("NAME", c.Name); err != nil {
		return err
	}
	all.Use = c.Name
	return sys.writeContexts(all)
}

type contextRm struct {
	Name string `arg:"" complete:"context" help:"Its name."`
}

// Run forgets the context.
func (c *contextRm) Run(sys *System) error {
	all, err := sys.readContexts()
	if err != nil {
		return err
	}
	if _, err := all.find("NAME", c.Name); err != nil {
		return err
	}
	delete(all.Contexts, c.Name)
	used := all.Use == c.Name
	if used {
		all.Use = ""
	}
	err = sys.writeContexts(all)
	if err == nil && used {
		sys.note("no context is in use any more")
	}
	return err
}
