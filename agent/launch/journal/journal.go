// SPDX-License-Identifier: Apache-2.0

// Package journal writes the start path's log: lines for journald, or for people.
package journal

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// handler writes one line a message, with the priority prefix that journald
// reads when stderr leads there.
type handler struct {
	out    io.Writer
	prefix bool
}

// New is a handler that writes to out, stderr.
func New(out io.Writer) slog.Handler {
	return handler{out, os.Getenv("JOURNAL_STREAM") != ""}
}

func (h handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (h handler) WithAttrs([]slog.Attr) slog.Handler               { return h }
func (h handler) WithGroup(string) slog.Handler                    { return h }

func (h handler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	if h.prefix {
		b.WriteString(priority(r.Level))
	}
	b.WriteString("atomic: " + r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, ", %s: %v", a.Key, a.Value)
		return true
	})
	b.WriteByte('\n')
	_, err := io.WriteString(h.out, b.String())
	return err
}

func priority(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "<3>"
	case level >= slog.LevelWarn:
		return "<4>"
	}
	return "<6>"
}
