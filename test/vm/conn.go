// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/atomic-agent/atomic/test/vm/wire"
)

// ErrDown says that the machine went down, or was not up, while something was
// asked of it.
var ErrDown = errors.New("the virtual machine is down")

// conn is the line to the agent, for one boot.
type conn struct {
	f     *os.File
	w     *wire.Writer
	hello chan wire.Greeting // the first one of this boot
	gone  chan struct{}      // closed when the line is dead

	mu       sync.Mutex
	last     uint32
	commands map[uint32]*pending
}

type pending struct {
	stdout, stderr io.Writer
	done           chan wire.Status
}

func newConn(f *os.File) *conn {
	c := &conn{
		f: f, w: wire.NewWriter(f), commands: map[uint32]*pending{},
		hello: make(chan wire.Greeting, 1), gone: make(chan struct{}),
	}
	go c.read()
	return c
}

// read handles what the agent says until the line is closed.
func (c *conn) read() {
	defer close(c.gone)
	for {
		f, err := wire.Read(c.f)
		if err != nil {
			return
		}
		if f.Type == wire.Hello {
			var g wire.Greeting
			if json.Unmarshal(f.Data, &g) != nil {
				return
			}
			select {
			case c.hello <- g:
			default: // the agent was restarted; the commands it had are lost
			}
			continue
		}
		c.mu.Lock()
		p := c.commands[f.ID]
		c.mu.Unlock()
		if p == nil {
			continue // its caller has given up
		}
		switch f.Type {
		case wire.Stdout:
			_, _ = p.stdout.Write(f.Data) // the caller's own writer
		case wire.Stderr:
			_, _ = p.stderr.Write(f.Data)
		case wire.Finished:
			var s wire.Status
			if err := json.Unmarshal(f.Data, &s); err != nil {
				s.Error = err.Error()
			}
			p.done <- s
		}
	}
}

// run runs one command and waits for its end.
func (c *conn) run(ctx context.Context, spec wire.Command, stdin io.Reader, stdout, stderr io.Writer) (wire.Status, error) {
	p := &pending{stdout: stdout, stderr: stderr, done: make(chan wire.Status, 1)}
	c.mu.Lock()
	c.last++
	id := c.last
	c.commands[id] = p
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.commands, id)
		c.mu.Unlock()
	}()
	if err := c.w.WriteJSON(wire.Start, id, spec); err != nil {
		return wire.Status{}, ErrDown
	}
	go func() {
		if stdin != nil {
			// An error here is the command's early end, or the line's.
			_, _ = io.Copy(c.w.Stream(wire.Stdin, id), stdin)
		}
		_ = c.w.Write(wire.Frame{Type: wire.Stdin, ID: id})
	}()
	select {
	case s := <-p.done:
		if s.Error != "" {
			return s, errors.New(s.Error)
		}
		return s, nil
	case <-c.gone:
		select { // it may have ended just before the machine did
		case s := <-p.done:
			return s, nil
		default:
			return wire.Status{}, ErrDown
		}
	case <-ctx.Done():
		_ = c.w.Write(wire.Frame{Type: wire.Kill, ID: id}) // best effort: we stop waiting anyway
		return wire.Status{}, ctx.Err()
	}
}

func (c *conn) close() {
	c.f.Close()
	<-c.gone
}
