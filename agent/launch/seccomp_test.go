// SPDX-License-Identifier: Apache-2.0

//go:build cgo && seccomp

package launch

import (
	"encoding/binary"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The test program is the traced child as well.
func init() {
	if len(os.Args) == 2 && os.Args[1] == seccompLoader {
		runtime.LockOSThread()
		config, err := io.ReadAll(os.Stdin)
		if err == nil {
			err = LoadSeccomp(config)
		}
		_, _ = os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
}

const seccompConfig = `{"process":{"args":["x"],"cwd":"/"},"root":{"path":"/"},"linux":{"seccomp":SECCOMP}}`

func TestCompileSeccomp(t *testing.T) {
	for name, tt := range map[string]struct {
		profile string
		flags   uint64
	}{
		"deny list":  {`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mount"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}`, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		"allow list": {`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","prctl","seccomp"],"action":"SCMP_ACT_ALLOW"}]}`, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		"no flags":   {`{"defaultAction":"SCMP_ACT_ALLOW","flags":[],"syscalls":[{"names":["mount"],"action":"SCMP_ACT_ERRNO"}]}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := compileSeccomp(t.Context(), []byte(strings.Replace(seccompConfig, "SECCOMP", tt.profile, 1)))
			if err != nil {
				t.Fatal(err)
			}
			if f.Flags != tt.flags || len(f.Filter) == 0 || len(f.Filter)%8 != 0 {
				t.Fatalf("flags %#x, %d bytes", f.Flags, len(f.Filter))
			}
			// A filter begins by loading the architecture or the number.
			if code := binary.NativeEndian.Uint16(f.Filter); code != 0x20 {
				t.Errorf("the first instruction is %#x", code)
			}
		})
	}
}

func TestCompileSeccompRefuses(t *testing.T) {
	_, err := compileSeccomp(t.Context(), []byte(strings.Replace(seccompConfig, "SECCOMP", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_X"}]}`, 1)))
	if err == nil || !strings.Contains(err.Error(), "SCMP_ACT_X") {
		t.Errorf("got %v", err)
	}
	if f, err := compileSeccomp(t.Context(), []byte(strings.Replace(seccompConfig, "SECCOMP", "null", 1))); f != nil || err != nil {
		t.Errorf("without a profile: %v, %v", f, err)
	}
}
