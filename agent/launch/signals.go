// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// forwardSignals passes on what a terminal or its user may send to this process,
// and more, until it is stopped.
func forwardSignals(send func(os.Signal) error, more ...os.Signal) (stop func()) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, append(more, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)...)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				_ = send(s) // a process that is gone needs none
			case <-done:
				return
			}
		}
	}()
	return func() { signal.Stop(signals); close(done) }
}
