// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// server answers requests, most of which ask it to do something to itself.
type server struct {
	exit     chan int      // the code to exit with
	watchdog chan struct{} // closed: let the watchdog starve
	hang     sync.Once

	mu      sync.Mutex
	signals []string // seen so far
	memory  [][]byte // filled so far
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		host, _ := os.Hostname()
		fmt.Fprintf(w, "hello from %s, pid %d\n", host, os.Getpid())
	})
	mux.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, strings.Join(os.Environ(), "\n"))
	})
	mux.HandleFunc("/signals", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		fmt.Fprintln(w, strings.Join(s.signals, " "))
	})
	mux.HandleFunc("/exit", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "bye")
		s.exit <- number(r, "code")
	})
	mux.HandleFunc("/alloc", func(w http.ResponseWriter, r *http.Request) {
		s.fill(number(r, "mb"))
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("/out", func(_ http.ResponseWriter, r *http.Request) { fmt.Println(r.FormValue("text")) })
	mux.HandleFunc("/err", func(_ http.ResponseWriter, r *http.Request) { fmt.Fprintln(os.Stderr, r.FormValue("text")) })
	mux.HandleFunc("/notify", func(w http.ResponseWriter, r *http.Request) {
		answer(w, nil, notify(r.FormValue("state")))
	})
	mux.HandleFunc("/hang", func(http.ResponseWriter, *http.Request) { s.hang.Do(func() { close(s.watchdog) }) })
	mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
		data, err := os.ReadFile(r.FormValue("path"))
		answer(w, data, err)
	})
	mux.HandleFunc("/list", func(w http.ResponseWriter, r *http.Request) {
		entries, err := os.ReadDir(r.FormValue("path"))
		var names strings.Builder
		for _, e := range entries {
			fmt.Fprintln(&names, e.Name())
		}
		answer(w, []byte(names.String()), err)
	})
	mux.HandleFunc("/write", func(w http.ResponseWriter, r *http.Request) {
		answer(w, nil, os.WriteFile(r.FormValue("path"), []byte(r.FormValue("data")), 0o644))
	})
	return mux
}

// answer sends data, or the error as a 500.
func answer(w http.ResponseWriter, data []byte, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(data)
}

func number(r *http.Request, key string) int {
	n, _ := strconv.Atoi(r.FormValue(key))
	return n
}

func (s *server) saw(signal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signals = append(s.signals, signal)
}

// fill allocates memory and writes to every page of it.
func (s *server) fill(mib int) {
	if mib <= 0 {
		return
	}
	block := make([]byte, mib<<20)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.memory = append(s.memory, block)
	fmt.Printf("hello: filled %d MiB\n", mib)
}

// feedWatchdog does so at half the time that systemd asked for.
func (s *server) feedWatchdog() {
	usec, err := strconv.Atoi(os.Getenv("WATCHDOG_USEC"))
	pid := os.Getenv("WATCHDOG_PID")
	if err != nil || usec <= 0 || (pid != "" && pid != strconv.Itoa(os.Getpid())) {
		return
	}
	tick := time.NewTicker(time.Duration(usec) * time.Microsecond / 2)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = notify("WATCHDOG=1")
		case <-s.watchdog:
			return
		}
	}
}

// notify tells systemd; without a socket it does nothing.
func notify(state string) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte(state))
	return err
}

// monotonic is CLOCK_MONOTONIC in microseconds: systemd wants to know when a
// reload began.
func monotonic() int64 {
	var t syscall.Timespec
	const clockMonotonic = 1
	_, _, _ = syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano() / 1000
}
