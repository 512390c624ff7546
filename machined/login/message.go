// SPDX-License-Identifier: Apache-2.0

package login

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// argumentError is a call that is not what machined sends.
type argumentError struct{ text string }

func (e *argumentError) Error() string { return e.text }

func badCall(format string, args ...any) error {
	return &argumentError{fmt.Sprintf(format, args...)}
}

// serialOffset is where a message has its serial number, which godbus sets
// only on connections of its own.
const serialOffset = 8

func encode(msg *dbus.Message, serial uint32) ([]byte, error) {
	var b bytes.Buffer
	if err := msg.EncodeTo(&b, binary.LittleEndian); err != nil {
		return nil, err
	}
	binary.LittleEndian.PutUint32(b.Bytes()[serialOffset:], serial)
	return b.Bytes(), nil
}

// header returns a header field that is a string, or "".
func header(msg *dbus.Message, field dbus.HeaderField) string {
	s, _ := msg.Headers[field].Value().(string)
	return s
}

// signed checks what a call's arguments are before they are looked at.
func signed(msg *dbus.Message, want string) error {
	sig, _ := msg.Headers[dbus.FieldSignature].Value().(dbus.Signature)
	if sig.String() != want {
		return badCall("arguments are %q, want %q", sig.String(), want)
	}
	return nil
}

var (
	gettyUnit = regexp.MustCompile(`^container-getty@([0-9]{1,7})\.service$`)
	terminal  = regexp.MustCompile(`^/dev/(pts/[0-9]{1,7})$`)
)

// parseLogin returns the terminal that StartUnit(container-getty@N.service)
// asks for.
func parseLogin(msg *dbus.Message) (string, error) {
	if err := signed(msg, "ss"); err != nil {
		return "", err
	}
	var unit, mode string
	if err := dbus.Store(msg.Body, &unit, &mode); err != nil {
		return "", badCall("%v", err)
	}
	m := gettyUnit.FindStringSubmatch(unit)
	if m == nil {
		return "", badCall("there is no unit %q here: only container-getty@N.service can be started", unit)
	}
	return "pts/" + m[1], nil
}

type property struct {
	Name  string
	Value dbus.Variant
}

type auxiliary struct {
	Name       string
	Properties []property
}

type execLine struct {
	Path          string
	Args          []string
	IgnoreFailure bool
}

// parseShell returns the command that StartTransientUnit(container-shell@N.service)
// asks for. Properties that mean nothing to a session of ours are ignored: it
// is confined like the payload whatever they say.
func parseShell(msg *dbus.Message, files []*os.File) (Shell, error) {
	var s Shell
	if err := signed(msg, "ssa(sv)a(sa(sv))"); err != nil {
		return s, err
	}
	var unit, mode string
	var props []property
	var aux []auxiliary
	if err := dbus.Store(msg.Body, &unit, &mode, &props, &aux); err != nil {
		return s, badCall("%v", err)
	}
	var tty string
	for _, p := range props {
		var err error
		switch p.Name {
		case "StandardInputFileDescriptor":
			s.Stdin, err = fileOf(p.Value, files)
		case "StandardOutputFileDescriptor":
			s.Stdout, err = fileOf(p.Value, files)
		case "StandardErrorFileDescriptor":
			s.Stderr, err = fileOf(p.Value, files)
		case "TTYPath":
			err = store(p.Value, &tty)
		case "User":
			err = store(p.Value, &s.User)
		case "WorkingDirectory":
			err = store(p.Value, &s.Dir)
			s.Dir = strings.TrimPrefix(s.Dir, "-") // which systemd lets be missing
		case "Environment":
			err = store(p.Value, &s.Env)
		case "ExecStart":
			err = s.setCommand(p.Value)
		}
		if err != nil {
			return s, badCall("property %s: %v", p.Name, err)
		}
	}
	m := terminal.FindStringSubmatch(tty)
	switch {
	case m == nil:
		return s, badCall("the terminal %q is no pseudo terminal", tty)
	case s.Stdin == nil || s.Stdout == nil || s.Stderr == nil:
		return s, badCall("a session needs all three standard streams")
	case s.Path == "":
		return s, badCall("there is no command")
	}
	s.Terminal = m[1]
	return s, nil
}

func (s *Shell) setCommand(v dbus.Variant) error {
	var lines []execLine
	if err := store(v, &lines); err != nil {
		return err
	}
	if len(lines) != 1 || lines[0].Path == "" || lines[0].Path[0] != '/' {
		return fmt.Errorf("want one command with an absolute path")
	}
	s.Path = lines[0].Path
	if len(lines[0].Args) > 0 {
		s.Args = slices.Clone(lines[0].Args[1:])
	}
	return nil
}

// store takes a value of exactly the target's type: the codec would convert.
func store(v dbus.Variant, target any) error {
	want := dbus.SignatureOfType(reflect.TypeOf(target).Elem())
	if v.Signature().String() != want.String() {
		return fmt.Errorf("type %q, want %q", v.Signature(), want)
	}
	return dbus.Store([]any{v.Value()}, target)
}

// fileOf returns the file that a handle stands for. decode has numbered them.
func fileOf(v dbus.Variant, files []*os.File) (*os.File, error) {
	n, ok := v.Value().(dbus.UnixFD)
	if !ok || int(n) < 0 || int(n) >= len(files) {
		return nil, fmt.Errorf("no file was sent")
	}
	return files[n], nil
}
