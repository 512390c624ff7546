// SPDX-License-Identifier: Apache-2.0

package login

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// stream is what a peer has sent: bytes, and files in their order.
type stream struct {
	conn  *net.UnixConn
	data  []byte
	files []*os.File
}

func (s *stream) close() {
	closeAll(s.files)
	s.files = nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// fill waits for more.
func (s *stream) fill() error {
	buf, oob := make([]byte, 8<<10), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := s.conn.ReadMsgUnix(buf, oob)
	if oobn > 0 {
		files, ferr := received(oob[:oobn])
		s.files = append(s.files, files...)
		err = errors.Join(err, ferr)
	}
	switch {
	case err != nil:
		return err
	case n == 0:
		return io.ErrUnexpectedEOF
	case flags&unix.MSG_CTRUNC != 0 || len(s.files) > maxFiles:
		return errors.New("too many files")
	}
	s.data = append(s.data, buf[:n]...)
	return nil
}

// received returns the files of control messages.
func received(oob []byte) ([]*os.File, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // not files
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}

// take waits until there are n bytes and removes them.
func (s *stream) take(n int) ([]byte, error) {
	if err := s.have(n); err != nil {
		return nil, err
	}
	data := s.data[:n]
	s.data = s.data[n:]
	return data, nil
}

func (s *stream) have(n int) error {
	for len(s.data) < n {
		if err := s.fill(); err != nil {
			return err
		}
	}
	return nil
}

// line removes the next line of the handshake, without its end.
func (s *stream) line() (string, error) {
	for {
		if i := bytes.Index(s.data, []byte("\r\n")); i >= 0 {
			line := string(s.data[:i])
			s.data = s.data[i+2:]
			return line, nil
		}
		if len(s.data) > maxLine {
			return "", errors.New("line is too long")
		}
		if err := s.fill(); err != nil {
			return "", err
		}
	}
}

// fixedHeader is the length of a message's beginning, which tells how long the
// rest is.
const fixedHeader = 16

// message removes the next message with its files, which are the caller's.
func (s *stream) message() (*dbus.Message, []*os.File, error) {
	if err := s.have(fixedHeader); err != nil {
		return nil, nil, err
	}
	length, err := messageLength(s.data[:fixedHeader])
	if err != nil {
		return nil, nil, err
	}
	data, err := s.take(length)
	if err != nil {
		return nil, nil, err
	}
	msg, err := decode(data, len(s.files))
	if err != nil {
		return nil, nil, err
	}
	n, _ := msg.Headers[dbus.FieldUnixFDs].Value().(uint32)
	if int(n) > len(s.files) {
		return nil, nil, errors.New("a message lacks its files")
	}
	files := s.files[:n:n]
	s.files = s.files[n:]
	return msg, files, nil
}

// messageLength reads the length of a whole message off its fixed header.
func messageLength(b []byte) (int, error) {
	var order binary.ByteOrder
	switch b[0] {
	case 'l':
		order = binary.LittleEndian
	case 'B':
		order = binary.BigEndian
	default:
		return 0, errors.New("not a message")
	}
	body, fields := uint64(order.Uint32(b[4:])), uint64(order.Uint32(b[12:]))
	if length := fixedHeader + (fields+7)&^7 + body; length <= maxMessage {
		return int(length), nil
	}
	return 0, errors.New("message is too long")
}

// decode parses one whole message. Handles in it are indexes of the files that
// came with it, of which there are at most n.
func decode(data []byte, n int) (msg *dbus.Message, err error) {
	defer func() {
		// The codec is made for peers that are trusted.
		if p := recover(); p != nil {
			msg, err = nil, fmt.Errorf("decode message: %v", p)
		}
	}()
	index := make([]int, n)
	for i := range index {
		index[i] = i
	}
	msg, err = dbus.DecodeMessageWithFDs(bytes.NewReader(data), index)
	if err != nil {
		return nil, fmt.Errorf("decode message: %w", err)
	}
	return msg, nil
}
