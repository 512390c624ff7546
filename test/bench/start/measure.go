// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// sample is one start and stop.
type sample struct {
	start, stop time.Duration // what systemctl takes
	inside      time.Duration // of that, from activating to active
	helpers     int64         // PSS of all that runs beside the payload, in KiB
}

// measure starts units and stops them again, as a person would.
func (h *host) measure(ctx context.Context, units ...string) (sample, error) {
	res, err := h.bed.Run(ctx, append([]string{"bash", "-c", script, "bench"}, units...)...)
	if err != nil {
		return sample{}, err
	}
	var start, stop, from, to, helpers int64
	if _, err := fmt.Sscan(res.Stdout, &start, &from, &to, &helpers, &stop); err != nil {
		return sample{}, fmt.Errorf("read times %q: %w", res.Stdout, err)
	}
	us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	return sample{start: us(start), stop: us(stop), inside: us(to - from), helpers: helpers}, nil
}

// script prints how long a start took, when the first unit began to activate
// and became active, what runs beside its payload, and how long the stop took,
// in microseconds and KiB. The clock is bash's own: no process is started for
// it.
const script = `set -e
began=${EPOCHREALTIME/[^0-9]/}
systemctl start "$@"
ended=${EPOCHREALTIME/[^0-9]/}
echo $((ended - began))
systemctl show -p InactiveExitTimestampMonotonic --value "$1"
systemctl show -p ActiveEnterTimestampMonotonic --value "$1"
pss=0
for pid in $(find /sys/fs/cgroup$(systemctl show -p ControlGroup --value "$1") -name cgroup.procs -exec cat {} + 2>/dev/null); do
	[ "$(cat /proc/$pid/comm 2>/dev/null)" = hello ] && continue
	while read key value _; do
		[ "$key" = Pss: ] && pss=$((pss + value))
	done < /proc/$pid/smaps_rollup || true
done 2>/dev/null
echo $pss
began=${EPOCHREALTIME/[^0-9]/}
systemctl stop "$@"
ended=${EPOCHREALTIME/[^0-9]/}
echo $((ended - began))
`

// execute measures a command in a running container, several times.
func (h *host) execute(ctx context.Context, n int, command ...string) ([]time.Duration, error) {
	const loop = `for i in $(seq %d); do
	began=${EPOCHREALTIME/[^0-9]/}
	"$@" >/dev/null 2>&1 || true
	ended=${EPOCHREALTIME/[^0-9]/}
	echo $((ended - began))
done`
	res, err := h.bed.Run(ctx, append([]string{"bash", "-c", fmt.Sprintf(loop, n), "bench"}, command...)...)
	if err != nil {
		return nil, err
	}
	var all []time.Duration
	for text := range strings.FieldsSeq(res.Stdout) {
		var us int64
		if _, err := fmt.Sscan(text, &us); err != nil {
			return nil, fmt.Errorf("read times %q: %w", res.Stdout, err)
		}
		all = append(all, time.Duration(us)*time.Microsecond)
	}
	return all, nil
}
