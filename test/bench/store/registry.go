// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	ocilayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/types"
)

// registry serves OCI layouts, each as a tag of the repository "big", on a port
// of the loopback interface, without TLS. It lives as long as the program.
func registry(ctx context.Context, layouts map[string]string) (addr string, err error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", func(http.ResponseWriter, *http.Request) {})
	blob := func(w http.ResponseWriter, r *http.Request, digest, media string) {
		hex, ok := strings.CutPrefix(digest, "sha256:")
		for _, dir := range layouts {
			path := filepath.Join(dir, "blobs/sha256", filepath.Base(hex))
			if _, err := os.Stat(path); ok && err == nil {
				w.Header().Set("Content-Type", media)
				w.Header().Set("Docker-Content-Digest", digest)
				http.ServeFile(w, r, path)
				return
			}
		}
		http.NotFound(w, r)
	}
	mux.HandleFunc("GET /v2/big/manifests/{ref}", func(w http.ResponseWriter, r *http.Request) {
		ref := r.PathValue("ref")
		if dir, ok := layouts[ref]; ok {
			index, err := readIndex(dir)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			ref = index.Digest
		}
		blob(w, r, ref, "application/vnd.oci.image.manifest.v1+json")
	})
	mux.HandleFunc("GET /v2/big/blobs/{digest}", func(w http.ResponseWriter, r *http.Request) {
		blob(w, r, r.PathValue("digest"), "application/octet-stream")
	})
	go func() { _ = http.Serve(l, mux) }() //nolint:gosec // until the program ends, for this machine only
	return l.Addr().String(), nil
}

// source returns the image that a contender's argument names: oci:DIRECTORY or
// docker://NAME.
func source(name string) (types.ImageReference, *types.SystemContext, error) {
	if dir, ok := strings.CutPrefix(name, "oci:"); ok {
		ref, err := ocilayout.NewReference(dir, "")
		return parallelLayout{ref}, nil, err
	}
	text, ok := strings.CutPrefix(name, "docker://")
	if !ok {
		return nil, nil, errors.New(name + " is neither oci: nor docker:")
	}
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return nil, nil, err
	}
	ref, err := docker.NewReference(named)
	return ref, &types.SystemContext{DockerInsecureSkipTLSVerify: types.OptionalBoolTrue}, err
}

// parallelLayout is an OCI layout with several blobs read at a time, as from a
// registry, which is all that the agent pulls from. That a layout's source does
// not do this is no property of the store.
type parallelLayout struct{ types.ImageReference }

func (r parallelLayout) NewImageSource(ctx context.Context, sys *types.SystemContext) (types.ImageSource, error) {
	s, err := r.ImageReference.NewImageSource(ctx, sys)
	return parallelSource{s}, err
}

type parallelSource struct{ types.ImageSource }

func (parallelSource) HasThreadSafeGetBlob() bool { return true }
