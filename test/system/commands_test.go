// SPDX-License-Identifier: Apache-2.0

package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/atomic-agent/atomic/test/bed"
)

// commands are described in README.md.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"host":          cmdHost,
	"host-tty":      cmdHostTTY,
	"dialogue":      cmdDialogue,
	"reboot":        onlyTrue("", (*state).reboot),
	"soft-reboot":   onlyTrue("", (*state).softReboot),
	"powercut":      onlyTrue("", (*state).powerCut),
	"put":           onlyTrue("FILE TARGET [MODE]", (*state).put),
	"get":           onlyTrue("SOURCE FILE", (*state).get),
	"wait-unit":     onlyTrue("UNIT STATE", (*state).waitUnit),
	"wait-journal":  onlyTrue("UNIT PATTERN", (*state).waitJournal),
	"snapshot":      onlyTrue("NAME", (*state).snapshot),
	"same-snapshot": onlyTrue("NAME", (*state).sameSnapshot),
	"upgrade":       onlyTrue("[VERSION]", (*state).upgrade),
	"tamper":        onlyTrue("FILE [OFFSET]", (*state).tamper),
}

func stateOf(ts *testscript.TestScript) *state {
	s, ok := ts.Value(stateKey{}).(*state)
	if !ok {
		ts.Fatalf("script has no bed")
	}
	return s
}

// onlyTrue makes a command of a method that cannot be negated.
func onlyTrue(usage string, run func(s *state, ts *testscript.TestScript, args []string) error) func(*testscript.TestScript, bool, []string) {
	required := strings.Fields(strings.SplitN(usage, "[", 2)[0])
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("this command cannot be negated")
		}
		if len(args) < len(required) || len(args) > len(strings.Fields(usage)) {
			ts.Fatalf("usage: %s", usage)
		}
		ts.Check(run(stateOf(ts), ts, args))
	}
}

// cmdHost runs a program in the bed, like exec.
func cmdHost(ts *testscript.TestScript, neg bool, args []string) { runHost(ts, neg, args, false) }

// cmdHostTTY does so on a terminal; all it prints is standard output.
func cmdHostTTY(ts *testscript.TestScript, neg bool, args []string) { runHost(ts, neg, args, true) }

func runHost(ts *testscript.TestScript, neg bool, args []string, tty bool) {
	want := -1 // with !, any code but 0
	if !neg {
		want = 0
	}
	if rest, ok := strings.CutPrefix(first(args), "-code="); ok {
		n, err := strconv.Atoi(rest)
		ts.Check(err)
		want, args = n, args[1:]
	}
	if len(args) == 0 {
		ts.Fatalf("usage: host [-code=N] PROGRAM [ARG...]")
	}
	s := stateOf(ts)
	if args[0] == "journalctl" {
		// What was logged before is to be in what it reads.
		_, err := s.bed.Run(s.ctx, "journalctl", "--sync")
		ts.Check(err)
	}
	run := s.run
	if tty {
		run = s.runTTY
	}
	code, err := run(ts, args)
	ts.Check(err)
	switch {
	case neg && code == 0:
		ts.Fatalf("unexpected success")
	case want >= 0 && code != want:
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

func (s *state) run(ts *testscript.TestScript, args []string) (int, error) {
	return s.bed.Exec(s.ctx, bed.Command{Args: args, Stdout: ts.Stdout(), Stderr: ts.Stderr()})
}

// runTTY gives the program a terminal at which nobody types anything, not even
// an end: script(1) would type a NUL, which is echoed between any two lines.
func (s *state) runTTY(ts *testscript.TestScript, args []string) (int, error) {
	master, slave, err := s.bed.Terminal()
	if err != nil {
		return -1, err
	}
	defer master.Close()
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		_, _ = io.Copy(ts.Stdout(), master) // ends when nobody has the terminal
	}()
	code, err := s.bed.Exec(s.ctx, bed.Command{Args: args, Env: []string{"TERM=dumb"}, Terminal: slave})
	_ = slave.Close()
	select {
	case <-heard:
	case <-s.ctx.Done():
		_ = master.Close()
		<-heard
		err = errors.Join(err, s.ctx.Err())
	}
	return code, err
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func (s *state) reboot(ts *testscript.TestScript, _ []string) error {
	start := time.Now()
	err := s.bed.Reboot(s.ctx)
	ts.Logf("rebooted in %.1f s", time.Since(start).Seconds())
	return err
}

func (s *state) softReboot(ts *testscript.TestScript, _ []string) error {
	start := time.Now()
	err := s.bed.SoftReboot(s.ctx)
	ts.Logf("rebooted softly in %.1f s", time.Since(start).Seconds())
	return err
}

func (s *state) powerCut(ts *testscript.TestScript, _ []string) error {
	start := time.Now()
	err := s.bed.PowerCut(s.ctx)
	ts.Logf("cut and booted in %.1f s", time.Since(start).Seconds())
	return err
}

func (s *state) put(ts *testscript.TestScript, args []string) error {
	mode := uint64(0o644)
	if len(args) > 2 {
		var err error
		if mode, err = strconv.ParseUint(args[2], 8, 12); err != nil {
			return err
		}
	}
	return s.bed.Write(s.ctx, args[1], os.FileMode(mode), strings.NewReader(ts.ReadFile(args[0])))
}

func (s *state) get(ts *testscript.TestScript, args []string) error {
	data, err := s.bed.CopyOut(s.ctx, args[0])
	if err != nil {
		return err
	}
	return os.WriteFile(ts.MkAbs(args[1]), data, 0o644)
}

func (s *state) waitUnit(_ *testscript.TestScript, args []string) error {
	return s.bed.WaitUnit(s.ctx, args[0], args[1])
}

func (s *state) waitJournal(_ *testscript.TestScript, args []string) error {
	return s.bed.WaitJournal(s.ctx, args[0], args[1])
}

func (s *state) snapshot(_ *testscript.TestScript, args []string) error {
	snap, err := s.bed.Snapshot(s.ctx)
	s.snapshots[args[0]] = snap
	return err
}

func (s *state) sameSnapshot(_ *testscript.TestScript, args []string) error {
	was, ok := s.snapshots[args[0]]
	if !ok {
		return fmt.Errorf("no snapshot %q", args[0])
	}
	ctx, cancel := context.WithTimeout(s.ctx, expectTimeout)
	defer cancel()
	for diff := ""; ; {
		is, err := s.bed.Snapshot(ctx)
		if err == nil {
			diff = was.Diff(is)
		}
		switch {
		case err == nil && diff == "":
			return nil
		case err != nil || !was.Late(is):
			return errors.Join(err, fmt.Errorf("the host is not as in snapshot %q:\n%s", args[0], diff))
		}
	}
}

func (s *state) tamper(_ *testscript.TestScript, args []string) error {
	offset := int64(-1)
	if len(args) > 1 {
		var err error
		if offset, err = strconv.ParseInt(args[1], 0, 64); err != nil {
			return err
		}
	}
	return s.bed.Tamper(s.ctx, args[0], offset)
}
