// SPDX-License-Identifier: Apache-2.0

package images

import (
	"fmt"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The Debian releases that payloads come from: stable, and the one after it
// for programs that shall be newer.
const (
	stable = "trixie"
	newer  = "forky"
	// older is the last one whose login and who know of utmp.
	older = "bookworm"
)

// Catalogue is every image there is.
func Catalogue() []Image {
	var list []Image
	list = append(list, etcdImages()...)
	list = append(list, flanneldImages()...)
	list = append(list, helloImages()...)
	list = append(list, contractImages()...)
	list = append(list, shapeImages()...)
	list = append(list, brokenImages()...)
	list = append(list, bigImages()...)
	return list
}

// Default is the catalogue without the images for benchmarks.
func Default() []Image {
	var list []Image
	for _, i := range Catalogue() {
		if !i.Bench {
			list = append(list, i)
		}
	}
	return list
}

// Select returns the images of the catalogue that the patterns (path.Match on
// "library/etcd:3.5" or on "etcd:3.5") name; every pattern must match.
func Select(patterns ...string) ([]Image, error) {
	var list []Image
	hit := make([]bool, len(patterns))
	for _, i := range Catalogue() {
		taken := false
		for n, pattern := range patterns {
			if i.matches(pattern) {
				hit[n], taken = true, true
			}
		}
		if taken {
			list = append(list, i)
		}
	}
	for n, ok := range hit {
		if !ok {
			return nil, fmt.Errorf("no image matches %q", patterns[n])
		}
	}
	return list, nil
}

func (i Image) matches(pattern string) bool {
	for _, tag := range i.Tags {
		full := i.Repo + ":" + tag
		for _, name := range []string{full, path.Base(i.Repo) + ":" + tag, i.Repo, path.Base(i.Repo)} {
			if ok, _ := path.Match(pattern, name); ok {
				return true
			}
		}
	}
	return false
}

// labels are those of a system container.
func labels(name, version, release, summary string) map[string]string {
	return map[string]string{
		"atomic.type": "system",
		"Name":        name, "Version": version, "Release": release,
		"summary": summary, "maintainer": "atomic tests",
	}
}

// applets are the busybox commands in the base layer.
var applets = strings.Fields(`[ awk basename cat chmod chown cp cut date dd df dirname du echo env
	false find grep head hostname httpd id kill ln ls mkdir mknod mktemp mount mv nc nproc od pidof ps pwd
	readlink rm rmdir sed sh sha256sum sleep sort stat sync tail test tee touch tr true tty uname uniq wc wget
	which whoami xargs yes`)

// base is a small root file system with a shell: what the payloads of all
// images stand on.
func base() Layer {
	root := Files{
		"bin":   symlink("usr/bin"),
		"sbin":  symlink("usr/sbin"),
		"lib":   symlink("usr/lib"),
		"lib64": symlink("usr/lib64"),
		"dev":   dir(0o755), "home": dir(0o755), "proc": dir(0o555), "run": dir(0o755), "sys": dir(0o555),
		"root": dir(0o700), "tmp": dir(0o1777), "usr/lib": dir(0o755), "usr/lib64": dir(0o755),
		"usr/sbin": dir(0o755), "var/lib": dir(0o755), "var/tmp": dir(0o1777), "var/run": symlink("../run"),
		"etc/passwd": text("root:x:0:0:root:/root:/bin/sh\n" +
			"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n" +
			"hello:x:1000:1000:hello:/home:/bin/sh\n"),
		"etc/group":         text("root:x:0:\ntty:x:5:\nnogroup:x:65534:\nhello:x:1000:\n"),
		"etc/hosts":         text("127.0.0.1 localhost\n::1 localhost\n"),
		"etc/nsswitch.conf": text("passwd: files\ngroup: files\nhosts: files dns\n"),
		"etc/os-release":    symlink("../usr/lib/os-release"),
		"usr/lib/os-release": text("NAME=\"atomic test image\"\nID=atomic-test\nID_LIKE=debian\n" +
			"VERSION_ID=13\nPRETTY_NAME=\"atomic test image (Debian 13)\"\n"),
		"etc/ssl/certs":             dir(0o755),
		"usr/share/ca-certificates": dir(0o755),
	}
	for _, a := range applets {
		root["usr/bin/"+a] = symlink("busybox")
	}
	return Layer{
		root,
		Debian{Suite: stable, Packages: []string{"busybox-static"}, Take: []string{"usr/bin/busybox"}},
	}
}

// etcdImages are etcd from Debian, as packaged for system containers.
func etcdImages() []Image {
	payload := func(suite string, more ...string) Layer {
		return Layer{
			Files{"var/lib/etcd": dir(0o700)},
			Debian{Suite: suite, Packages: []string{"etcd-server", "etcd-client"}, Take: append([]string{
				"usr/bin/etcd", "usr/bin/etcdctl",
				"usr/lib/*-linux-gnu*/libc.so.6", "usr/lib/*-linux-gnu*/ld-linux-*", "usr/lib*/ld-linux-*",
			}, more...)},
		}
	}
	config := func(version, release string) v1.Config {
		return v1.Config{
			Cmd:          []string{"/usr/bin/run-etcd"},
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"},
			ExposedPorts: map[string]struct{}{"2379/tcp": {}, "2380/tcp": {}},
			Labels:       labels("etcd", version, release, "A highly-available key value store for shared configuration"),
		}
	}
	return []Image{{
		Repo: "library/etcd", Tags: []string{"3.5", "latest"},
		Why:    "the main job: etcd of Debian " + stable + " with the whole /exports contract",
		Layers: []Layer{base(), payload(stable), {Embedded("etcd")}},
		Config: config("3.5", "1"),
	}, {
		Repo: "library/etcd", Tags: []string{"3.5-2"},
		Why:    "a second release for update and rollback: same program, changed wrapper, templates, defaults and host files",
		Layers: []Layer{base(), payload(stable, "usr/bin/etcdutl"), {Embedded("etcd"), Embedded("etcd-2")}},
		Config: config("3.5", "2"),
	}, {
		Repo: "library/etcd", Tags: []string{"next"},
		Why:    "a really newer etcd, that of Debian " + newer + ", packaged like 3.5-2",
		Layers: []Layer{base(), payload(newer, "usr/bin/etcdutl"), {Embedded("etcd"), Embedded("etcd-2")}},
		Config: config("next", "1"),
	}, {
		Repo: "library/etcd", Tags: []string{"bad"},
		Why:    "a release that exits with code 3 instead of serving: an update to it must be taken back",
		Layers: []Layer{base(), payload(stable), {Embedded("etcd"), Files{"usr/bin/run-etcd": program([]byte("#!/bin/sh\necho \"run-etcd: this release is bad\"\nexit 3\n"))}}},
		Config: config("3.5", "bad"),
	}, {
		Repo: "library/etcd", Tags: []string{"greedy"},
		Why:    "a release that asks for what the first did not: an update to it needs a grant",
		Layers: []Layer{base(), payload(stable), {Embedded("etcd"), Files{"exports/hostfs/etc/cron.d/etcd": text("# nothing yet\n")}}},
		Config: config("3.5", "greedy"),
	}}
}
