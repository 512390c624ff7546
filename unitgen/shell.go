// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	rspec "github.com/opencontainers/runtime-spec/specs-go"
)

// A shell that is process 1 ignores the signal that is to stop it, does not pass
// it on, and reaps no orphans but by chance. So an image without a configuration
// of its own whose entrypoint is one gets a process 1 before it, unless the shell
// may well make room for another program by exec.

// shells are the programs that are known to behave like that.
var shells = []string{"sh", "ash", "bash", "dash", "ksh", "mksh", "zsh", "busybox"}

// staysShell reports whether the payload is a shell and remains one, as far as
// the image tells.
func (r *renderer) staysShell(spec *rspec.Spec) bool {
	args := spec.Process.Args
	if slices.Contains(shells, path.Base(args[0])) {
		return r.runsScript(spec, args)
	}
	text := r.content(spec, args[0])
	return isShellScript(text) && !execs(text)
}

// runsScript is about the command line of a shell: sh -c TEXT, or sh FILE. A
// shell without either reads from its input.
func (r *renderer) runsScript(spec *rspec.Spec, args []string) bool {
	rest := args[1:]
	if path.Base(args[0]) == "busybox" {
		if len(rest) == 0 || !slices.Contains(shells, rest[0]) {
			return false
		}
		rest = rest[1:]
	}
	for i, a := range rest {
		switch {
		case !strings.HasPrefix(a, "-") || a == "-":
			text := r.content(spec, a)
			return text != "" && !execs(text)
		case strings.HasPrefix(a, "--") || strings.HasSuffix(a, "o"): // has a word of its own, perhaps
			return false
		case strings.Contains(a, "c"):
			return i+1 < len(rest) && strings.TrimSpace(rest[i+1]) != "" && !execs(rest[i+1])
		}
	}
	return false
}

// content is what a command names in the image, if that is small enough for a
// script.
func (r *renderer) content(spec *rspec.Spec, name string) string {
	name = r.program(name, spec.Process.Env)
	if !path.IsAbs(name) {
		name = path.Join(spec.Process.Cwd, name)
	}
	name = r.resolve(name)
	if e, ok := r.lookup(name); !ok || e.Mode&fs.ModeType != 0 || r.in.Exports.ReadFile == nil {
		return ""
	}
	content, err := r.in.Exports.ReadFile(name)
	if err != nil {
		return ""
	}
	return string(content)
}

// isShellScript reports whether a program's first line names a shell.
func isShellScript(text string) bool {
	line, _, _ := strings.Cut(text, "\n")
	line, ok := strings.CutPrefix(line, "#!")
	if !ok {
		return false
	}
	words := strings.Fields(line)
	if len(words) > 0 && path.Base(words[0]) == "env" {
		words = slices.DeleteFunc(words[1:], func(w string) bool { return strings.HasPrefix(w, "-") })
	}
	return len(words) > 0 && slices.Contains(shells, path.Base(words[0]))
}

// execWord is "exec" where a command may begin, and the word behind it.
var execWord = regexp.MustCompile(`(?m)(?:^|[;&|(){}!]|\b(?:then|do|else)\b)[ \t]*exec[ \t]+(\S+)`)

// redirection is a word that makes of exec a change of the shell's own files.
var redirection = regexp.MustCompile(`^([0-9]*[<>]|&>|\{\w+\}[<>])`)

// execs reports whether a script replaces the shell by another program
// somewhere. A text in quotes may be taken for a command; then the shell has no
// process before it, as ever.
func execs(text string) bool {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, m := range execWord.FindAllStringSubmatch(line, -1) {
			if !redirection.MatchString(m[1]) {
				return true
			}
		}
	}
	return false
}
