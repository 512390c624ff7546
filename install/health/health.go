// SPDX-License-Identifier: Apache-2.0

// Package health says what the answers to a container's health check mean, and
// reads and writes the file in which the launcher notes that for atomic(1):
// /run/atomic/NAME/health, see docs/formats/health.md. It asks nobody itself.
package health

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/record"
)

// Version is the version of the file.
const Version = 1

// maxSize bounds what Read accepts, MaxAnswer what is kept of an answer.
const (
	maxSize   = 64 << 10
	MaxAnswer = 4096
)

// Status is what the answers so far mean.
type Status string

// A container is starting until a check has passed or too many have failed.
const (
	Starting  Status = "starting"
	Healthy   Status = "healthy"
	Unhealthy Status = "unhealthy"
)

// State is what is known about one run of a container.
type State struct {
	Version int    `json:"version"`
	Status  Status `json:"status"`
	// Failures is how many checks have failed in a row.
	Failures int `json:"failures"`
	// Checked is when the last one ended, in seconds since the epoch.
	Checked int64 `json:"checked"`
	// Answer is why the last one failed; empty if it passed.
	Answer string `json:"answer,omitempty"`
}

// Next is the state after another check, of a container that was started age
// ago. An empty failure means that it passed. While the image's start period
// lasts, failures do not count unless a check has passed before.
func (s State) Next(h *record.Health, age time.Duration, now time.Time, failure string) State {
	n := State{Version: Version, Status: Healthy, Checked: now.Unix(), Answer: failure[:min(len(failure), MaxAnswer)]}
	if failure == "" {
		return n
	}
	n.Status, n.Failures = s.Status, s.Failures
	if n.Status == "" {
		n.Status = Starting
	}
	if n.Status != Starting || age >= time.Duration(h.StartPeriod)*time.Millisecond {
		n.Failures++
	}
	if n.Failures >= h.Retries {
		n.Status = Unhealthy
	}
	return n
}

// Read reads the file. A container that was not asked yet has none.
func Read(path string) (State, error) {
	var s State
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return s, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return State{}, fmt.Errorf("parse %s: %w", path, err)
	}
	switch s.Status {
	case Starting, Healthy, Unhealthy:
		if s.Version == Version && s.Failures >= 0 {
			return s, nil
		}
	}
	return State{}, fmt.Errorf("parse %s: %w", path, errUnknown)
}

var errUnknown = errors.New("it is not of a version that this program knows")

// Marshal is the content of the file.
func (s State) Marshal() ([]byte, error) {
	data, err := json.Marshal(s)
	return append(data, '\n'), err
}
