// SPDX-License-Identifier: Apache-2.0

package login

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// recorder takes the place of a container.
type recorder struct {
	logins []string
	shells []Shell
	err    error
	block  bool
}

func (r *recorder) Login(ctx context.Context, terminal string) error {
	r.logins = append(r.logins, terminal)
	if r.block {
		<-ctx.Done()
		return ctx.Err()
	}
	return r.err
}

func (r *recorder) Shell(_ context.Context, s Shell) error {
	r.shells = append(r.shells, s)
	for _, f := range []*os.File{s.Stdin, s.Stdout, s.Stderr} {
		if _, err := f.WriteString("x"); err != nil {
			return err
		}
	}
	return r.err
}

// pair returns two connected sockets.
func pair(tb testing.TB) (server, client *net.UnixConn) {
	tb.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			tb.Fatal(err)
		}
		var ok bool
		if ends[i], ok = c.(*net.UnixConn); !ok {
			tb.Fatal("not a local socket")
		}
		tb.Cleanup(func() { c.Close() })
	}
	return ends[0], ends[1]
}

const hello = "\x00AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n"

// call returns a call as sd-bus would send it.
func call(tb testing.TB, serial uint32, iface, member string, files int, args ...any) []byte {
	tb.Helper()
	msg := &dbus.Message{
		Type: dbus.TypeMethodCall,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath(managerPath)),
			dbus.FieldDestination: dbus.MakeVariant(managerName),
			dbus.FieldInterface:   dbus.MakeVariant(iface),
			dbus.FieldMember:      dbus.MakeVariant(member),
		},
		Body: args,
	}
	if len(args) > 0 {
		msg.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(args...))
	}
	data, err := encode(msg, serial)
	if err != nil {
		tb.Fatal(err)
	}
	if files == 0 {
		return data
	}
	msg.Headers[dbus.FieldUnixFDs] = dbus.MakeVariant(uint32(files))
	if data, err = encode(msg, serial); err != nil {
		tb.Fatal(err)
	}
	return data
}

func shellCall(tb testing.TB, change func(map[string]any)) []byte {
	props := map[string]any{
		"Description":                  "Shell for User hello",
		"StandardInputFileDescriptor":  dbus.UnixFD(0),
		"StandardOutputFileDescriptor": dbus.UnixFD(1),
		"StandardErrorFileDescriptor":  dbus.UnixFD(2),
		"SendSIGHUP":                   true,
		"KillMode":                     "mixed",
		"TTYPath":                      "/dev/pts/3",
		"PAMName":                      "login",
		"WorkingDirectory":             "-~",
		"User":                         "hello",
		"Environment":                  []string{"TERM=xterm"},
		"ExecStart":                    []execLine{{"/bin/sh", []string{"sh", "-l"}, true}},
	}
	if change != nil {
		change(props)
	}
	var list []property
	for name, v := range props {
		list = append(list, property{name, dbus.MakeVariant(v)})
	}
	slices.SortFunc(list, func(a, b property) int { return strings.Compare(a.Name, b.Name) })
	return call(tb, 2, manager, "StartTransientUnit", 3, "container-shell@3.service", "fail", list, []auxiliary{})
}

// talk sends data, with files if there are any, and returns all answers.
func talk(t *testing.T, s Sessions, data []byte, files ...*os.File) (answer string, err error) {
	t.Helper()
	server, client := pair(t)
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		if _, _, err := client.WriteMsgUnix(data, unix.UnixRights(fds...), nil); err != nil {
			t.Fatal(err)
		}
	} else if _, err := client.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err = Serve(ctx, server, s)
	_ = server.Close()
	got, rerr := io.ReadAll(client)
	if rerr != nil {
		t.Fatal(rerr)
	}
	return string(got), err
}

// answers splits the handshake off and decodes the rest.
func answers(t *testing.T, got string) []*dbus.Message {
	t.Helper()
	lines := strings.SplitN(got, "\r\n", 4)
	if len(lines) != 4 || lines[0] != "DATA" || len(lines[1]) != 3+32 || lines[1][:3] != "OK " || lines[2] != "AGREE_UNIX_FD" {
		t.Fatalf("handshake is %q", got)
	}
	var list []*dbus.Message
	for r := strings.NewReader(lines[3]); r.Len() > 0; {
		msg, err := dbus.DecodeMessage(r)
		if err != nil {
			t.Fatal(err)
		}
		if msg.Serial() == 0 {
			t.Error("an answer has no serial number, which sd-bus refuses")
		}
		list = append(list, msg)
	}
	return list
}

