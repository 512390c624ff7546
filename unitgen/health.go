// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Healthcheck is the health check of an image configuration, as Docker's
// image format defines it. Times are nanoseconds; zero is the default.
type Healthcheck struct {
	Test                           []string
	Interval, Timeout, StartPeriod time.Duration
	Retries                        int
}

// Health is a health check that can be run.
type Health struct {
	Command                        []string
	Interval, Timeout, StartPeriod time.Duration
	Retries                        int
}

// The defaults of the image format, and the longest that anybody waits.
const (
	healthInterval = 30 * time.Second
	healthTimeout  = 30 * time.Second
	healthRetries  = 3
	healthLongest  = time.Hour
)

// health reads the image's health check. One that cannot be run is a warning:
// the container works without it.
func (r *renderer) health() *Health {
	c := r.in.Healthcheck
	if c == nil || len(c.Test) == 0 || c.Test[0] == "NONE" {
		return nil
	}
	h := &Health{}
	switch {
	case c.Test[0] == "CMD" && len(c.Test) > 1:
		h.Command = slices.Clone(c.Test[1:])
	case c.Test[0] == "CMD-SHELL" && len(c.Test) == 2:
		h.Command = []string{"/bin/sh", "-c", c.Test[1]}
	default:
		r.warnf("the image's health check is neither CMD nor CMD-SHELL, and is not used")
		return nil
	}
	if slices.ContainsFunc(h.Command, func(s string) bool { return strings.ContainsRune(s, 0) }) || h.Command[0] == "" {
		r.warnf("the image's health check is no command, and is not used")
		return nil
	}
	pick := func(d, byDefault time.Duration) time.Duration {
		if d <= 0 {
			return byDefault
		}
		return max(min(d, healthLongest), time.Millisecond)
	}
	h.Interval, h.Timeout, h.StartPeriod = pick(c.Interval, healthInterval), pick(c.Timeout, healthTimeout), pick(c.StartPeriod, 0)
	if h.Retries = healthRetries; c.Retries > 0 {
		h.Retries = min(c.Retries, 100)
	}
	return h
}

// healthOftenest is the shortest time between two checks by a timer.
const healthOftenest = time.Second

// healthTimer renders the timer. It runs while the container's unit, which
// wants it, is up, and is stopped with that; started on its own it does nothing.
func (r *renderer) healthTimer() []byte {
	switch r.in.Options.HealthOnFailure {
	case "", "none", "restart":
	default:
		r.probs.addf("--health-on-failure", 0, 0, "%q is neither none nor restart", r.in.Options.HealthOnFailure)
	}
	if r.out.Health == nil {
		if r.in.Options.HealthOnFailure == "restart" {
			r.warnf("--health-on-failure has no effect: the image has no health check")
		}
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# Written by atomic for the container %[1]s. Changes are lost at its next update;
# systemctl edit %[2]s makes a drop-in that is not.
[Unit]
Description=Health checks of container %[1]s
Documentation=man:atomic-containers(1)
DefaultDependencies=no
StopWhenUnneeded=yes
StartLimitIntervalSec=0
After=%[1]s.service
`, r.in.Name, HealthTimerName(r.in.Name))
	if r.outlives() {
		outliveHelper(&b)
	}
	every := max(r.out.Health.Interval, healthOftenest).Seconds()
	fmt.Fprintf(&b, "\n[Timer]\nOnActiveSec=%[1]gs\nOnUnitInactiveSec=%[1]gs\nAccuracySec=1s\n", every)
	return []byte(b.String())
}
