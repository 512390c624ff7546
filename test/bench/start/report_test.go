// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	d := []time.Duration{1, 2, 3, 4, 5}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 3, 0.95: 5, 1: 5} {
		if got := quantile(d, q); got != want {
			t.Errorf("quantile %v is %d, want %d", q, got, want)
		}
	}
	if quantile(nil, 0.5) != 0 {
		t.Error("a quantile of nothing")
	}
}

func TestReport(t *testing.T) {
	results := map[string][]sample{}
	for _, v := range variants {
		d := 10 * time.Millisecond
		if v.name == "quadlet" {
			d *= 4
		}
		results[v.name] = []sample{{d, d, d, 1}, {d, d, d, 0}}
	}
	var out strings.Builder
	if err := report(&out, results, true); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), " 4.00  (at least 3.0: met)") || strings.Contains(out.String(), "MISSED") {
		t.Error(out.String())
	}
	results["atomic"][0].start, results["atomic"][1].start = time.Second, time.Second
	if report(&out, results, true) == nil || !strings.Contains(out.String(), "(at most 1.3: MISSED)") {
		t.Error("a missed target passed")
	}
}

func TestForeign(t *testing.T) {
	got, err := foreign([]byte(`{"ociVersion":"1.2.0","root":{"path":"rootfs"},"process":{"user":{"uid":0,"gid":0},"cwd":"/","env":["A=1","NOTIFY_SOCKET=/x"]},
"mounts":[{"destination":"/run/host","source":"/run/atomic/hello/host"},{"destination":"/proc"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"env":["A=1","HELLO_FLAGS=-listen="]`, `"mounts":[{"destination":"/proc"},{"destination":"/run"`, `"path":"` + rootfs + `"`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}
