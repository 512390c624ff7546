// SPDX-License-Identifier: Apache-2.0

package system

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/atomic-agent/atomic/test/bed"
	"github.com/atomic-agent/atomic/test/images"
)

// life is the context of everything the tests do: it ends at a signal, so that
// an interrupted run removes its beds.
func life(t *testing.T) context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	t.Cleanup(stop)
	if deadline, ok := t.Deadline(); ok {
		// Leave time to collect journals and to close the beds.
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-30*time.Second))
		t.Cleanup(cancel)
	}
	return ctx
}

func TestScripts(t *testing.T) {
	if os.Geteuid() != 0 {
		skipGroup(t)
	}
	if testing.Short() {
		t.Skip("system tests are not short")
	}
	scripts, err := filepath.Glob("*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	bySuite := map[string][]string{}
	headers := map[string]header{}
	for _, name := range scripts {
		h, err := readHeader(name)
		if err != nil {
			t.Fatal(err)
		}
		headers[stem(name)] = h
		if h.bench {
			h.suites = peerSuites()
		}
		for _, suite := range h.suites {
			bySuite[suite] = append(bySuite[suite], name)
		}
		for _, engine := range h.engines {
			suites := []string{"trixie"}
			if engines[engine].bench {
				suites = peerSuites()
			}
			for _, suite := range suites {
				bySuite[suite+"-"+engine] = append(bySuite[suite+"-"+engine], name)
			}
		}
	}
	ctx := life(t)
	storage, err := testImages(ctx, t)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeNext(); err != nil {
			t.Error(err)
		}
	})
	t.Run("on", func(t *testing.T) { // ends when the parallel scripts have
		for _, suite := range slices.Sorted(maps.Keys(bySuite)) {
			// The longest first, so that the last does not run alone.
			slices.SortStableFunc(bySuite[suite], func(a, b string) int {
				return cmp.Compare(headers[stem(b)].timeout, headers[stem(a)].timeout)
			})
			t.Run(suite, func(t *testing.T) {
				t.Parallel()
				h := harness{ctx: ctx, storage: storage, headers: headers}
				h.suite, h.engine, _ = strings.Cut(suite, "-")
				testscript.Run(t, testscript.Params{
					Files:              bySuite[suite],
					Setup:              h.setup,
					Cmds:               commands,
					Condition:          h.condition,
					RequireUniqueNames: true,
					// testscript leaves its own directory behind if -run skips a script.
					WorkdirRoot: t.TempDir(),
				})
			})
		}
	})
}

// engines are the other ways to start containers, with which scripts run once
// more: what atomic.conf says then, and whether they come with the peers.
var engines = map[string]struct {
	conf  string
	bench bool
}{
	"oci":  {"[Launch]\nEngine=oci\n", false},
	"crun": {"[Launch]\nRuntime=/usr/bin/crun\n", true},
	"runc": {"[Launch]\nRuntime=/usr/bin/runc\n", true},
}

// peerSuites are the suites of which there is a bed with the peers: one, as each
// takes time and room.
func peerSuites() []string {
	return strings.Fields(cmp.Or(os.Getenv("ATOMIC_TEST_PEERS"), "forky"))
}

// stem is a script's name without its extension.
func stem(file string) string { return strings.TrimSuffix(file, ".txtar") }

// skipGroup skips a whole group of tests, which is a failure in CI.
func skipGroup(t *testing.T) {
	t.Helper()
	const reason = "system tests boot beds, which needs root"
	if os.Getenv("CI") == "true" || os.Getenv("ATOMIC_CI") == "1" {
		t.Fatalf("must not be skipped here: %s", reason)
	}
	t.Skip(reason)
}

func testImages(ctx context.Context, t *testing.T) (string, error) {
	b, err := images.NewBuilder(os.Stderr)
	if err != nil {
		return "", err
	}
	start := time.Now()
	dir, err := b.Storage(ctx, images.Default())
	t.Logf("test images: %s (%.1f s)", dir, time.Since(start).Seconds())
	return dir, err
}

// harness gives each script its bed.
type harness struct {
	ctx     context.Context // testscript's callbacks take none
	suite   string
	engine  string // how containers are started, "" for the default
	storage string
	headers map[string]header
}

// counts are how often scripts do something at random or measure; the
// environment variable ATOMIC_TEST_NAME has another number.
var counts = map[string]string{"KILLS": "15", "GAPS": "5"}

