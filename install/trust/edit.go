// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.podman.io/image/v5/signature"
	"go.yaml.in/yaml/v3"

	"github.com/atomic-agent/atomic/internal/atomicfile"
	"github.com/atomic-agent/atomic/internal/flock"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
)

// Requirement is one condition of a scope; all of them must hold.
type Requirement struct {
	Type     string   `json:"type"`
	KeyType  string   `json:"keyType,omitempty"`
	KeyPath  string   `json:"keyPath,omitempty"`
	KeyPaths []string `json:"keyPaths,omitempty"`
}

// The types of requirements that this package writes.
const (
	SignedBy       = "signedBy"
	SigstoreSigned = "sigstoreSigned"
	Accept         = "insecureAcceptAnything"
	Reject         = "reject"
)

// Scope is what a policy says about some images.
type Scope struct {
	// Transport is "docker" for registries, Name a registry or a part of it;
	// both are empty for the default.
	Transport, Name string
	Requirements    []Requirement
	// Lookaside is where signatures are kept apart from the registry, "" if
	// they are not.
	Lookaside string
}

// document is a policy file. What this package does not know stays as it is.
type document struct {
	Default    json.RawMessage                       `json:"default"`
	Transports map[string]map[string]json.RawMessage `json:"transports,omitempty"`
}

// Raw returns the content of the policy file in force.
func Raw(host paths.Host) ([]byte, error) {
	p, err := Load(host, false)
	if err != nil {
		return nil, err
	}
	return p.raw, nil
}

// Scopes lists what the policy in force says, the default first.
func Scopes(host paths.Host) ([]Scope, error) {
	raw, err := Raw(host)
	if err != nil {
		return nil, err
	}
	var doc document
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("parse signature policy: %w", err)
	}
	lookasides, err := readLookasides(host)
	if err != nil {
		return nil, err
	}
	read := func(transport, name string, rules json.RawMessage) (Scope, error) {
		s := Scope{Transport: transport, Name: name}
		if transport == "docker" {
			s.Lookaside = lookasides[name]
		}
		return s, json.Unmarshal(rules, &s.Requirements)
	}
	first, err := read("", "", doc.Default)
	list := []Scope{first}
	for transport, scopes := range doc.Transports {
		for name, rules := range scopes {
			s, serr := read(transport, name, rules)
			err = errors.Join(err, serr)
			list = append(list, s)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("parse signature policy: %w", err)
	}
	slices.SortFunc(list, func(a, b Scope) int {
		return strings.Compare(a.Transport+"\x00"+a.Name, b.Transport+"\x00"+b.Name)
	})
	return list, nil
}

// SetScope makes the policy say something about a registry, or a part of one.
func SetScope(ctx context.Context, host paths.Host, s Scope) error {
	err := edit(ctx, host, func(doc *document) error {
		rules, err := json.Marshal(s.Requirements)
		if err != nil {
			return err
		}
		if doc.Transports == nil {
			doc.Transports = map[string]map[string]json.RawMessage{}
		}
		if doc.Transports[s.Transport] == nil {
			doc.Transports[s.Transport] = map[string]json.RawMessage{}
		}
		doc.Transports[s.Transport][s.Name] = rules
		return nil
	})
	if err != nil || s.Lookaside == "" {
		return err
	}
	return writeLookaside(host, s)
}

// RemoveScope makes the policy say nothing about a scope any more, and unless
// keep is set, forgets where its signatures are.
func RemoveScope(ctx context.Context, host paths.Host, transport, name string, keep bool) error {
	err := edit(ctx, host, func(doc *document) error {
		if _, ok := doc.Transports[transport][name]; !ok {
			return hint.New(fmt.Errorf("the signature policy says nothing about %s", name), "`atomic trust show` lists what it says")
		}
		delete(doc.Transports[transport], name)
		if len(doc.Transports[transport]) == 0 {
			delete(doc.Transports, transport)
		}
		return nil
	})
	if err != nil || keep {
		return err
	}
	return atomicfile.Remove(lookasideFile(host, name))
}

// SetDefault says what holds for images that no scope is about.
func SetDefault(ctx context.Context, host paths.Host, kind string) error {
	return edit(ctx, host, func(doc *document) error {
		rules, err := json.Marshal([]Requirement{{Type: kind}})
		doc.Default = rules
		return err
	})
}

// Reset makes the policy what it is on a host that has none: everything is
// rejected.
func Reset(ctx context.Context, host paths.Host) error {
	return edit(ctx, host, func(doc *document) error {
		*doc = document{Default: json.RawMessage(`[{"type":"reject"}]`)}
		return nil
	})
}

// edit changes the host's policy file. Only a policy that containers/image
// accepts is ever written.
func edit(ctx context.Context, host paths.Host, change func(*document) error) error {
	lock, err := flock.Wait(ctx, filepath.Join(host.Locks(), ".policy"))
	if err != nil {
		return hint.Root(err)
	}
	defer lock.Unlock()
	raw, err := Raw(host)
	if err != nil {
		return err
	}
	var doc document
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return fmt.Errorf("parse signature policy: %w", err)
	}
	if err := change(&doc); err != nil {
		return err
	}
	out, err := json.MarshalIndent(doc, "", "    ")
	if err != nil {
		return err
	}
	if _, err := signature.NewPolicyFromBytes(out); err != nil {
		return fmt.Errorf("edit signature policy: %w", err)
	}
	file := candidates(host)[0]
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return hint.Root(err)
	}
	return hint.Root(atomicfile.Replace(file, append(out, '\n'), atomicfile.Own(0o644)))
}

// lookasides is a file of containers-registries.d(5).
type lookasides struct {
	Docker map[string]struct {
		Lookaside string `yaml:"lookaside,omitempty"`
		Sigstore  string `yaml:"sigstore,omitempty"` // its former name
	} `yaml:"docker"`
}

func lookasideDir(host paths.Host) string { return host.Path("/etc/containers/registries.d") }

func lookasideFile(host paths.Host, scope string) string {
	return filepath.Join(lookasideDir(host), strings.ReplaceAll(scope, "/", "-")+".yaml")
}

func readLookasides(host paths.Host) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(lookasideDir(host), "*.yaml"))
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		var l lookasides
		if err := yaml.Unmarshal(data, &l); err != nil {
			return nil, fmt.Errorf("parse %s: %w", f, err)
		}
		for scope, where := range l.Docker {
			if found[scope] = where.Lookaside; where.Lookaside == "" {
				found[scope] = where.Sigstore
			}
		}
	}
	return found, nil
}

func writeLookaside(host paths.Host, s Scope) error {
	out, err := yaml.Marshal(map[string]map[string]map[string]string{"docker": {s.Name: {"lookaside": s.Lookaside}}})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(lookasideDir(host), 0o755); err != nil {
		return hint.Root(err)
	}
	return hint.Root(atomicfile.Replace(lookasideFile(host, s.Name), out, atomicfile.Own(0o644)))
}
