// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Terminal makes a terminal of the bed, as a program in it would, and returns
// both ends of it. As long as the caller holds the slave, reading the master
// does not end; closing the master ends it.
func (b *Bed) Terminal() (master, slave *os.File, err error) {
	boot := b.current()
	if boot == nil {
		return nil, nil, errors.New("make terminal: bed is off")
	}
	name := fmt.Sprintf("/proc/%d/root/dev/pts/ptmx", boot.pid)
	if master, err = os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err != nil {
		return nil, nil, fmt.Errorf("make terminal: %w", err)
	}
	var number int
	var peer uintptr
	err = control(master, func(fd int) (err error) {
		if number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN); err != nil {
			return err
		}
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		// Not by its name, which the machine may have as well.
		var errno unix.Errno
		if peer, _, errno = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC); errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make terminal: %w", err), master.Close())
	}
	return master, os.NewFile(peer, fmt.Sprintf("/dev/pts/%d", number)), nil
}