// condition makes [SUITE] true on that suite.
func (h harness) condition(name string) (bool, error) {
	if !slices.Contains(bed.Suites, name) {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	return name == h.suite, nil
}

// state is what a script's commands work with.
type state struct {
	ctx       context.Context // testscript's callbacks take none
	bed       *bed.Bed
	snapshots map[string]bed.Snapshot
}

type stateKey struct{}

func (h harness) setup(env *testscript.Env) error {
	head := h.headers[scriptName(env)]
	ctx, cancel := context.WithTimeout(h.ctx, head.timeout)
	env.Defer(cancel)
	opts := bed.Options{Suite: h.suite}
	if !head.plain {
		opts.Product, opts.TPM, opts.Registry = true, true, h.storage
	}
	if head.bench || engines[h.engine].bench {
		opts.Variant = bed.Bench
	}
	b, err := bed.Boot(ctx, opts)
	if err != nil {
		return err
	}
	if h.engine != "" {
		conf := strings.NewReader(engines[h.engine].conf)
		if err := b.Write(ctx, "/etc/atomic/atomic.conf.d/engine.conf", 0o644, conf); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	s := &state{ctx: ctx, bed: b, snapshots: map[string]bed.Snapshot{}}
	env.Values[stateKey{}] = s
	env.Setenv("SUITE", h.suite)
	env.Setenv("LOOPS", cmp.Or(os.Getenv("ATOMIC_TEST_LOOPS"), "40"))
	env.Setenv("SYSTEMD", bed.SystemdVersion(h.suite))
	env.Setenv("BED", b.Name())
	// Loops are short in CI; ATOMIC_TEST_FULL=1 makes them as long as promised.
	sessions, crashes := "25", "50"
	if os.Getenv("ATOMIC_TEST_FULL") == "1" {
		sessions, crashes = "100", "300"
	}
	env.Setenv("SESSIONS", sessions)
	env.Setenv("CRASHES", crashes)
	for name, byDefault := range counts {
		env.Setenv(name, cmp.Or(os.Getenv("ATOMIC_TEST_"+name), byDefault))
	}
	env.Defer(func() {
		if f, ok := env.T().(interface{ Failed() bool }); ok && f.Failed() {
			collect(env.T(), b, h.suite+"-"+scriptName(env))
		}
		if err := b.Close(); err != nil {
			env.T().Log(fmt.Sprintf("close bed: %v", err))
		}
	})
	return nil
}

// scriptName is the script's name: testscript names its directory after it.
func scriptName(env *testscript.Env) string {
	return strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
}

// collect saves what helps to understand a failure and prints its end.
func collect(t testscript.T, b *bed.Bed, name string) {
	// The script's own time may be over.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	top := os.Getenv("ATOMIC_TEST_ARTIFACTS")
	if top == "" {
		top = filepath.Join(os.TempDir(), "atomic-test-artifacts")
	}
	dir := filepath.Join(top, name)
	journal, err := b.Collect(ctx, dir)
	if err != nil {
		t.Log(fmt.Sprintf("collect artifacts: %v", err))
	}
	t.Log(fmt.Sprintf("journal, console and cores are in %s; the journal ends:\n%s", dir, tail(journal, 40)))
}

// tail returns the last n lines of a text, each cut to a readable length.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	lines = lines[max(0, len(lines)-n):]
	for i, line := range lines {
		if len(line) > 240 {
			lines[i] = line[:240] + "…"
		}
	}
	return strings.Join(lines, "\n")
}

// header is what the comments at the top of a script ask for.
type header struct {
	suites  []string
	engines []string // with which the script runs once more
	plain   bool     // no atomic, TPM or registry
	bench   bool     // with the peers
	timeout time.Duration
}

func readHeader(name string) (header, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return header{}, err
	}
	h, err := parseHeader(string(text))
	if err != nil {
		return h, fmt.Errorf("%s: %w", name, err)
	}
	return h, nil
}

func parseHeader(text string) (header, error) {
	h := header{suites: []string{"trixie"}, timeout: 4 * time.Minute}
	for line := range strings.Lines(text) {
		comment, ok := strings.CutPrefix(line, "#")
		if !ok {
			break
		}
		key, value, ok := strings.Cut(strings.TrimSpace(comment), ":")
		if !ok {
			continue
		}
		fields := strings.Fields(value)
		var err error
		switch key {
		case "suites":
			h.suites = fields
			if slices.Equal(fields, []string{"all"}) {
				h.suites = bed.Suites
			}
			err = checkSuites(h.suites)
		case "engines":
			for _, engine := range fields {
				if engines[engine].conf == "" {
					err = fmt.Errorf("unknown engine %q", engine)
				}
			}
			h.engines = fields
		case "bed":
			h.plain = slices.Contains(fields, "plain")
			h.bench = slices.Contains(fields, "bench")
		case "timeout":
			h.timeout, err = time.ParseDuration(strings.TrimSpace(value))
		}
		if err != nil {
			return h, fmt.Errorf("header %q: %w", key, err)
		}
	}
	return h, nil
}

func checkSuites(suites []string) error {
	if len(suites) == 0 {
		return errors.New("no suites")
	}
	for _, s := range suites {
		if !slices.Contains(bed.Suites, s) {
			return fmt.Errorf("unknown suite %q", s)
		}
	}
	return nil
}
