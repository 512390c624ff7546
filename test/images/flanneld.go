// SPDX-License-Identifier: Apache-2.0

package images

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// flannelModule is the last release that does not insist on the kernel module
// br_netfilter, which nobody can load from inside a bed.
const flannelModule = "github.com/flannel-io/flannel@v0.25.7"

// flanneldImages are flannel, built from its module. It shares the host's
// process and network namespaces, as its system container always did.
func flanneldImages() []Image {
	return []Image{{
		Repo: "library/flanneld", Tags: []string{"0.25", "latest"},
		Why: "ordered after etcd and before docker.service; asks for more than the default profile grants",
		Layers: []Layer{
			base(),
			{GoInstall{Package: flannelModule, Path: "usr/bin/flanneld"}},
			{Embedded("flanneld")},
		},
		Config: v1.Config{
			Cmd:    []string{"/usr/bin/run-flanneld"},
			Env:    []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"},
			Labels: labels("flanneld", "0.25.7", "1", "An etcd-driven address management agent for overlay networks"),
		},
	}}
}
