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
	for i, v := range variants {
		d := time.Duration(i+1) * 10 * time.Millisecond
		results[v.name] = []sample{{d, d, d}, {d, d, d}}
	}
	var out strings.Builder
	if err := report(&out, results, true); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "2.00 times a plain service's time (target: at most 2.0), 3.0 times as fast") {
		t.Error(out.String())
	}
	results["atomic"][0].start, results["atomic"][1].start = time.Second, time.Second
	if report(&out, results, true) == nil {
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
