package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
)

// bill is a bill of materials: what the linker says it has put into a binary, Go itself, and what the client's files
// come from. It has no serial number and no time, so that it is the same for the same binary.
type bill struct{ *cyclonedx.BOM }

func (b bill) writeTo(w io.Writer) error {
	return cyclonedx.NewBOMEncoder(w, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(b.BOM)
}

// billOf reads a binary, and the lock file of the npm packages that are built into it.
func billOf(program []byte, version string, lock []byte) (bill, error) {
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		return bill{}, err
	}
	components := []cyclonedx.Component{{
		Type: cyclonedx.ComponentTypeLibrary, Name: "std", Version: info.GoVersion, PackageURL: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"),
	}}
	for _, module := range info.Deps {
		c, err := moduleComponent(module)
		if err != nil {
			return bill{}, err
		}
		components = append(components, c)
	}
	packages, err := packageComponents(lock)
	if err != nil {
		return bill{}, err
	}
	components = append(components, packages...)
	slices.SortFunc(components, func(a, b cyclonedx.Component) int { return cmp.Compare(a.PackageURL, b.PackageURL) })
	refs := make([]string, 0, len(components))
	for i := range components {
		components[i].BOMRef = components[i].PackageURL
		refs = append(refs, components[i].BOMRef)
	}

	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Component: &cyclonedx.Component{
		Type: cyclonedx.ComponentTypeApplication, BOMRef: "foyer", Name: "foyer", Version: version, Licenses: license("MIT"),
		Hashes: &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: fmt.Sprintf("%x", sha256.Sum256(program))}},
	}}
	bom.Components = &components
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: "foyer", Dependencies: &refs}}
	return bill{bom}, nil
}

// moduleComponent is one module of Go. Its sum is a SHA-256 over the sums of its files.
func moduleComponent(m *debug.Module) (cyclonedx.Component, error) {
	if m.Replace != nil {
		m = m.Replace
	}
	c := cyclonedx.Component{
		Type: cyclonedx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: "pkg:golang/" + strings.ToLower(m.Path) + "@" + m.Version,
	}
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
	if err != nil || len(sum) != sha256.Size {
		return c, fmt.Errorf("module %s has the sum %q, which is none", m.Path, m.Sum)
	}
	c.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}}
	return c, nil
}

// packageComponents are the packages of a lock file of npm, without those that are for developers only.
func packageComponents(lock []byte) ([]cyclonedx.Component, error) {
	var file struct {
		Packages map[string]struct {
			Version, Integrity, License string
			Dev                         bool
		}
	}
	if err := json.Unmarshal(lock, &file); err != nil {
		return nil, fmt.Errorf("package-lock.json: %w", err)
	}
	var components []cyclonedx.Component
	for path, p := range file.Packages {
		if path == "" || p.Dev {
			continue
		}
		name := path[strings.LastIndex(path, "node_modules/")+len("node_modules/"):]
		digest, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(p.Integrity, "sha512-"))
		if err != nil || len(digest) != 64 {
			return nil, fmt.Errorf("package-lock.json: %s has the integrity %q, which is no SHA-512", name, p.Integrity)
		}
		components = append(components, cyclonedx.Component{
			Type: cyclonedx.ComponentTypeLibrary, Name: name, Version: p.Version, Licenses: license(p.License),
			PackageURL: "pkg:npm/" + strings.Replace(name, "@", "%40", 1) + "@" + p.Version,
			Hashes:     &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA512, Value: hex.EncodeToString(digest)}},
		})
	}
	if len(components) == 0 {
		return nil, fmt.Errorf("package-lock.json has no packages")
	}
	return components, nil
}

func license(id string) *cyclonedx.Licenses {
	if id == "" {
		return nil
	}
	return &cyclonedx.Licenses{{License: &cyclonedx.License{ID: id}}}
}
