// SPDX-License-Identifier: Apache-2.0

// Package utmp writes who is logged in to a utmp(5) file: fixed-size records of
// struct utmp, one for each terminal, as glibc lays them out on this machine's
// architecture. It knows one file, which somebody else has opened, and nothing
// of where it comes from: whatever is in it is data, and its size is bounded.
package utmp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Type is what a record says.
type Type int16

// The types of records that sessions have.
const (
	Init  Type = 5 // a process that will ask for a name
	Login Type = 6 // a process that asks for a name
	User  Type = 7 // somebody's session
	Dead  Type = 8 // nobody's any more
)

// Record is one record. Texts that are too long are cut, as everybody does.
type Record struct {
	Type Type
	PID  int // as the readers of the file see it; 0 if not known yet
	// Line is the terminal, "pts/0" for example.
	Line    string
	User    string
	Host    string
	Session int
	Time    time.Time
}

// Sizes of the texts.
const (
	lineSize = 32
	idSize   = 4
	userSize = 32
	hostSize = 256
)

// layout is where the architectures differ: 64-bit ones that have programs of
// 32 bits beside them keep 32 bits for times and sessions, the others do not.
type layout struct{ wide bool }

// native is this machine's.
var native = layout{wide: slices.Contains([]string{"arm64", "loong64"}, runtime.GOARCH)}

// offsets of <bits/types/struct_utmp.h>.
const (
	pidAt  = 4
	lineAt = pidAt + 4
	idAt   = lineAt + lineSize
	userAt = idAt + idSize
	hostAt = userAt + userSize
	exitAt = hostAt + hostSize
	sessAt = exitAt + 4
)

func (l layout) size() int {
	if l.wide {
		return 400
	}
	return 384
}

// id names a terminal in four bytes: its last ones, as systemd and agetty do.
func id(line string) string { return line[max(0, len(line)-idSize):] }

func (l layout) encode(r Record) []byte {
	b := make([]byte, l.size())
	order := binary.NativeEndian
	order.PutUint16(b, uint16(r.Type))
	order.PutUint32(b[pidAt:], uint32(r.PID))
	copy(b[lineAt:idAt], r.Line)
	copy(b[idAt:userAt], id(r.Line))
	copy(b[userAt:hostAt], r.User)
	copy(b[hostAt:exitAt], r.Host)
	sec, usec := r.Time.Unix(), r.Time.Nanosecond()/1000
	if l.wide {
		order.PutUint64(b[sessAt:], uint64(r.Session))
		order.PutUint64(b[sessAt+8:], uint64(sec))
		order.PutUint64(b[sessAt+16:], uint64(usec))
		return b
	}
	order.PutUint32(b[sessAt:], uint32(r.Session))
	order.PutUint32(b[sessAt+4:], uint32(sec))
	order.PutUint32(b[sessAt+8:], uint32(usec))
	return b
}

func (l layout) decode(b []byte) Record {
	order := binary.NativeEndian
	r := Record{
		Type: Type(order.Uint16(b)), PID: int(int32(order.Uint32(b[pidAt:]))),
		Line: cut(b[lineAt:idAt]), User: cut(b[userAt:hostAt]), Host: cut(b[hostAt:exitAt]),
	}
	if l.wide {
		r.Session = int(order.Uint64(b[sessAt:]))
		r.Time = time.Unix(int64(order.Uint64(b[sessAt+8:])), int64(order.Uint64(b[sessAt+16:])%1e6)*1000)
		return r
	}
	r.Session = int(int32(order.Uint32(b[sessAt:])))
	r.Time = time.Unix(int64(order.Uint32(b[sessAt+4:])), int64(order.Uint32(b[sessAt+8:])%1e6)*1000)
	return r
}

func cut(b []byte) string {
	text, _, _ := bytes.Cut(b, []byte{0})
	return string(text)
}

// maxFile bounds what is read of a file, and how large it may grow.
const maxFile = 1 << 20

// errBusy is returned if somebody else keeps the file locked.
var errBusy = errors.New("the file is locked")

// Write puts a record where the terminal's last one was, or at the end.
func Write(f *os.File, r Record) error {
	return update(f, func(data []byte) ([]byte, int, error) {
		at := len(data)
		for i := 0; i < len(data); i += native.size() {
			if old := data[i:]; cut(old[lineAt:idAt]) == r.Line || string(old[idAt:userAt]) == string(native.encode(r)[idAt:userAt]) {
				at = i
				break
			}
		}
		if at+native.size() > maxFile {
			return nil, 0, errors.New("the file is full")
		}
		return native.encode(r), at, nil
	})
}

// End marks the records of a terminal as nobody's: all of them, or if pid is not
// 0 only those of that process, as somebody else may have the terminal by now.
func End(f *os.File, line string, pid int, now time.Time) error {
	return update(f, func(data []byte) ([]byte, int, error) {
		from, to := len(data), 0
		for i := 0; i < len(data); i += native.size() {
			r := native.decode(data[i:])
			if r.Line != line || r.Type < Init || r.Type > User || pid != 0 && r.PID != pid {
				continue
			}
			r.Type, r.User, r.Host, r.Time = Dead, "", "", now
			copy(data[i:], native.encode(r))
			from, to = min(from, i), i+native.size()
		}
		return data[min(from, to):to], from, nil
	})
}

// How long to wait for the lock: others hold it for one record. Whoever holds it
// longer may be anybody, and machined is waiting.
const (
	lockTries = 10
	lockPause = 5 * time.Millisecond
)

// update changes the file under the lock that all others take.
func update(f *os.File, change func(data []byte) (part []byte, at int, err error)) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	for try := 0; ; try++ {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if try == lockTries {
			return fmt.Errorf("write %s: %w", f.Name(), errBusy)
		}
		time.Sleep(lockPause)
	}
	defer func() {
		lock.Type = unix.F_UNLCK
		_ = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
	}()
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxFile+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if len(data) > maxFile || len(data)%native.size() != 0 {
		return fmt.Errorf("write %s: %d bytes are not a utmp file", f.Name(), len(data))
	}
	part, at, err := change(data)
	if err != nil {
		return fmt.Errorf("write %s: %w", f.Name(), err)
	}
	if len(part) == 0 {
		return nil
	}
	if _, err := f.WriteAt(part, int64(at)); err != nil {
		return fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return nil
}
