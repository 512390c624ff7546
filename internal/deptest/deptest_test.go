// SPDX-License-Identifier: Apache-2.0

package deptest

import (
	"bufio"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/atomic-agent/atomic"

// rule forbids packages that match from to depend, directly or not, on
// packages that match deny. A pattern that ends in "/..." matches the tree.
type rule struct {
	from, deny, reason string
}

// direct before a pattern restricts a rule to what the package itself imports.
const direct = "import:"

var rules = []rule{
	{"unitgen", "os/exec", "unitgen is pure: it renders text and runs nothing"},
	{"unitgen", module + "/install/...", "unitgen is pure: install calls it, not the other way round"},
	{"unitgen", direct + "golang.org/x/sys/unix", "unitgen is pure: it makes no system calls"}, // the default seccomp profile's package needs its constants
	{"agent/atomic-launch", "github.com/spf13/cobra", "the start path stays small: every megabyte costs time at each start"},
	{"agent/atomic-launch", "go.podman.io/image/v5/...", "the start path never fetches anything"},
	{"agent/atomic-launch", "net/http", "the start path never talks to the network"},
	{"agent/atomic-launch", module + "/unitgen", "install has decided everything before the first start"},
	{"unitgen/plan", "golang.org/x/sys/unix", "unitgen is pure: it makes no system calls"},
	{"agent/launch/setup", "github.com/opencontainers/runc/...", "the fast engine stands on its own"},
	{"agent/launch/setup", "net", "every package that init links costs time at each start"},
	{"agent/launch", module + "/agent/cli", "the launcher must not depend on the command line"},
	{"install/...", module + "/agent/...", "dependencies point from agent to install"},
	{"install/store/...", module + "/unitgen", "the store does not know what a container is"},
	{"install/store/...", module + "/install/record", "the store does not know what a container is"},
	{"install/record", module + "/...", "the launcher reads records at every start: standard library only"},
	{"machined", module + "/install/...", "dependencies point from install to machined"},
	{"tpm/...", module + "/install/...", "dependencies point from install to tpm"},
	{"tpm/eventlog", "github.com/google/go-tpm/...", "the event log is read where there is no TPM"},
	{"tpm/verify", "github.com/google/go-tpm/tpm2/transport/linuxtpm", "evidence is verified where there is no TPM"},
	{"tpm/verify", module + "/tpm", "evidence is verified where there is no TPM"},
	{"tpm/statement", "github.com/google/go-tpm/...", "statements are read where there is no TPM"},
	{"internal/...", module + "/install/...", "internal packages are leaves"},
	{"internal/...", module + "/agent/...", "internal packages are leaves"},
}

type listed struct {
	ImportPath string
	Dir        string
	Name       string
	Doc        string
	Standard   bool
	Deps       []string
	Imports    []string
	GoFiles    []string
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Name,Doc,Standard,Deps,Imports,GoFiles",
		"-tags", "containers_image_openpgp,seccomp,netgo,osusergo", module+"/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	var pkgs []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("decode go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}

func match(pattern, pkg string) bool {
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == tree || strings.HasPrefix(pkg, tree+"/")
	}
	return pkg == pattern
}

func TestDependencies(t *testing.T) {
	for _, p := range list(t) {
		for _, r := range rules {
			if !match(module+"/"+r.from, p.ImportPath) {
				continue
			}
			deny, deps := r.deny, p.Deps
			if own, ok := strings.CutPrefix(deny, direct); ok {
				deny, deps = own, p.Imports
			}
			for _, dep := range deps {
				if match(deny, dep) && dep != p.ImportPath && !within(r, dep) {
					t.Errorf("%s depends on %s: %s", strings.TrimPrefix(p.ImportPath, module+"/"), dep, r.reason)
				}
			}
		}
	}
}

// TestStarterIsSmall holds atomic-start, which is built without cgo, to what
// makes it fast: every package it links is initialised at each start.
func TestStarterIsSmall(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", "starter", module+"/agent/atomic-start")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for _, deny := range []string{"github.com/opencontainers/runc/...", "github.com/sirupsen/...", "github.com/spf13/...", "go.podman.io/...", "net/http", "github.com/google/...", "regexp"} {
			if match(deny, dep) {
				t.Errorf("atomic-start depends on %s", dep)
			}
		}
	}
}

// within reports that a dependency lies inside the rule's own subject, which
// a rule about the whole module never means.
func within(r rule, dep string) bool { return match(module+"/"+r.from, dep) }

func TestEveryPackageHasAContract(t *testing.T) {
	for _, p := range list(t) {
		if len(p.GoFiles) > 0 && strings.TrimSpace(p.Doc) == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// TestSources holds every file to the house rules that no linter checks.
func TestSources(t *testing.T) {
	const maxLines = 500
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "bin" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		checkSource(t, path, maxLines)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkSource(t *testing.T, path string, maxLines int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, first := 0, ""
	for s := bufio.NewScanner(f); s.Scan(); lines++ {
		if lines == 0 {
			first = s.Text()
		}
	}
	if first != "// SPDX-License-Identifier: Apache-2.0" {
		t.Errorf("%s: first line is not the licence identifier", path)
	}
	if lines > maxLines {
		t.Errorf("%s: %d lines, more than %d", path, lines, maxLines)
	}
	if _, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly); err != nil {
		t.Errorf("%s: %v", path, err)
	}
}
