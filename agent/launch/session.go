// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/machined/login"
	"github.com/atomic-agent/atomic/machined/utmp"
)

// sessions starts sessions in one container for machinectl. A session is like a
// command of atomic exec, except that its terminal comes from machined and that
// nobody waits for it: it is a process in the payload's own cgroup, and of
// ours nothing stays.
type sessions struct {
	*joined
	name string
	log  *slog.Logger
	// here is the session in the container's utmp, once there is one.
	here *presence
}

var _ login.Sessions = (*sessions)(nil)

// Shell runs the command that machinectl shell asks for.
func (s *sessions) Shell(ctx context.Context, sh login.Shell) error {
	if !s.root.isProgram(sh.Path) {
		return s.noProgram(sh.Path)
	}
	cmd := command{
		args: append([]string{sh.Path}, sh.Args...),
		user: sh.User, login: true, env: sh.Env,
	}
	if cmd.user == "" {
		cmd.user = "root"
	}
	if sh.Dir != "~" {
		cmd.dir = sh.Dir
	}
	for _, f := range []*os.File{sh.Stdin, sh.Stdout, sh.Stderr} {
		if err := checkTerminal(f); err != nil {
			return err
		}
	}
	s.here = s.present(sh.Terminal, utmp.Record{Type: utmp.User, User: cmd.user})
	return s.start(ctx, cmd, sh.Stdin, sh.Stdout, sh.Stderr)
}

// shells are where a shell may be.
var shells = []string{"/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash", "/bin/busybox", "/busybox/sh"}

// noProgram explains why a session cannot be started. machinectl shows it.
func (s *sessions) noProgram(program string) error {
	if s.root.firstProgram(shells...) == "" {
		return fmt.Errorf("container %s has no shell, not even %s. Run one of its own programs: "+
			"machinectl shell %s /PROGRAM, or atomic exec -t %s PROGRAM", s.name, program, s.name, s.name)
	}
	return fmt.Errorf("container %s has no program %s", s.name, program)
}

// Login runs the image's own login on a terminal, or a shell as root.
func (s *sessions) Login(ctx context.Context, terminal string) error {
	sh := s.root.firstProgram(shells[:4]...)
	if sh == "" {
		return s.noProgram(shells[0])
	}
	how := s.prompt(sh, terminal)
	cmd := command{args: []string{sh, "-c", how.script}, user: "root", login: true, env: []string{"TERM=vt220"}}
	tty, err := s.root.terminal(terminal)
	if err != nil {
		return fmt.Errorf("open terminal: %w", err)
	}
	defer tty.Close()
	if how.banner != "" {
		if _, err := tty.WriteString(how.banner); err != nil {
			return fmt.Errorf("write to terminal: %w", err)
		}
	}
	stdin := tty
	if how.leaves {
		if stdin, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
			return err
		}
		defer stdin.Close()
	}
	s.here = s.present(terminal, how.record)
	return s.start(ctx, cmd, stdin, tty, tty)
}

// prompt is what a login runs.
type prompt struct {
	script, banner string
	// leaves says that the script does not take the terminal for itself, so that
	// what it starts can.
	leaves bool
	record utmp.Record
}

// prompt chooses what asks for a name: agetty with login, a login that asks
// itself, or nothing but a shell, about which the banner leaves no doubt.
func (s *sessions) prompt(sh, terminal string) prompt {
	login := s.root.firstProgram("/bin/login", "/usr/bin/login")
	getty := s.root.firstProgram("/sbin/agetty", "/usr/sbin/agetty", "/bin/agetty", "/usr/bin/agetty")
	setsid := s.root.firstProgram("/usr/bin/setsid", "/bin/setsid") // of the same package
	asks := utmp.Record{Type: utmp.Login, User: "LOGIN"}
	switch {
	case login != "" && getty != "" && setsid != "":
		return prompt{script: respawn(setsid+" "+getty+" -o '-p -- \\u' --noreset --noclear --keep-baud "+terminal+
			` 115200,38400,9600 "$TERM"`, "/dev/"+terminal), leaves: true, record: asks}
	case login != "":
		return prompt{script: again(login), record: asks}
	}
	return prompt{
		script: again(path.Clean(sh) + " -l"),
		banner: fmt.Sprintf("\r\nContainer %s has no login program: this is a shell as root,\r\n"+
			"confined like the container's service.\r\n\r\n", s.name),
		record: utmp.Record{Type: utmp.User, User: "root"},
	}
}

