// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
)

func TestLog(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(handler{&out, true})
	log.Debug("not shown")
	log.Info("said")
	log.Warn("cannot x, ignoring", "error", errors.New("y"))
	want := "<6>atomic: said\n<4>atomic: cannot x, ignoring, error: y\n"
	if got := out.String(); got != want {
		t.Errorf("got %q", got)
	}
}
