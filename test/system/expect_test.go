// SPDX-License-Identifier: Apache-2.0

package system

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/test/bed"
)

// expectTimeout is how long a dialogue waits for what it expects. A program
// that does not say it is stuck; nothing is measured.
const expectTimeout = 30 * time.Second

// dialogue is somebody at a terminal.
type dialogue struct {
	master *os.File
	mu     sync.Mutex
	said   bytes.Buffer // by the program
	seen   int          // how much of it was expected already
	more   chan struct{}
	done   chan struct{} // closed when the program has ended
	code   int
	err    error
}

// cmdDialogue runs a program in the bed on a terminal and talks to it as a file
// of the script says. See README.md.
func cmdDialogue(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: dialogue FILE PROGRAM [ARG...]")
	}
	s := stateOf(ts)
	master, slave, err := s.bed.Terminal()
	ts.Check(err)
	d := &dialogue{master: master, more: make(chan struct{}, 1), done: make(chan struct{})}
	defer master.Close()
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		d.listen()
	}()
	go func() {
		defer close(d.done)
		d.code, d.err = s.bed.Exec(s.ctx, bed.Command{Args: args[1:], Env: []string{"TERM=xterm"}, Terminal: slave})
		_ = slave.Close()
		<-heard // the last words, too
	}()
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := d.step(line); err != nil {
			d.mu.Lock()
			_, _ = ts.Stdout().Write(d.said.Bytes())
			d.mu.Unlock()
			ts.Fatalf("%s: %s: %v", args[0], line, err)
		}
	}
	_ = master.Close()
	<-d.done
	ts.Check(d.err)
	_, _ = ts.Stdout().Write(d.said.Bytes())
}

func (d *dialogue) listen() {
	buf := make([]byte, 4096)
	for {
		n, err := d.master.Read(buf)
		if err != nil {
			return
		}
		d.mu.Lock()
		d.said.Write(buf[:n])
		d.mu.Unlock()
		select {
		case d.more <- struct{}{}:
		default:
		}
	}
}

func (d *dialogue) step(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "expect":
		return d.expect(rest)
	case "type":
		text, err := strconv.Unquote(`"` + rest + `"`)
		if err != nil {
			return err
		}
		_, err = d.master.WriteString(text)
		return err
	case "resize":
		var size unix.Winsize
		if _, err := fmt.Sscan(rest, &size.Row, &size.Col); err != nil {
			return err
		}
		return control(d.master, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &size) })
	case "hangup":
		return d.master.Close()
	case "end":
		select {
		case <-d.done:
		case <-time.After(expectTimeout):
			return errors.New("the program does not end")
		}
		if rest != "" && strconv.Itoa(d.code) != rest {
			return fmt.Errorf("exit code %d", d.code)
		}
		return d.err
	}
	return errors.New("unknown step")
}

// expect waits until the program has said something that matches, after what
// was expected before.
func (d *dialogue) expect(pattern string) error {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	timeout := time.After(expectTimeout)
	for ended := false; ; {
		d.mu.Lock()
		text := d.said.Bytes()[d.seen:]
		found := re.FindIndex(text)
		if found != nil {
			d.seen += found[1]
		}
		d.mu.Unlock()
		switch {
		case found != nil:
			return nil
		case ended:
			return fmt.Errorf("the program has ended, and said last: %q", text)
		}
		select {
		case <-d.more:
		case <-d.done:
			ended = true
		case <-timeout:
			return fmt.Errorf("not said; it said last: %q", text)
		}
	}
}

// control works on a descriptor without making it block: closing a terminal
// has to end those who read from it.
func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) { failed = do(int(fd)) })
	return errors.Join(err, failed)
}
