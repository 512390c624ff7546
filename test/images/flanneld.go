// SPDX-License-Identifier: Apache-2.0

package images

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// flannel insists on the kernel module br_netfilter, which the tests do not
// need and a bed cannot load. Later releases miss a module on the Go proxy,
// earlier ones panic when they are stopped.
var flannel = GoModule{
	Module: "github.com/flannel-io/flannel@v0.26.7", Path: "usr/bin/flanneld",
	Edits: []Edit{{
		File: "main.go",
		Old:  "\tif runtime.GOOS != \"windows\" {\n\t\t// From Kubernetes 1.30 ",
		New:  "\tif runtime.GOOS == \"windows\" {\n\t\t// From Kubernetes 1.30 ",
	}},
}

// flanneldImages are flannel, built from its module. It shares the host's
// process and network namespaces, as its system container always did.
func flanneldImages() []Image {
	return []Image{{
		Repo: "library/flanneld", Tags: []string{"0.26", "latest"},
		Why: "ordered after etcd and before docker.service; asks for more than the default profile grants",
		Layers: []Layer{
			base(),
			{flannel},
			{Embedded("flanneld")},
		},
		Config: v1.Config{
			Cmd:    []string{"/usr/bin/run-flanneld"},
			Env:    []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"},
			Labels: labels("flanneld", "0.26.7", "1", "An etcd-driven address management agent for overlay networks"),
		},
	}}
}
