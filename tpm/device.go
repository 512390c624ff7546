// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// device is a TPM with a deadline, for the length of one measurement. go-tpm's
// own transports wait forever.
type device struct {
	ctx  context.Context // of one measurement; the device lives no longer
	file *os.File

	// An emulator serves one connection at a time. We connect for the first
	// command, that is with the log's lock: whoever waited for the lock with a
	// connection would keep its holder from the TPM.
	socket string
	conn   net.Conn
}

const (
	maxResponse = 4096
	headerSize  = 10 // tag, size, code
)

// Response codes that say: the same command again, later.
const (
	rcYielded = 0x908
	rcTesting = 0x90a
	rcRetry   = 0x922
)

func openDevice(ctx context.Context, name string) (*device, error) {
	if path, ok := strings.CutPrefix(name, "unix:"); ok {
		if _, err := os.Stat(path); err != nil {
			return nil, noTPM(err)
		}
		return &device{ctx: ctx, socket: path}, nil
	}
	// Not os.OpenFile: it would make the descriptor non-blocking, and reading
	// a non-blocking TPM before the response is there looks like end of file.
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		err = &fs.PathError{Op: "open", Path: name, Err: err}
		if errors.Is(err, unix.EBUSY) {
			return nil, busy(name, unix.EBUSY)
		}
		return nil, noTPM(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		_ = unix.Close(fd)
		return nil, noTPM(fmt.Errorf("%s is not a device", name))
	}
	return &device{ctx: ctx, file: os.NewFile(uintptr(fd), name)}, nil
}

func (d *device) Close() error {
	switch {
	case d.conn != nil:
		return d.conn.Close()
	case d.file != nil:
		return d.file.Close()
	}
	return nil
}

// Send implements go-tpm's transport.TPM. Commands that the TPM asks to repeat
// are repeated until the deadline.
func (d *device) Send(command []byte) ([]byte, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if err := d.ctx.Err(); err != nil {
			return nil, busy("TPM", err)
		}
		response, err := d.exchange(command)
		if err != nil {
			return nil, err
		}
		if len(response) < headerSize {
			return nil, fmt.Errorf("TPM response of %d bytes", len(response))
		}
		switch binary.BigEndian.Uint32(response[6:headerSize]) {
		case rcYielded, rcTesting, rcRetry:
		default:
			return response, nil
		}
		select {
		case <-d.ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (d *device) exchange(command []byte) ([]byte, error) {
	response := make([]byte, maxResponse)
	var n int
	var err error
	if d.file != nil {
		n, err = d.exchangeFile(command, response)
	} else {
		n, err = d.exchangeConn(command, response)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, busy("TPM", err)
	}
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil, noTPM(err)
	}
	if err != nil {
		return nil, fmt.Errorf("talk to the TPM: %w", err)
	}
	return response[:n], nil
}

func (d *device) exchangeConn(command, response []byte) (int, error) {
	if d.conn == nil {
		if err := d.connect(); err != nil {
			return 0, err
		}
	}
	if deadline, ok := d.ctx.Deadline(); ok {
		if err := d.conn.SetDeadline(deadline); err != nil {
			return 0, err
		}
	}
	if _, err := d.conn.Write(command); err != nil {
		return 0, err
	}
	return d.conn.Read(response)
}

// connect connects to an emulator, and waits where others already wait for it.
func (d *device) connect() error {
	for {
		conn, err := (&net.Dialer{}).DialContext(d.ctx, "unix", d.socket)
		if !errors.Is(err, unix.EAGAIN) {
			d.conn = conn
			return err
		}
		select {
		case <-d.ctx.Done():
			return os.ErrDeadlineExceeded
		case <-time.After(time.Millisecond):
		}
	}
}

// exchangeFile cannot be interrupted: the kernel executes the command in write
// and has its own timeouts for a TPM that does not answer.
func (d *device) exchangeFile(command, response []byte) (int, error) {
	if _, err := d.file.Write(command); err != nil {
		return 0, err
	}
	return d.file.Read(response)
}
