// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Registry is a registry to push to.
type Registry struct {
	// Host is its name and port, "registry.test:5000".
	Host string
	// CA is a file of certificates to trust beside the system's.
	CA string
	// Plain speaks HTTP without TLS.
	Plain bool
	// User and Password are sent if User is set.
	User, Password string
}

func (r Registry) reference(repoTag string) (name.Reference, error) {
	var opts []name.Option
	if r.Plain {
		opts = append(opts, name.Insecure)
	}
	return name.ParseReference(r.Host+"/"+repoTag, opts...)
}

func (r Registry) options(ctx context.Context) ([]remote.Option, error) {
	opts := []remote.Option{remote.WithContext(ctx), remote.WithJobs(2)}
	if r.User != "" {
		opts = append(opts, remote.WithAuth(&authn.Basic{Username: r.User, Password: r.Password}))
	}
	if r.CA == "" {
		return opts, nil
	}
	pem, err := os.ReadFile(r.CA)
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read CA: no certificate in %s", r.CA)
	}
	base, ok := remote.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("push: default transport has changed its type")
	}
	transport := base.Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return append(opts, remote.WithTransport(transport)), nil
}

// Push builds the image if need be and pushes it under all its tags.
func (b *Builder) Push(ctx context.Context, r Registry, i Image) error {
	built, err := b.Build(ctx, i)
	if err != nil {
		return err
	}
	opts, err := r.options(ctx)
	if err != nil {
		return err
	}
	var what remote.Taggable = built
	if i.Index == nil {
		m, err := built.IndexManifest()
		if err != nil {
			return err
		}
		if what, err = built.Image(m.Manifests[0].Digest); err != nil {
			return err
		}
	}
	for _, tag := range i.Tags {
		ref, err := r.reference(i.Repo + ":" + tag)
		if err != nil {
			return err
		}
		if err := remote.Push(ref, what, opts...); err != nil {
			return fmt.Errorf("push %s: %w", ref, err)
		}
	}
	return nil
}

// Tag makes the tag dst name what src names, both with repository and without
// registry: it is how a test publishes a new version.
func (r Registry) Tag(ctx context.Context, src, dst string) error {
	opts, err := r.options(ctx)
	if err != nil {
		return err
	}
	from, err := r.reference(src)
	if err != nil {
		return err
	}
	to, err := r.reference(dst)
	if err != nil {
		return err
	}
	desc, err := remote.Get(from, opts...)
	if err != nil {
		return fmt.Errorf("get %s: %w", from, err)
	}
	if err := remote.Push(to, desc, opts...); err != nil {
		return fmt.Errorf("push %s: %w", to, err)
	}
	return nil
}
