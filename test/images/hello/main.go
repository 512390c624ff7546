// SPDX-License-Identifier: Apache-2.0

// Command hello is the payload of the hello test images: a small web server
// that behaves towards systemd as a well-made service does (READY, RELOADING,
// STOPPING, watchdog, socket activation) and misbehaves on request.
//
// It takes its flags from the command line and, after them, from the
// environment variable HELLO_FLAGS, so that a template needs one value only.
// Only the standard library is used: the source is compiled where the images
// are built, and runs in an image that holds nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// options are the ways to misbehave.
type options struct {
	listen string // address of the web server; empty: none
	ready  bool   // send READY=1
	exit   int    // exit with this code; -1: serve
	early  bool   // exit before READY, not after
	ignore string // signals that are logged and otherwise ignored
	stop   string // a further signal that means stop
	out    int    // lines for stdout
	err    int    // lines for stderr
	alloc  int    // MiB to fill
	notify string // a further notification, sent after READY
	hang   bool   // let the watchdog starve
	crash  bool   // die of a memory fault, with a core, once ready
	keep   bool   // leave the socket to systemd, for the next start
}

func parse(args []string, env string) (options, error) {
	var o options
	f := flag.NewFlagSet("hello", flag.ContinueOnError)
	f.StringVar(&o.listen, "listen", "127.0.0.1:8080", "address of the web server, empty for none")
	f.BoolVar(&o.ready, "ready", true, "tell systemd when ready")
	f.IntVar(&o.exit, "exit", -1, "exit with this code instead of serving")
	f.BoolVar(&o.early, "early", false, "with -exit: exit before being ready")
	f.StringVar(&o.ignore, "ignore", "", "comma-separated signals to ignore, for example TERM,INT")
	f.StringVar(&o.stop, "stop", "", "a further signal that stops the server, for example USR1")
	f.IntVar(&o.out, "out", 0, "print this many lines to stdout")
	f.IntVar(&o.err, "err", 0, "print this many lines to stderr")
	f.IntVar(&o.alloc, "alloc", 0, "fill this many MiB of memory once ready")
	f.StringVar(&o.notify, "notify", "", "send this notification after READY=1")
	f.BoolVar(&o.hang, "hang", false, "do not feed the watchdog")
	f.BoolVar(&o.crash, "crash", false, "once ready, die of a memory fault that nobody handles")
	f.BoolVar(&o.keep, "keep", false, "keep the listening socket in systemd's store of descriptors")
	err := f.Parse(append(args, strings.Fields(env)...))
	if err == nil && f.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	return o, err
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "attack" {
		if err := attack(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "hello:", err)
			os.Exit(1)
		}
		return
	}
	o, err := parse(os.Args[1:], os.Getenv("HELLO_FLAGS"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(2)
	}
	code, err := run(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
	}
	os.Exit(code)
}

// run is one life of the server; it returns the exit code.
func run(o options) (int, error) {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, watched()...)

	for i := range o.out {
		fmt.Printf("hello: stdout line %d\n", i+1)
	}
	for i := range o.err {
		fmt.Fprintf(os.Stderr, "hello: stderr line %d\n", i+1)
	}
	if o.exit >= 0 && o.early {
		return o.exit, nil
	}

	s := &server{exit: make(chan int, 1), watchdog: make(chan struct{})}
	if o.listen != "" || os.Getenv("LISTEN_FDS") != "" {
		l, err := listen(o.listen)
		if err != nil {
			return 1, err
		}
		if o.keep {
			if err := keep(l); err != nil {
				return 1, err
			}
		}
		fmt.Printf("hello: listening on %s\n", l.Addr())
		go func() { _ = (&http.Server{Handler: s.handler(), ReadHeaderTimeout: time.Minute}).Serve(l) }()
	}
	if o.ready {
		_ = notify("READY=1\nSTATUS=Saying hello")
	}
	if o.notify != "" {
		_ = notify(o.notify)
	}
	fmt.Printf("hello: ready, pid %d\n", os.Getpid())
	if o.exit >= 0 {
		return o.exit, nil
	}
	s.fill(o.alloc)
	if o.crash {
		crash()
	}
	if !o.hang {
		go s.feedWatchdog()
	}
	return s.wait(o, signals), nil
}

