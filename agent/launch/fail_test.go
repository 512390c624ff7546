// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"testing"
)

// TestFail is about the order in which a start that has handed init over
// fails: systemd kills the launcher once init is dead.
func TestFail(t *testing.T) {
	p, end := child(t)
	cause := errors.New("cause")
	told := false
	l := Launcher{Report: func(err error) {
		told = errors.Is(err, cause)
		if p.gone() {
			t.Error("init was killed before the reason was told")
		}
	}}
	err := l.fail(p, cause)
	var reported *ExitError
	if !told || !errors.As(err, &reported) {
		t.Errorf("told %t, %v", told, err)
	}
	end()
	if !p.gone() {
		t.Error("init was not killed")
	}
}
