// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/machined"
)

// slow is a machined that takes its time.
type slow struct {
	after    time.Duration
	err      error
	starting bool
}

func (s slow) Running() bool { return !s.starting }

func (s slow) Register(ctx context.Context, _ machined.Machine) error {
	select {
	case <-time.After(s.after):
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestRegistration(t *testing.T) {
	for name, tt := range map[string]struct {
		slow
		ready   time.Duration // how long the payload takes
		waits   time.Duration // before its release
		pending bool          // in the end
	}{
		"at once":                    {slow{}, 0, 0, false},
		"slow":                       {slow{after: time.Second}, 0, time.Second, false},
		"slower":                     {slow{after: 3 * time.Second}, 0, registerPatience, false},
		"slower than the payload":    {slow{after: 3 * time.Second}, 2 * time.Second, registerPatience, false},
		"slow, as it is starting":    {slow{after: 3 * time.Second, starting: true}, 0, 3 * time.Second, false},
		"refused":                    {slow{err: errors.New("no")}, 0, 0, true},
		"refused by one that starts": {slow{err: errors.New("no"), starting: true}, 0, 0, true},
		"not there":                  {slow{err: machined.ErrUnavailable}, time.Second, 0, true},
		"not a name":                 {slow{err: machined.ErrInvalidName}, 0, 0, false},
		"refused late":               {slow{after: 3 * time.Second, err: errors.New("no")}, 2 * time.Second, registerPatience, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				l := Launcher{Registrar: tt.slow, Log: slog.New(slog.DiscardHandler)}
				d := &deployment{name: "x", rec: &record.Record{}}
				d.rec.Atomic.Start.Register = true
				run := runDir(dir)
				began := time.Now()
				r := l.register(t.Context(), run, d, &initProcess{pid: 1, fd: -1})
				r.wait()
				if got := time.Since(began); got != tt.waits {
					t.Errorf("the payload was kept for %v, want %v", got, tt.waits)
				}
				time.Sleep(tt.ready)
				synctest.Wait()
				r.end(t.Context())
				if _, err := os.Stat(run.pending()); (err == nil) != tt.pending {
					t.Errorf("noted: %v, want %t", err, tt.pending)
				}
			})
		})
	}
}

func TestNoRegistration(t *testing.T) {
	r := Launcher{}.register(t.Context(), runDir(t.TempDir()), &deployment{rec: &record.Record{}}, &initProcess{})
	r.wait()
	r.end(t.Context())
	if r != nil {
		t.Error("registered without being asked")
	}
}

func TestUnanswered(t *testing.T) {
	for _, err := range []error{context.DeadlineExceeded, os.ErrDeadlineExceeded, errors.Join(machined.ErrUnavailable, os.ErrDeadlineExceeded)} {
		if !unanswered(err) {
			t.Errorf("%v was an answer", err)
		}
	}
	if unanswered(machined.ErrUnavailable) || unanswered(nil) {
		t.Error("an answer is none")
	}
}
