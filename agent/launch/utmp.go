// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/internal/inroot"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/internal/sdbus"
	"github.com/atomic-agent/atomic/machined/utmp"
)

// presence is a session in the container's utmp. Few containers have that file;
// without it there is no presence, and nothing is done.
type presence struct {
	file   *os.File
	record utmp.Record
	// any says that others, agetty and login, write of the terminal, too.
	any bool
	// session is the session's first process, pid on the host, as a pidfd.
	session *os.File
	pid     int
	log     *slog.Logger
}

// utmpPlaces are where programs look for the file; usually they are one.
var utmpPlaces = []string{"/run/utmp", "/var/run/utmp"}

// openUTMP opens the container's utmp, or returns nil. The host's root is about
// to write to it, so that it must be what only the container's root can have put
// there: a plain file of its own with one name, and not the host's.
func (j *joined) openUTMP() *os.File {
	for _, place := range utmpPlaces {
		if f, err := j.openPlain(place); err == nil {
			return f
		}
	}
	return nil
}

func (j *joined) openPlain(path string) (*os.File, error) {
	fd, err := inroot.Open(j.root.fd, path, unix.O_PATH, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || st.Uid != j.hostRoot() {
		return nil, errors.New("not a plain file of the container's root")
	}
	for _, place := range utmpPlaces {
		var host unix.Stat_t
		if unix.Stat(place, &host) == nil && host.Dev == st.Dev && host.Ino == st.Ino {
			return nil, errors.New("the host's own")
		}
	}
	file, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(file), path), nil
}

// present finds out where to write of a session; nil is nowhere.
func (s *sessions) present(terminal string, r utmp.Record) *presence {
	file := s.openUTMP()
	if file == nil {
		return nil
	}
	r.Line = terminal
	return &presence{file: file, record: r, any: r.Type == utmp.Login, log: s.log}
}

// write writes the record: before the session runs, which is to find itself
// there, with the PID 0, and again when its PID is known. A session does without
// if that fails.
func (a *presence) write(pid int) {
	if a == nil {
		return
	}
	if err := a.tryWrite(pid); err != nil {
		a.log.Debug("cannot write the session into the container's utmp, ignoring", "error", err)
	}
}

func (a *presence) tryWrite(pid int) error {
	if pid != 0 {
		inside, err := innerPID(pid)
		if err != nil {
			return err
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return err
		}
		a.session, a.pid = os.NewFile(uintptr(fd), "session"), pid
		a.record.PID, a.record.Session = inside, inside
	}
	a.record.Time = time.Now()
	return utmp.Write(a.file, a.record)
}

// innerPID is a process's PID in its own PID namespace.
func innerPID(pid int) (int, error) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if list, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(list)
			return strconv.Atoi(f[len(f)-1])
		}
	}
	return 0, errors.New("the kernel does not tell the PID")
}

// failed takes back what was written of a session that did not start.
func (a *presence) failed() {
	if a != nil {
		_ = utmp.End(a.file, a.record.Line, a.record.PID, time.Now())
	}
}

// watch lets systemd run atomic-launch until the session ends, to write that. It
// is called when machined has its answer.
func (a *presence) watch(ctx context.Context, name string) error {
	if a == nil || a.session == nil {
		return nil
	}
	defer a.session.Close()
	defer a.file.Close()
	pid := a.record.PID
	if a.any {
		pid = 0
	}
	type execLine struct {
		Path   string
		Args   []string
		Ignore bool
	}
	type property struct {
		Name  string
		Value dbus.Variant
	}
	set := func(name string, value any) property { return property{name, dbus.MakeVariant(value)} }
	unit := fmt.Sprintf("atomic-session-%s-%d.service", name, a.pid)
	err := sdbus.Call(ctx, "StartTransientUnit", unit, "replace", []property{
		set("Description", fmt.Sprintf("Session in Container %s on %s", name, a.record.Line)),
		set("CollectMode", "inactive-or-failed"),
		set("Slice", "atomic.slice"),
		set("LogLevelMax", int32(5)), set("SyslogLevel", int32(5)), set("StandardError", "journal"),
		set("StandardInputFileDescriptor", dbus.UnixFD(a.file.Fd())),
		set("StandardOutputFileDescriptor", dbus.UnixFD(a.session.Fd())),
		set("ExecStart", []execLine{{paths.Launcher, []string{paths.Launcher, "utmp", a.record.Line, strconv.Itoa(pid)}, false}}),
	}, []struct {
		Name       string
		Properties []property
	}{})
	if err != nil {
		return fmt.Errorf("watch session: %w", err)
	}
	return nil
}

// EndSession waits until a session has ended, or until it is told to go, and
// writes that into the container's utmp. Both files come from watch: the utmp as
// standard input, and the session as standard output.
func EndSession(line string, pid int) error {
	file, session := os.NewFile(0, "utmp"), 1
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- poll([]unix.PollFd{{Fd: int32(session), Events: unix.POLLIN}}, -1) }()
	var err error
	select {
	case err = <-ended:
	case <-told:
	}
	return errors.Join(err, utmp.End(file, line, pid, time.Now()))
}
