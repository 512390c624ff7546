// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"
)

// sample is one start and stop.
type sample struct {
	start, stop time.Duration // what systemctl takes
	inside      time.Duration // of that, from activating to active
}

// measure starts a unit and stops it again, as a person would.
func (h *host) measure(ctx context.Context, unit string) (sample, error) {
	res, err := h.bed.Run(ctx, "bash", "-c", script, "bench", unit)
	if err != nil {
		return sample{}, err
	}
	var start, stop, from, to int64
	if _, err := fmt.Sscan(res.Stdout, &start, &from, &to, &stop); err != nil {
		return sample{}, fmt.Errorf("read times %q: %w", res.Stdout, err)
	}
	us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	return sample{start: us(start), stop: us(stop), inside: us(to - from)}, nil
}

// script prints how long a start took, when the unit began to activate and
// became active, and how long the stop took, in microseconds. The clock is
// bash's own: no process is started for it.
const script = `set -e
began=${EPOCHREALTIME/[^0-9]/}
systemctl start "$1"
ended=${EPOCHREALTIME/[^0-9]/}
echo $((ended - began))
systemctl show -p InactiveExitTimestampMonotonic --value "$1"
systemctl show -p ActiveEnterTimestampMonotonic --value "$1"
began=${EPOCHREALTIME/[^0-9]/}
systemctl stop "$1"
ended=${EPOCHREALTIME/[^0-9]/}
echo $((ended - began))
`
