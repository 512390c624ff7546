// SPDX-License-Identifier: Apache-2.0

// Package wire is what a test and the agent inside its virtual machine say to
// each other over a virtio-serial port.
//
// Both directions are a sequence of frames: one byte of type, four bytes of
// command number, four bytes of length (big endian), and that many bytes. The
// agent speaks first, with one Hello; whatever the host sends before is lost
// with the boot it was meant for. Commands are numbered by the host and run
// concurrently. There is no flow control per command: a command that does not
// read the input it was given holds up the input of the others.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// PortName is the virtio-serial port's name.
const PortName = "atomic.agent"

// MaxData is the largest payload of one frame.
const MaxData = 64 << 10

// Type says what a frame means.
type Type byte

// The types of frames. The payload is JSON where a struct is named.
const (
	Hello    Type = 'h' // agent: it is listening (Greeting)
	Start    Type = 's' // host: run a command (Command)
	Stdin    Type = 'i' // host: bytes for the command; none means end of input
	Kill     Type = 'k' // host: kill the command
	Stdout   Type = 'o' // agent: bytes from the command
	Stderr   Type = 'e' // agent: bytes from the command
	Finished Type = 'f' // agent: the command's last frame (Status)
)

// Greeting is the agent's first message of a boot.
type Greeting struct {
	BootID string `json:"bootId"`
	// Initrd is set when the agent is PID 1 and no service manager runs.
	Initrd bool `json:"initrd,omitempty"`
}

// Command is a program to run as root. Args[0] is looked up in the
// agent's PATH.
type Command struct {
	Args []string `json:"args"`
	Env  []string `json:"env,omitempty"` // all of the environment
	Dir  string   `json:"dir,omitempty"`
}

// Status is how a command ended. Error is set when it could not be run; then
// Code means nothing.
type Status struct {
	Code   int    `json:"code"`             // exit status
	Signal int    `json:"signal,omitempty"` // the signal that killed it
	Error  string `json:"error,omitempty"`
}

// Frame is one message.
type Frame struct {
	Type Type
	ID   uint32
	Data []byte
}

const headerSize = 9

// Read reads one frame. It returns io.EOF only between frames.
func Read(r io.Reader) (Frame, error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	f := Frame{Type: Type(head[0]), ID: binary.BigEndian.Uint32(head[1:5])}
	size := binary.BigEndian.Uint32(head[5:])
	if size > MaxData {
		return Frame{}, fmt.Errorf("frame of %d bytes: at most %d", size, MaxData)
	}
	f.Data = make([]byte, size)
	if _, err := io.ReadFull(r, f.Data); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	return f, nil
}

// Writer writes frames from several goroutines to one stream.
type Writer struct {
	mu sync.Mutex
	w  io.Writer
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write writes one frame, whose data must not exceed MaxData.
func (w *Writer) Write(f Frame) error {
	if len(f.Data) > MaxData {
		return fmt.Errorf("frame of %d bytes: at most %d", len(f.Data), MaxData)
	}
	buf := make([]byte, headerSize, headerSize+len(f.Data))
	buf[0] = byte(f.Type)
	binary.BigEndian.PutUint32(buf[1:5], f.ID)
	binary.BigEndian.PutUint32(buf[5:], uint32(len(f.Data)))
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.w.Write(append(buf, f.Data...))
	return err
}

// WriteJSON writes one frame whose data is v.
func (w *Writer) WriteJSON(t Type, id uint32, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.Write(Frame{Type: t, ID: id, Data: data})
}

// Stream returns an io.Writer that sends what is written to it as frames.
func (w *Writer) Stream(t Type, id uint32) io.Writer { return stream{w, t, id} }

type stream struct {
	w  *Writer
	t  Type
	id uint32
}

func (s stream) Write(p []byte) (int, error) {
	n := 0
	for len(p) > n {
		chunk := p[n:min(len(p), n+MaxData)]
		if err := s.w.Write(Frame{Type: s.t, ID: s.id, Data: chunk}); err != nil {
			return n, err
		}
		n += len(chunk)
	}
	return n, nil
}
