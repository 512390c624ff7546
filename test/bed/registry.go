// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// RegistryHost is the registry's name and port in the bed. It speaks TLS with
// a certificate that the bed trusts, and wants the user RegistryUser with the
// password RegistryPassword, which root's auth.json in the bed has.
const (
	RegistryHost     = "registry.test:5000"
	RegistryUser     = "atomic"
	RegistryPassword = "atomic"
)

//go:embed files
var files embed.FS

// htpasswd is RegistryUser with the bcrypt hash of RegistryPassword.
const htpasswd = "atomic:$2y$05$oWw7Y5tZCtN3F8ZUqzQ/AOFDI/odKoD/9alnXUj8QSvhgYqTzrCqa\n"

const authJSON = `{"auths": {"` + RegistryHost + `": {"auth": "YXRvbWljOmF0b21pYw=="}}}` + "\n"

const bundle = "etc/ssl/certs/ca-certificates.crt"

// prepareRegistry sets up registry.service, which starts with the bed, and
// makes the bed a client of it.
func (b *Bed) prepareRegistry(ctx context.Context) error {
	if err := b.prepareStorage(); err != nil {
		return err
	}
	certs, err := pki(ctx)
	if err != nil {
		return fmt.Errorf("make the registry's certificate: %w", err)
	}
	for _, f := range []struct {
		source, target string
		mode           os.FileMode
	}{
		{"registry.service", "etc/systemd/system/registry.service", 0o644},
		{"var-lib-registry.mount", "etc/systemd/system/var-lib-registry.mount", 0o644},
		{"registry.yml", "etc/docker/registry/bed.yml", 0o644},
		{"registry-tag.sh", "usr/local/bin/registry-tag", 0o755},
		{"policy.json", "etc/containers/policy.json", 0o644},
		{"registries.conf", "etc/containers/registries.conf", 0o644},
	} {
		text, err := fs.ReadFile(files, "files/"+f.source)
		if err != nil {
			return err
		}
		if err := b.writeUpper(f.target, f.mode, string(text)); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{
		"cert.pem": "etc/docker/registry/cert.pem",
		"key.pem":  "etc/docker/registry/key.pem",
		"ca.pem":   "usr/local/share/ca-certificates/bed.crt",
	} {
		text, err := os.ReadFile(filepath.Join(certs, name))
		if err != nil {
			return err
		}
		if err := b.writeUpper(target, 0o644, string(text)); err != nil {
			return err
		}
	}
	return b.trustRegistry(certs)
}

// prepareStorage lays a writable directory over the registry's storage.
func (b *Bed) prepareStorage() error {
	storage := b.opts.Registry
	if storage == RegistryEmpty {
		storage = b.path("registry/empty")
	}
	for _, dir := range []string{"registry/empty", "registry/layer/upper", "registry/layer/work"} {
		if err := os.MkdirAll(b.path(dir), 0o755); err != nil {
			return err
		}
	}
	b.opts.Binds = append(b.opts.Binds,
		Bind{Source: storage, Target: "/var/lib/bed/images", ReadOnly: true},
		Bind{Source: b.path("registry/layer"), Target: "/var/lib/bed/registry"})
	return b.makeDirs("var/lib/registry")
}

// trustRegistry does what update-ca-certificates does, and logs root in.
func (b *Bed) trustRegistry(certs string) error {
	system, err := os.ReadFile(filepath.Join(b.rootfs, bundle))
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(certs, "ca.pem"))
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{
		{bundle, string(system) + string(ca), 0o644},
		{"etc/docker/registry/htpasswd", htpasswd, 0o644},
		{"root/.config/containers/auth.json", authJSON, 0o600},
	} {
		if err := b.writeUpper(f.name, f.mode, f.text); err != nil {
			return err
		}
	}
	wants := "etc/systemd/system/multi-user.target.wants"
	if err := b.makeDirs(wants); err != nil {
		return err
	}
	return os.Symlink("../registry.service", b.path("upper", wants, "registry.service"))
}
