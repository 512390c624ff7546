// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"runtime"
)

// literal are archive entries with exactly these names, whatever they are:
// nothing is cleaned, and no directory is added.
type literal tree

func (s literal) key() string { return "literal:" + tree(s).key() }

func (s literal) add(_ context.Context, _ *Builder, t tree) error {
	for name, f := range s {
		t[name] = f
	}
	return nil
}

// hello returns the notify image under another name with layers on top.
func helloPlus(repo, tag, why string, top ...Layer) Image {
	return Image{
		Repo: repo, Tags: []string{tag}, Why: why,
		Layers: append([]Layer{base(), {Hello{Arch: runtime.GOARCH}}, {Embedded("hello")}}, top...),
		Config: helloConfig(tag),
	}
}

// noise is a file of a few megabytes that do not compress.
func noise(seed string) Files {
	data := make([]byte, 0, 4<<20)
	for sum := sha256.Sum256([]byte(seed)); len(data) < cap(data); sum = sha256.Sum256(sum[:]) {
		data = append(data, sum[:]...)
	}
	return Files{"noise": {typ: tar.TypeReg, mode: 0o644, data: data}}
}

// brokenImages must all be refused, with one clear error and the host as it was.
func brokenImages() []Image {
	var list []Image
	for _, d := range []struct {
		damage Damage
		why    string
	}{
		{WrongBytes, "the registry serves a layer whose digest is wrong"},
		{Truncated, "the registry serves half of a layer"},
		{Missing, "the registry lacks a layer"},
	} {
		i := helloPlus("library/broken", string(d.damage), d.why, Layer{noise(string(d.damage))})
		i.Damage = d.damage
		list = append(list, i)
	}
	for _, c := range []struct{ tag, why, file, content string }{
		{"variable", "service.template names a variable that has no value", "exports/service.template", "[Service]\nExecStart=$EXEC_START --port=$$NOPE $NOPE\n"},
		{"placeholder", "service.template has a lone dollar sign", "exports/service.template", "[Service]\nExecStart=$EXEC_START\nExecReload=/bin/kill -HUP $(MAINPID)\n"},
		{"unit", "service.template is not a unit", "exports/service.template", "[Service]\nExecStart=$EXEC_START\nType=nonsense\nRestart=perhaps\n"},
		{"json", "config.json.template does not become JSON", "exports/config.json.template", "{\"root\": {\"path\": \"rootfs\", \"readonly\": true,}}\n"},
		{"writable", "config.json.template wants a writable root file system", "exports/config.json.template", "{\"ociVersion\": \"1.0.0\", \"process\": {\"args\": [\"/usr/bin/hello\"], \"cwd\": \"/\"}, \"root\": {\"path\": \"rootfs\", \"readonly\": false}}\n"},
		{"manifest", "manifest.json is not JSON", "exports/manifest.json", "{\"defaultValues\": {\n"},
	} {
		list = append(list, helloPlus("library/broken", c.tag, c.why, Layer{Files{c.file: text(c.content)}}))
	}
	return append(list, evilImages()...)
}

// evilImages try to reach out of their root file system while they are
// unpacked or installed. The place they aim at, /tmp/evil, must not appear.
func evilImages() []Image {
	evil := func(tag, why string, entries literal) Image {
		return helloPlus("library/evil", tag, why, Layer{entries})
	}
	return []Image{
		evil("dotdot", "a layer with ../ in a name", literal{"../../../../../../../../tmp/evil": text("x")}),
		evil("absolute", "a layer with an absolute name: lands inside the root file system", literal{"/tmp/evil": text("x")}),
		evil("symlink", "a layer that writes through its own symlink", literal{
			"aaa": symlink("/tmp"), "aaa/evil": text("x"),
		}),
		helloPlus("library/evil", "dirlink", "a layer that writes through a symlink of a lower layer",
			Layer{literal{"aaa": symlink("/tmp"), "bbb": symlink("../../../../../tmp")}},
			Layer{literal{"aaa/evil": text("x"), "bbb/evil": text("x")}}),
		evil("hardlink", "a layer with a hard link to a file of the host", literal{
			"passwd": {typ: tar.TypeLink, mode: 0o644, link: "../../../../../../etc/passwd"},
		}),
		evil("device", "a layer with a device node", literal{
			"disk": {typ: tar.TypeBlock, mode: 0o666},
		}),
		evil("whiteout", "a whiteout that leads out of the root file system", literal{
			"../.wh.etc": text(""), ".wh...": text(""),
		}),
		evil("setuid", "a host file with the setuid bit, owned by somebody else", literal{
			"exports/hostfs/usr/local/bin/evil": {typ: tar.TypeReg, mode: 0o4755, uid: 33, gid: 33, data: []byte("#!/bin/sh\nid\n")},
		}),
		evil("hostfs", "host files that the default profile does not grant, one of them there already", literal{
			"exports/hostfs/etc/passwd":           text("evil:x:0:0::/:/bin/sh\n"),
			"exports/hostfs/etc/cron.d/evil":      text("* * * * * root touch /tmp/evil\n"),
			"exports/hostfs/etc/ld.so.preload":    text("/tmp/evil.so\n"),
			"exports/hostfs/usr/local/lib/escape": symlink("/etc"),
		}),
		evil("rename", "a manifest that renames a host file to somewhere else", literal{
			"exports/hostfs/etc/evil/evil": text("x"),
			"exports/manifest.json": text(`{"defaultValues": {"LISTEN": "127.0.0.1:8080", "FLAGS": "", "ADDTL_MOUNTS": ""},
 "renameFiles": {"/etc/evil/evil": "/etc/evil/../../tmp/evil"}}` + "\n"),
		}),
		evil("unit", "a template that runs a command on the host", literal{
			"exports/service.template": text("[Service]\nType=notify\nExecStartPre=+/bin/touch /tmp/evil\nExecStart=$EXEC_START\n"),
		}),
		evil("tmpfiles", "a tmpfiles.d template that writes outside of its own directories", literal{
			"exports/tmpfiles.template": text("f+ /tmp/evil 0644 0 0 - x\nL+ /etc/evil - - - - /etc/shadow\n"),
		}),
	}
}
