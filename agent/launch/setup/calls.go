// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What agent/atomic-enter knows as well: where in init's memory a list of system
// calls lies with all that it needs, and how much there may be of it.
const (
	base = 0x1000000000
	room = 0x800000
)

// calls is a list of system calls for init.
type calls struct {
	list  []call
	names []string
	data  []byte // what is at base, before the list
}

type call struct {
	number uintptr
	args   [6]uintptr
	ignore int // an errno that is no error, or anyErrno
}

const anyErrno = -1

// add adds a call. name is what an error says that it was for.
func (c *calls) add(name string, number uintptr, args ...uintptr) *call {
	c.names = append(c.names, name)
	c.list = append(c.list, call{number: number})
	last := &c.list[len(c.list)-1]
	copy(last.args[:], args)
	return last
}

// memory puts something at an address of init's.
func (c *calls) memory(b []byte) uintptr {
	for len(c.data)%8 != 0 {
		c.data = append(c.data, 0)
	}
	address := base + uintptr(len(c.data))
	c.data = append(c.data, b...)
	return address
}

func (c *calls) text(s string) uintptr { return c.memory(append([]byte(s), 0)) }

func (c *calls) words(all ...uintptr) uintptr {
	var b []byte
	for _, w := range all {
		b = binary.NativeEndian.AppendUint64(b, uint64(w))
	}
	return c.memory(b)
}

// texts is a list of strings as execve takes it.
func (c *calls) texts(all []string) uintptr {
	var list []uintptr
	for _, s := range all {
		list = append(list, c.text(s))
	}
	return c.words(append(list, 0)...)
}

// message is the list as init receives it. status is how init ends if it has
// failed by the time at which the launcher is gone.
func (c *calls) message(status int) ([]byte, error) {
	first := c.memory(nil) - base
	size := first + uintptr(len(c.list))*unsafe.Sizeof(call{})
	if size > room {
		return nil, errors.New("the configuration is too large")
	}
	var m []byte
	for _, n := range []int{int(size), int(first), len(c.list), status} {
		m = binary.NativeEndian.AppendUint32(m, uint32(n))
	}
	m = append(m, c.data...)
	for i := range c.list {
		m = append(m, unsafe.Slice((*byte)(unsafe.Pointer(&c.list[i])), unsafe.Sizeof(call{}))...)
	}
	return m, nil
}

// headerSize is how long a message is before the data.
const headerSize = 16

// errGone means that init ended, not by its own fault: somebody killed it.
var errGone = errors.New("the container's init is gone before it was released")

// begin has init make the calls, and gives it descriptors before. They get the
// lowest free numbers.
func (i *Init) begin(c *calls, status int, fds ...int) error {
	m, err := c.message(status)
	if err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for _, part := range [][]byte{m[:headerSize], m[headerSize:]} {
		for len(part) > 0 {
			n, err := unix.SendmsgN(i.socket, part, rights, nil, unix.MSG_NOSIGNAL)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return errGone
			}
			part, rights = part[n:], nil
		}
	}
	return nil
}

// finish waits until all calls are made.
func (i *Init) finish(c *calls) error {
	reply := make([]byte, 16)
	n, _, err := i.receive(reply)
	switch {
	case err != nil:
		return err
	case n == 0:
		return errGone
	}
	done, errno := binary.NativeEndian.Uint64(reply), syscall.Errno(binary.NativeEndian.Uint64(reply[8:]))
	switch {
	case errno == 0:
		return nil
	case done >= uint64(len(c.names)):
		return errors.New("init's answer is damaged")
	}
	return fmt.Errorf("%s: %w", c.names[done], errno)
}

// do has init make the calls and waits for that.
func (i *Init) do(c *calls, fds ...int) error {
	if err := i.begin(c, exitSetup, fds...); err != nil {
		return err
	}
	return i.finish(c)
}

// receive fills buf with what init says, and returns descriptors that came with
// it. Nothing means that init is gone, or executes the payload.
func (i *Init) receive(buf []byte) (n int, fds []int, err error) {
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	for n < len(buf) {
		m, control, _, _, err := unix.Recvmsg(i.socket, buf[n:], oob, unix.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil && !errors.Is(err, unix.ECONNRESET):
			return n, fds, err
		case m <= 0:
			return 0, fds, nil
		}
		n += m
		messages, err := unix.ParseSocketControlMessage(oob[:control])
		if err != nil {
			return n, fds, err
		}
		for k := range messages {
			some, err := unix.ParseUnixRights(&messages[k])
			if err != nil {
				return n, fds, err
			}
			fds = append(fds, some...)
		}
	}
	return n, fds, nil
}

// maxFiles is how many descriptors the kernel lets one message carry.
const maxFiles = 253
