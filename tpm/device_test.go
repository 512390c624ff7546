// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/paths"
)

// envTPM names a TPM whose PCR 8 may be extended. test/vm runs this test on the
// kernel's /dev/tpmrm0; a register has no way back, so nothing else should.
const envTPM = "ATOMIC_TEST_TPM"

// TestDevice runs a crowd and the torture on a TPM of the kernel's.
func TestDevice(t *testing.T) {
	device := os.Getenv(envTPM)
	if device == "" {
		t.Skip("no device in " + envTPM)
	}
	cfg := testConfig(t, device, conf.Require)
	cfg.FirmwareLog = paths.Host{}.FirmwareLog()
	m := open(t, cfg)
	began := time.Now()
	start(t, m, "etcd")
	t.Logf("first start: %v", time.Since(began))
	began = time.Now()
	start(t, m, "etcd")
	t.Logf("second start: %v", time.Since(began))

	const writers, starts = 10, 3
	var wg sync.WaitGroup
	for range writers {
		cmd := writerCommand(t, cfg, starts, "")
		wg.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	sum, _ := verified(t, cfg)
	if sum.Starts != 2+writers*starts || sum.Gaps+sum.Recovered > 0 {
		t.Errorf("%+v, want %d starts", sum, 2+writers*starts)
	}

	for range 60 {
		cmd := writerCommand(t, cfg, 20, "")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(rand.IntN(200_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // killed
		kill.Stop()
	}
	sum, _ = verified(t, cfg)
	t.Logf("%d starts, %d recovered", sum.Starts, sum.Recovered)
	if sum.Gaps > 0 || sum.Resets > 0 {
		t.Errorf("%d gaps, %d resets", sum.Gaps, sum.Resets)
	}
	for _, step := range []string{"intent", "extended", "appended"} {
		dies(t, cfg, step)
	}
	start(t, m, "etcd")
	if after, _ := verified(t, cfg); after.Starts != sum.Starts+3 || after.Recovered != sum.Recovered+1 {
		t.Errorf("%+v after %+v", after, sum)
	}
}
