// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// staleListing is how long machinectl may list a container that is gone. A
// restart within systemd's default of 100 ms is quicker than that.
const staleListing = 500 * time.Millisecond

// restartsLate reports whether the unit may wait for its restart so long that
// machined has to be told about the stop: it keeps the machine of a unit that
// is not inactive, and a waiting unit is not.
func (r *renderer) restartsLate() bool {
	if restart := r.inForce("Restart"); restart == "" || restart == "no" {
		return false
	}
	for _, key := range []string{"RestartSec", "RestartMaxDelaySec"} {
		if d, ok := timeSpan(r.inForce(key)); !ok || d > staleListing {
			return true
		}
	}
	return false
}

var spanPart = regexp.MustCompile(`^\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Zµμ]*)`)

// timeSpan reads a time span of systemd.time(7); an empty one is zero. Units
// above minutes are all long.
func timeSpan(s string) (d time.Duration, ok bool) {
	units := map[string]time.Duration{
		"us": time.Microsecond, "usec": time.Microsecond, "µs": time.Microsecond, "μs": time.Microsecond,
		"ms": time.Millisecond, "msec": time.Millisecond,
		"": time.Second, "s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
		"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	}
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		m := spanPart.FindStringSubmatch(s)
		if m == nil {
			return 0, false
		}
		n, err := strconv.ParseFloat(m[1], 64)
		unit, known := units[m[2]]
		if err != nil || !known {
			return 0, false
		}
		d += time.Duration(n * float64(unit))
		s = s[len(m[0]):]
	}
	return d, true
}
