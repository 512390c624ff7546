// SPDX-License-Identifier: Apache-2.0

// Package image finds, checks and fetches images from registries.
//
// It follows the conventions every container tool of the host shares:
// containers-registries.conf(5) with short names, mirrors and blocked
// registries, containers-auth.json(5), containers-certs.d(5) and the signature
// policy (package trust). What it fetches goes to a destination of the
// caller's; the package itself writes nothing.
package image

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/shortnames"
	"go.podman.io/image/v5/types"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/internal/version"
)

// Name is an image as the administrator wrote it.
type Name struct {
	// Text is the name without its prefix, as shortnames(7) reads it.
	Text string
	// Insecure is set by the prefix "http:": no TLS, or TLS without checks.
	Insecure bool
}

// ParseName reads an image name with the prefixes of the original tool: none
// or "oci:" for a registry, "http:" for one without TLS.
func ParseName(s string) (Name, error) {
	text, insecure := s, false
	for _, prefix := range []string{"oci:", "docker://", "https://", "https:", "http://", "http:"} {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			text, insecure = strings.TrimPrefix(rest, "//"), strings.HasPrefix(prefix, "http:")
			break
		}
	}
	for _, prefix := range []string{"docker:", "dockertar:", "ostree:"} {
		if strings.HasPrefix(text, prefix) {
			return Name{}, hint.New(fmt.Errorf("image %q: images come from registries only", s), "push it to a registry and name it there")
		}
	}
	if _, err := reference.ParseNormalizedNamed(text); err != nil || text == "" {
		return Name{}, hint.New(fmt.Errorf("image %q is not an image name", s), "a name looks like registry.example.com/library/etcd:3.5")
	}
	return Name{Text: text, Insecure: insecure}, nil
}

// ContainerName returns the default name of a container of the image: the last
// component, with the tag unless it is "latest". A digest is dropped.
func (n Name) ContainerName() (string, error) {
	base := path.Base(strings.Split(n.Text, "@")[0])
	name, tag, _ := strings.Cut(base, ":")
	if tag != "" && tag != "latest" {
		name += "-" + tag
	}
	if err := record.CheckName(name); err != nil {
		return "", hint.New(err, "choose a name with --name")
	}
	return name, nil
}

// Options say how registries are contacted.
type Options struct {
	Host paths.Host
	// Credentials are "USER:PASSWORD"; empty means those of auth.json.
	Credentials string
	// Insecure is Name.Insecure.
	Insecure bool
	// Architecture is the image architecture to choose, empty for the host's.
	Architecture string
}

// System returns the options as containers/image takes them.
func System(o Options) (*types.SystemContext, error) {
	sys := &types.SystemContext{
		RootForImplicitAbsolutePaths: o.Host.Root,
		DockerRegistryUserAgent:      "atomic/" + version.Version,
		AuthFilePath:                 os.Getenv("REGISTRY_AUTH_FILE"),
		ArchitectureChoice:           o.Architecture,
		BlobInfoCacheDir:             filepath.Join(o.Host.Containers(), ".cache"),
	}
	if sys.AuthFilePath != "" {
		if _, err := os.Stat(sys.AuthFilePath); err != nil {
			return nil, hint.New(fmt.Errorf("read credentials: %w", err), "REGISTRY_AUTH_FILE names a file that does not exist")
		}
	}
	if o.Insecure {
		sys.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}
	if o.Credentials != "" {
		user, password, ok := strings.Cut(o.Credentials, ":")
		if !ok || user == "" {
			return nil, hint.New(errors.New("credentials are not of the form USER:PASSWORD"), "give --src-creds USER:PASSWORD")
		}
		sys.DockerAuthConfig = &types.DockerAuthConfig{Username: user, Password: password}
	}
	return sys, nil
}

// Candidate is one fully qualified image that a name may stand for.
type Candidate struct {
	Name reference.Named
	Ref  types.ImageReference
}

// Candidates are what a name may stand for, in the order they are to be tried.
type Candidates struct {
	List []Candidate
}

// Resolve finds out what a name stands for.
func Resolve(sys *types.SystemContext, name Name) (*Candidates, error) {
	r, err := shortnames.Resolve(sys, name.Text)
	if err != nil {
		return nil, hint.New(fmt.Errorf("resolve image %q: %w", name.Text, err),
			"write the name with its registry (registry.example.com/library/etcd), or set unqualified-search-registries in /etc/containers/registries.conf")
	}
	c := &Candidates{}
	for _, p := range r.PullCandidates {
		ref, err := docker.NewReference(p.Value)
		if err != nil {
			return nil, fmt.Errorf("resolve image %q: %w", name.Text, err)
		}
		c.List = append(c.List, Candidate{Name: p.Value, Ref: ref})
	}
	return c, nil
}