func TestLogin(t *testing.T) {
	for name, tt := range map[string]struct {
		data    []byte
		err     error
		logins  string
		answers string
	}{
		"login": {
			data:   call(t, 2, manager, "StartUnit", 0, "container-getty@17.service", "replace"),
			logins: "pts/17", answers: ":1.1 | /org/freedesktop/systemd1/job/1",
		},
		"the session does not start": {
			data: call(t, 2, manager, "StartUnit", 0, "container-getty@0.service", "replace"),
			err:  errors.New("no shell"), logins: "pts/0", answers: ":1.1 | org.freedesktop.DBus.Error.Failed no shell",
		},
		"another unit": {
			data:    call(t, 2, manager, "StartUnit", 0, "etcd.service", "replace"),
			answers: `:1.1 | org.freedesktop.DBus.Error.InvalidArgs there is no unit "etcd.service" here: only container-getty@N.service can be started`,
		},
		"other arguments": {
			data:    call(t, 2, manager, "StartUnit", 0, "container-getty@0.service"),
			answers: `:1.1 | org.freedesktop.DBus.Error.InvalidArgs arguments are "s", want "ss"`,
		},
		"anything else": {
			data:    call(t, 2, manager, "ListUnits", 0),
			answers: ":1.1 | org.freedesktop.DBus.Error.UnknownMethod this is not a service manager: it starts sessions for machinectl login and machinectl shell",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{err: tt.err}
			data := slices.Concat([]byte(hello), call(t, 1, busName, "Hello", 0), tt.data)
			got, _ := talk(t, r, data)
			var said []string
			for _, m := range answers(t, got) {
				text := header(m, dbus.FieldErrorName)
				for _, b := range m.Body {
					switch b := b.(type) {
					case string:
						text += " " + b
					case dbus.ObjectPath:
						text += string(b)
					}
				}
				said = append(said, strings.TrimSpace(text))
			}
			if diff := cmp.Diff(tt.answers, strings.Join(said, " | ")); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			if l := strings.Join(r.logins, " "); l != tt.logins {
				t.Errorf("logins are %q", l)
			}
		})
	}
}

func TestShell(t *testing.T) {
	want := Shell{
		Terminal: "pts/3", User: "hello", Dir: "~", Env: []string{"TERM=xterm"}, Path: "/bin/sh", Args: []string{"-l"},
	}
	for name, tt := range map[string]struct {
		change func(map[string]any)
		files  int
		bad    bool
	}{
		"as machined asks":      {nil, 3, false},
		"fewer files":           {nil, 2, true},
		"a stream is missing":   {func(p map[string]any) { delete(p, "StandardErrorFileDescriptor") }, 3, true},
		"a stream out of range": {func(p map[string]any) { p["StandardErrorFileDescriptor"] = dbus.UnixFDIndex(9) }, 3, true},
		"no terminal":           {func(p map[string]any) { p["TTYPath"] = "/dev/sda" }, 3, true},
		"no command":            {func(p map[string]any) { delete(p, "ExecStart") }, 3, true},
		"two commands":          {func(p map[string]any) { p["ExecStart"] = make([]execLine, 2) }, 3, true},
		"a relative command":    {func(p map[string]any) { p["ExecStart"] = []execLine{{"sh", nil, false}} }, 3, true},
		"another type":          {func(p map[string]any) { p["User"] = uint32(0) }, 3, true},
	} {
		t.Run(name, func(t *testing.T) {
			var files []*os.File
			var out *os.File
			for range tt.files {
				r, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				defer w.Close()
				files, out = append(files, w), r
			}
			s := &recorder{}
			_, err := talk(t, s, slices.Concat([]byte(hello), shellCall(t, tt.change)), files...)
			if tt.bad {
				if len(s.shells) > 0 {
					t.Errorf("started %+v", s.shells[0])
				}
				return
			}
			if err != nil || len(s.shells) != 1 {
				t.Fatalf("error %v, %d sessions", err, len(s.shells))
			}
			if diff := cmp.Diff(want, s.shells[0], cmpopts.IgnoreFields(Shell{}, "Stdin", "Stdout", "Stderr")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
				t.Error(err)
			}
			if _, err := s.shells[0].Stdin.Write([]byte("x")); err == nil {
				t.Error("the files are still open")
			}
		})
	}
}