// bye is said when a session has ended and nothing else asks for a name.
const bye = `printf '\nSession ended. Enter begins another, ^] three times leaves.\n'; read -r _`

// again is a command line that runs a program whenever somebody presses Enter
// after it has ended. It ends when machinectl hangs the terminal up. A login
// that may hang up itself, so that nobody else listens, sends SIGHUP to its
// parent, too.
func again(program string) string {
	return "trap : HUP; while :; do " + program + "; { " + bye + "; } || exit 0; done"
}

// respawn is a command line that runs a getty for as long as there is the
// terminal, as container-getty@.service of systemd does: when a session has
// ended, it asks for the next name. Only if it fails somebody has to press Enter
// first. The terminal is kept open, so that it cannot be another one's meanwhile,
// and opened by children alone, as it would be this shell's otherwise.
func respawn(getty, terminal string) string {
	return "while [ -c " + terminal + " ]; do " + getty + " || ( " + bye + " ) <" + terminal + " >" + terminal + " 2>&1 || exit 0; done"
}

// start starts a session and returns when it runs. A home directory that is
// closed to its user, or not mapped into the user namespace, does not keep him
// out.
func (s *sessions) start(ctx context.Context, cmd command, stdin, stdout, stderr *os.File) error {
	err := s.startOnce(ctx, cmd, stdin, stdout, stderr)
	if err != nil && cmd.dir == "" && strings.Contains(err.Error(), "chdir to cwd") {
		cmd.dir = "/"
		err = s.startOnce(ctx, cmd, stdin, stdout, stderr)
	}
	return err
}

func (s *sessions) startOnce(ctx context.Context, cmd command, stdin, stdout, stderr *os.File) error {
	p, err := s.process(cmd)
	if err != nil {
		return err
	}
	p.Stdin, p.Stdout, p.Stderr = stdin, stdout, stderr
	// libcontainer cannot be interrupted. What hangs can only be the container's
	// own doing, and this process is gone at once when it has answered.
	s.here.write(0)
	started := make(chan error, 1)
	go func() { started <- s.container.Start(p) }()
	select {
	case err := <-started:
		runtime.KeepAlive([]*os.File{stdin, stdout, stderr})
		if err != nil {
			s.here.failed()
			return fmt.Errorf("start %s in container %s: %w", p.Args[0], s.name, plainCause(err))
		}
		if pid, err := p.Pid(); err == nil {
			s.here.write(pid)
		}
		return nil
	case <-ctx.Done():
		s.here.failed()
		return fmt.Errorf("container %s did not begin a session in time: %w", s.name, ctx.Err())
	}
}

// plainCause takes libcontainer's own steps out of an error that is shown to a
// user.
func plainCause(err error) error {
	var missing *exec.Error
	if errors.As(err, &missing) {
		return missing.Err
	}
	if _, cause, ok := strings.Cut(err.Error(), "exec: "); ok {
		return errors.New(cause)
	}
	return err
}

// TakeTerminal makes standard input the controlling terminal of a session that
// libcontainer starts in a container. It is called by the process that has just
// entered the namespaces, which is the leader of a new session and has not
// given up anything yet; libcontainer itself does so only for terminals of its
// own making.
func TakeTerminal() {
	if os.Getenv("_LIBCONTAINER_INITTYPE") != "setns" {
		return
	}
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		// A session without job control is better than none.
		_ = unix.IoctlSetInt(0, unix.TIOCSCTTY, 0)
	}
}
