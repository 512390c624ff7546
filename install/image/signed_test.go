// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/signature/signer"
	"go.podman.io/image/v5/signature/sigstore"
	"go.podman.io/image/v5/types"

	"github.com/atomic-agent/atomic/install/image"
	"github.com/atomic-agent/atomic/install/trust"
)

// TestSigned pulls signed and unsigned images under a policy that wants
// signatures by one key.
func TestSigned(t *testing.T) {
	w := newWorld(t, false)
	w.write("etc/containers/registries.d/test.yaml", "docker:\n  "+w.addr()+":\n    use-sigstore-attachments: true\n")
	good, bad := w.key("good"), w.key("bad")
	w.policy(fmt.Sprintf(`{"default":[{"type":"reject"}],"transports":{"docker":{%q:[{"type":"sigstoreSigned","keyPath":%q,"signedIdentity":{"type":"matchRepository"}}]}}}`,
		w.addr(), good+".pub"))
	for _, tag := range []string{"good", "bad", "unsigned"} {
		w.push("etcd:"+tag, testImage(t, runtime.GOARCH))
	}
	w.sign("etcd:good", good)
	w.sign("etcd:bad", bad)

	got, _, err := w.pull("http:" + w.addr() + "/etcd:good")
	if err != nil {
		t.Fatal(err)
	}
	if got.Signature.Verdict != "sigstore" || len(got.Signature.Keys) != 1 || got.Signature.Keys[0] != good+".pub" {
		t.Errorf("verdict %+v", got.Signature)
	}
	for _, tag := range []string{"bad", "unsigned"} {
		_, dir, err := w.pull("http:" + w.addr() + "/etcd:" + tag)
		if !errors.Is(err, trust.ErrRejected) {
			t.Errorf("%s: error %v, want ErrRejected", tag, err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 0 {
			t.Errorf("%s: fetched %v before it was rejected", tag, entries)
		}
	}
}

// key makes a key pair and returns the path of the private one; the public one
// has ".pub" at its end.
func (w *world) key(name string) string {
	w.t.Helper()
	pair, err := sigstore.GenerateKeyPair([]byte("secret"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(filepath.Join("keys", name), string(pair.PrivateKey))
	w.write(filepath.Join("keys", name+".pub"), string(pair.PublicKey))
	return filepath.Join(w.root, "keys", name)
}

// sign attaches a signature to an image in the registry.
func (w *world) sign(repo, key string) {
	w.t.Helper()
	s, err := sigstore.NewSigner(sigstore.WithPrivateKeyFile(key, []byte("secret")))
	if err != nil {
		w.t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // it holds nothing
	ref, err := docker.ParseReference("//" + w.addr() + "/" + repo)
	if err != nil {
		w.t.Fatal(err)
	}
	accept, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.opts.Insecure = true
	sys, err := image.System(w.opts)
	if err != nil {
		w.t.Fatal(err)
	}
	sys.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	if _, err := copy.Image(w.t.Context(), accept, ref, ref, &copy.Options{SourceCtx: sys, DestinationCtx: sys, Signers: []*signer.Signer{s}}); err != nil {
		w.t.Fatal(err)
	}
}
