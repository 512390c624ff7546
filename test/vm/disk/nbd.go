// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// The parts of the NBD protocol (doc/proto.md of the NetworkBlockDevice
// project) that QEMU needs: the fixed newstyle handshake with NBD_OPT_GO, and
// simple replies. Forced unit access is not offered: QEMU flushes instead.
const (
	nbdMagic      = 0x4e42444d41474943 // "NBDMAGIC"
	optionMagic   = 0x49484156454f5054 // "IHAVEOPT"
	optReplyMagic = 0x3e889045565a9
	requestMagic  = 0x25609513
	replyMagic    = 0x67446698
	flagFixed     = 1 << 0
	flagNoZeroes  = 1 << 1
	optAbort      = 2
	optGo         = 7
	repAck        = 1
	repInfo       = 3
	repErrUnsup   = 1<<31 + 1
	infoExport    = 0
	transHasFlags = 1 << 0
	transFlush    = 1 << 2
	cmdRead       = 0
	cmdWrite      = 1
	cmdDisconnect = 2
	cmdFlush      = 3
	maxRequest    = 32 << 20
	maxOption     = 64 << 10
	optHeaderSize = 16
	requestSize   = 28
	optReplySize  = 20
)

// Serve speaks NBD with one client until it disconnects or goes away, which is
// no error. It serves one request after the other, in order.
func (d *Disk) Serve(conn io.ReadWriter) error {
	s := &session{d: d, r: bufio.NewReaderSize(conn, 256<<10), w: bufio.NewWriterSize(conn, 256<<10)}
	err := s.handshake()
	for err == nil {
		err = s.request()
	}
	if errors.Is(err, errDone) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

var errDone = errors.New("client has disconnected")

type session struct {
	d   *Disk
	r   *bufio.Reader
	w   *bufio.Writer
	buf []byte
}

func (s *session) handshake() error {
	be := binary.BigEndian
	hello := be.AppendUint64(nil, nbdMagic)
	hello = be.AppendUint64(hello, optionMagic)
	hello = be.AppendUint16(hello, flagFixed|flagNoZeroes)
	if err := s.send(hello); err != nil {
		return err
	}
	if _, err := s.read(4); err != nil { // the client's flags
		return err
	}
	for {
		head, err := s.read(optHeaderSize)
		if err != nil {
			return err
		}
		if be.Uint64(head) != optionMagic {
			return fmt.Errorf("nbd: bad option %x", head)
		}
		option, size := be.Uint32(head[8:]), be.Uint32(head[12:])
		if size > maxOption {
			return fmt.Errorf("nbd: option %d of %d bytes", option, size)
		}
		if _, err := s.read(int(size)); err != nil {
			return err
		}
		switch option {
		case optAbort:
			return errDone
		case optGo:
			info := be.AppendUint16(nil, infoExport)
			info = be.AppendUint64(info, uint64(s.d.size))
			info = be.AppendUint16(info, transHasFlags|transFlush)
			if err := s.send(append(optReply(option, repInfo, info), optReply(option, repAck, nil)...)); err != nil {
				return err
			}
			return nil
		}
		if err := s.send(optReply(option, repErrUnsup, nil)); err != nil {
			return err
		}
	}
}

func optReply(option, reply uint32, data []byte) []byte {
	be := binary.BigEndian
	b := make([]byte, 0, optReplySize+len(data))
	b = be.AppendUint64(b, optReplyMagic)
	b = be.AppendUint32(b, option)
	b = be.AppendUint32(b, reply)
	b = be.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// request reads, does and answers one request.
func (s *session) request() error {
	be := binary.BigEndian
	head, err := s.read(requestSize)
	if err != nil {
		return err
	}
	if be.Uint32(head) != requestMagic {
		return fmt.Errorf("nbd: bad request %x", head)
	}
	cmd := be.Uint16(head[6:])
	reply := be.AppendUint32(nil, replyMagic)
	reply = be.AppendUint32(reply, 0)
	reply = append(reply, head[8:16]...) // the client's handle
	off, size := int64(be.Uint64(head[16:])), be.Uint32(head[24:])
	if size > maxRequest {
		return fmt.Errorf("nbd: request for %d bytes", size)
	}
	var data []byte
	switch cmd {
	case cmdRead:
		data = s.grow(int(size))
		_, err = s.d.ReadAt(data, off)
	case cmdWrite:
		p, e := s.read(int(size))
		if e != nil {
			return e
		}
		_, err = s.d.WriteAt(p, off)
	case cmdFlush:
		err = s.d.Flush()
	case cmdDisconnect:
		return errDone
	default:
		err = fmt.Errorf("unknown command %d", cmd)
	}
	if err != nil {
		be.PutUint32(reply[4:], uint32(syscall.EIO))
		data = nil
	}
	return s.send(reply, data)
}

func (s *session) send(parts ...[]byte) error {
	for _, p := range parts {
		if _, err := s.w.Write(p); err != nil {
			return err
		}
	}
	return s.w.Flush()
}

// read returns the next n bytes, valid until the next read.
func (s *session) read(n int) ([]byte, error) {
	b := s.grow(n)
	_, err := io.ReadFull(s.r, b)
	return b, err
}

func (s *session) grow(n int) []byte {
	if cap(s.buf) < n {
		s.buf = make([]byte, n)
	}
	return s.buf[:n]
}
