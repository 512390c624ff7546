// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"testing"

	"github.com/atomic-agent/atomic/install/image"
)

func TestParseName(t *testing.T) {
	tests := []struct {
		in, text  string
		insecure  bool
		container string
	}{
		{"etcd", "etcd", false, "etcd"},
		{"etcd:latest", "etcd:latest", false, "etcd"},
		{"registry.test:5000/library/etcd:3.5", "registry.test:5000/library/etcd:3.5", false, "etcd-3.5"},
		{"oci:r.test/etcd", "r.test/etcd", false, "etcd"},
		{"docker://r.test/etcd", "r.test/etcd", false, "etcd"},
		{"http:r.test:5000/etcd", "r.test:5000/etcd", true, "etcd"},
		{"http://r.test:5000/etcd", "r.test:5000/etcd", true, "etcd"},
		{"https:r.test/etcd", "r.test/etcd", false, "etcd"},
		{
			"r.test/etcd@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
			"r.test/etcd@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false, "etcd",
		},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			n, err := image.ParseName(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if n.Text != tt.text || n.Insecure != tt.insecure {
				t.Errorf("parsed as %+v", n)
			}
			if c, err := n.ContainerName(); c != tt.container || err != nil {
				t.Errorf("container %q, %v; want %q", c, err, tt.container)
			}
		})
	}
	for _, bad := range []string{"", "http:", "UPPER case", "docker:x:y", "dockertar:/x.tar", "../etcd", "a b"} {
		if n, err := image.ParseName(bad); err == nil {
			t.Errorf("%q: accepted as %+v", bad, n)
		}
	}
}
