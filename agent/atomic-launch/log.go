// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"github.com/sirupsen/logrus"
)

// runtimeLog formats libcontainer's own messages, which it writes with logrus.
type runtimeLog struct{}

func (runtimeLog) Format(e *logrus.Entry) ([]byte, error) {
	line := "atomic: runtime: " + e.Message
	for k, v := range e.Data {
		line += fmt.Sprintf(", %s: %v", k, v)
	}
	if os.Getenv("JOURNAL_STREAM") != "" && e.Level <= logrus.WarnLevel {
		line = "<4>" + line
	}
	return []byte(line + "\n"), nil
}
