// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"errors"
	"io/fs"
	"testing"

	rspec "github.com/opencontainers/runtime-spec/specs-go"
)

func TestStaysShell(t *testing.T) {
	image := map[string]string{
		"/entry.sh":         "#!/bin/sh\nset -e\nserver &\nwait\n",
		"/last.sh":          "#!/bin/sh\nset -e\nexec \"$@\"\n",
		"/branch.sh":        "#!/bin/bash -e\nif [ $1 = a ]; then exec a; fi\nb\n",
		"/files.sh":         "#! /usr/bin/env -S bash -e\nexec 3>&1 >log\nexec {fd}<x\nserver\n",
		"/comment.sh":       "#!/bin/sh\n# then exec server\nserver\n",
		"/word.sh":          "#!/bin/sh\nfind / -exec ls ';'\nexecute\n",
		"/quoted.sh":        "#!/bin/sh\necho 'a;exec b'\n",
		"/python":           "#!/usr/bin/python3\nprint()\n",
		"/binary":           "\x7fELF#!/bin/sh\n",
		"/usr/local/bin/go": "#!/bin/dash\nserver\n",
		"/srv/run":          "#!/bin/ksh\nserver\n",
		"/bin/busybox":      "\x7fELF",
	}
	links := map[string]string{"/link": "entry.sh", "/bin/sh": "busybox", "/bin/wget": "busybox", "/loop": "loop"}
	for name, tt := range map[string]struct {
		args []string
		want bool
	}{
		"a script":                    {[]string{"/entry.sh", "a"}, true},
		"by a link":                   {[]string{"/link"}, true},
		"by PATH":                     {[]string{"go"}, true},
		"by the working directory":    {[]string{"./run"}, true},
		"exec at the end":             {[]string{"/last.sh"}, false},
		"exec in between":             {[]string{"/branch.sh"}, false},
		"exec of files":               {[]string{"/files.sh"}, true},
		"exec in a comment":           {[]string{"/comment.sh"}, true},
		"other words":                 {[]string{"/word.sh"}, true},
		"what looks like exec":        {[]string{"/quoted.sh"}, false},
		"another interpreter":         {[]string{"/python"}, false},
		"a program":                   {[]string{"/binary"}, false},
		"another name of the shell's": {[]string{"/bin/wget", "-c", "x"}, false},
		"nothing there":               {[]string{"/none"}, false},
		"nothing in PATH":             {[]string{"none"}, false},
		"a loop":                      {[]string{"/loop"}, false},
		"sh -c":                       {[]string{"/bin/sh", "-c", "a; b"}, true},
		"sh -ec":                      {[]string{"bash", "-e", "-uc", "server"}, true},
		"sh -c exec":                  {[]string{"sh", "-c", "exec server"}, false},
		"sh -c, exec at the end":      {[]string{"sh", "-c", "cd /x && exec server"}, false},
		"sh -c in lines":              {[]string{"sh", "-c", "a\n  exec b"}, false},
		"sh -c nothing":               {[]string{"sh", "-c", " "}, false},
		"sh -c without a text":        {[]string{"sh", "-c"}, false},
		"sh with a file":              {[]string{"sh", "-e", "/entry.sh"}, true},
		"sh with a file that execs":   {[]string{"sh", "/last.sh"}, false},
		"sh with an option's word":    {[]string{"bash", "-o", "pipefail", "-c", "a"}, false},
		"a shell":                     {[]string{"bash"}, false},
		"a login shell":               {[]string{"bash", "--login"}, false},
		"busybox sh -c":               {[]string{"busybox", "sh", "-c", "a"}, true},
		"busybox":                     {[]string{"busybox", "httpd"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var r renderer
			r.in.Exports.Lookup = func(p string) (Entry, bool) {
				if target, ok := links[p]; ok {
					return Entry{Mode: fs.ModeSymlink, Target: target}, true
				}
				_, ok := image[p]
				return Entry{Mode: 0o755}, ok
			}
			r.in.Exports.ReadFile = func(p string) ([]byte, error) {
				if text, ok := image[p]; ok {
					return []byte(text), nil
				}
				return nil, errors.New("none")
			}
			spec := &rspec.Spec{Process: &rspec.Process{Args: tt.args, Cwd: "/srv", Env: []string{"PATH=/bin:/usr/local/bin"}}}
			if got := r.staysShell(spec); got != tt.want {
				t.Errorf("got %t", got)
			}
		})
	}
}