// keep gives systemd a socket that did not come from there.
func keep(l net.Listener) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	tcp, ok := l.(*net.TCPListener)
	if !ok || socket == "" || os.Getenv("LISTEN_FDS") != "" {
		return nil
	}
	file, err := tcp.File()
	if err != nil {
		return err
	}
	defer file.Close()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	return syscall.Sendmsg(fd, []byte("FDSTORE=1\nFDNAME=web"), syscall.UnixRights(int(file.Fd())), &syscall.SockaddrUnix{Name: socket}, 0)
}

// crash takes the handler of memory faults away, which the Go runtime would
// make an orderly panic of, and causes one. A signal would not do: the kernel
// keeps those that nobody handles from process 1. The core goes to a directory
// that can be written.
func crash() {
	_ = os.Chdir("/dev/shm")
	var none [4]uintptr
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(syscall.SIGSEGV), uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0)
	var nowhere *int
	*nowhere = 1
}

// wait serves until a signal or a request ends it.
func (s *server) wait(o options, signals <-chan os.Signal) int {
	for {
		select {
		case code := <-s.exit:
			fmt.Printf("hello: exit %d as requested\n", code)
			return code
		case got := <-signals:
			sig, ok := got.(syscall.Signal)
			if !ok {
				continue
			}
			s.saw(name(sig))
			fmt.Printf("hello: signal %s\n", name(sig))
			switch {
			case named(o.ignore, sig):
			case named(o.stop, sig), sig == syscall.SIGTERM, sig == syscall.SIGINT, sig == syscall.SIGQUIT:
				_ = notify("STOPPING=1")
				fmt.Println("hello: bye")
				return 0
			case sig == syscall.SIGHUP:
				_ = notify("RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(monotonic(), 10))
				fmt.Println("hello: reloaded")
				_ = notify("READY=1")
			}
		}
	}
}

// sigRTMin is SIGRTMIN as systemd counts it: the C library keeps two of the
// kernel's real-time signals for itself.
const sigRTMin = 34

// signalNames are the signals that hello tells apart.
var signalNames = map[syscall.Signal]string{
	syscall.SIGHUP: "HUP", syscall.SIGINT: "INT", syscall.SIGQUIT: "QUIT",
	syscall.SIGTERM: "TERM", syscall.SIGUSR1: "USR1", syscall.SIGUSR2: "USR2",
	syscall.SIGWINCH: "WINCH", syscall.SIGPWR: "PWR", sigRTMin + 3: "RTMIN+3",
}

func watched() []os.Signal {
	var list []os.Signal
	for s := range signalNames {
		list = append(list, s)
	}
	return list
}

func name(s syscall.Signal) string { return signalNames[s] }

// named reports whether a comma-separated list names the signal.
func named(list string, s syscall.Signal) bool {
	for n := range strings.SplitSeq(list, ",") {
		if strings.TrimPrefix(n, "SIG") == name(s) {
			return true
		}
	}
	return false
}

// listen takes the socket that systemd passed, if any, or opens its own.
func listen(addr string) (net.Listener, error) {
	if os.Getenv("LISTEN_FDS") != "" {
		if pid := os.Getenv("LISTEN_PID"); pid != strconv.Itoa(os.Getpid()) {
			return nil, fmt.Errorf("LISTEN_PID is %s, but this is process %d", pid, os.Getpid())
		}
		l, err := net.FileListener(os.NewFile(3, "listen"))
		if err != nil {
			return nil, fmt.Errorf("take socket from systemd: %w", err)
		}
		return l, nil
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("address %s is taken: %w", addr, err)
	}
	return l, err
}