func TestMisbehaviour(t *testing.T) {
	long := make([]byte, fixedHeader)
	long[0] = 'l'
	binary.LittleEndian.PutUint32(long[4:], 1<<20)
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":            {nil, "EOF"},
		"no zero byte":       {[]byte("AUTH EXTERNAL\r\n"), "zero byte"},
		"half a handshake":   {[]byte(hello[:20]), "EOF"},
		"endless line":       {append([]byte{0}, bytes.Repeat([]byte("x"), 1<<20)...), "line is too long"},
		"endless lines":      {append([]byte{0}, bytes.Repeat([]byte("x\r\n"), 1<<12)...), "handshake is too long"},
		"unauthenticated":    {[]byte("\x00BEGIN\r\n"), "before authentication"},
		"half a message":     {append([]byte(hello), long[:7]...), "EOF"},
		"1 MB in one header": {append([]byte(hello), long...), "message is too long"},
		"no message":         {append([]byte(hello), make([]byte, 64)...), "not a message"},
		"a damaged message":  {append([]byte(hello), append([]byte("l\x01\x00\x01"), make([]byte, 64)...)...), "decode"},
		"endless calls":      {append([]byte(hello), bytes.Repeat(call(t, 1, busName, "Hello", 0), 20)...), "too many calls"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &recorder{}
			done := make(chan error, 1)
			server, client := pair(t)
			go func() { // the server may hang up before it has read everything
				_, err := client.Write(tt.data)
				_ = client.CloseWrite()
				done <- err
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err := Serve(ctx, server, s)
			_ = server.Close()
			if werr := <-done; err == nil {
				t.Log(werr)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
			if len(s.logins)+len(s.shells) > 0 {
				t.Error("a session was started")
			}
		})
	}
}

func TestFilesAreBounded(t *testing.T) {
	files := make([]*os.File, maxFiles+1)
	for i := range files {
		var err error
		if files[i], err = os.Open(os.DevNull); err != nil {
			t.Fatal(err)
		}
		defer files[i].Close()
	}
	if _, err := talk(t, &recorder{}, []byte(hello), files...); err == nil || !strings.Contains(err.Error(), "too many files") {
		t.Errorf("got %v", err)
	}
}

func TestDeadline(t *testing.T) {
	for name, data := range map[string][]byte{
		"silent peer":  nil,
		"hung session": slices.Concat([]byte(hello), call(t, 1, manager, "StartUnit", 0, "container-getty@1.service", "replace")),
	} {
		t.Run(name, func(t *testing.T) {
			server, client := pair(t)
			if _, err := client.Write(data); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := Serve(ctx, server, &recorder{block: true}); data == nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestPeer(t *testing.T) {
	server, _ := pair(t)
	p, err := PeerOf(server)
	if err != nil {
		t.Fatal(err)
	}
	if p.PID != os.Getpid() || int(p.UID) != os.Getuid() {
		t.Errorf("got %+v", p)
	}
	own := liveCgroup(os.Getpid())
	if id := CgroupID(own); p.Cgroup != 0 && id != 0 && p.Cgroup != id {
		t.Errorf("cgroup is %d, want %d", p.Cgroup, id)
	}
}

func TestCheck(t *testing.T) {
	own := liveCgroup(os.Getpid())
	if own == "" {
		t.Skip("no unified cgroup hierarchy")
	}
	want := Expected{Root: 100000, Machined: 7, Payload: own}
	unknown := want
	unknown.Machined = 0
	for name, tt := range map[string]struct {
		peer Peer
		want Expected
		ok   bool
	}{
		"machined":                            {Peer{1, 0, 7}, want, true},
		"machined in a user namespace":        {Peer{1, 100000, 7}, want, true},
		"another user":                        {Peer{1, 1000, 7}, want, false},
		"another cgroup":                      {Peer{1, 0, 8}, want, false},
		"old kernel, machined":                {Peer{1 << 30, 0, 0}, want, true},
		"old kernel, another user":            {Peer{1 << 30, 1000, 0}, want, false},
		"old kernel, a process of ours":       {Peer{os.Getpid(), 0, 0}, want, false},
		"machined not found, payload":         {Peer{os.Getpid(), 0, 8}, unknown, false},
		"machined not found, a process gone":  {Peer{1 << 30, 0, 8}, unknown, true},
		"machined not found, an unknown user": {Peer{1 << 30, 5, 8}, unknown, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tt.peer.Check(tt.want); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzServe(f *testing.F) {
	f.Add([]byte(hello))
	f.Add(slices.Concat([]byte(hello), call(f, 1, busName, "Hello", 0), call(f, 2, manager, "StartUnit", 0, "container-getty@1.service", "replace")))
	f.Add(slices.Concat([]byte(hello), shellCall(f, nil)))
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { null.Close() })
	f.Fuzz(func(t *testing.T, data []byte) {
		server, client := pair(t)
		s := &recorder{}
		done := make(chan struct{})
		go func() {
			defer close(done)
			fd := int(null.Fd())
			_, _, _ = client.WriteMsgUnix(data, unix.UnixRights(fd, fd, fd), nil)
			_ = client.CloseWrite()
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_ = Serve(ctx, server, s)
		_ = server.Close()
		<-done
		if len(s.logins)+len(s.shells) > 1 {
			t.Fatal("more than one session on a connection")
		}
		for _, sh := range s.shells {
			if !strings.HasPrefix(sh.Path, "/") || !strings.HasPrefix(sh.Terminal, "pts/") {
				t.Fatalf("session %+v", sh)
			}
		}
	})
}
