// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/atomic-agent/atomic/install/record"
)

// jsonFlag defines --json. With it a verb prints one JSON value on standard
// output and nothing else there; progress, questions and tables go to standard
// error, as errors always do.
func (g *globals) jsonFlag(f *pflag.FlagSet) {
	f.BoolVar(&g.json, "json", false, "print the result as JSON")
}

// talk is where everything goes that is for a person.
func (g *globals) talk() io.Writer {
	if g.json {
		return g.Err
	}
	return g.Out
}

// done is what a verb that changes something says about one thing that it has
// changed. Every man page whose verbs print it refers to atomic(1), which
// describes it.
type done struct {
	// Name is the container's or the image's, whatever was named.
	Name string `json:"name"`
	// Status is a word for what was done; "unchanged" if nothing was to do.
	Status string `json:"status"`
	// DryRun says that it was not done.
	DryRun bool `json:"dryRun,omitempty"`
	// Image and Digest are what a container is installed from, or what was
	// fetched; Deployment is the container's current one.
	Image      string `json:"image,omitempty"`
	Digest     string `json:"digest,omitempty"`
	Deployment *int   `json:"deployment,omitempty"`
}

const (
	unchanged   = "unchanged"
	uninstalled = "uninstalled"
)

// doneTo describes a container after a change.
func doneTo(name, status string, rec *record.Record) done {
	return done{Name: name, Status: status, Image: rec.Image, Digest: rec.Atomic.ManifestDigest, Deployment: &rec.Atomic.Generation}
}

// result prints what was done: v as JSON, or a line.
func (g *globals) result(v any, format string, args ...any) error {
	if g.json {
		return printJSON(g, v)
	}
	_, err := fmt.Fprintf(g.Out, format+"\n", args...)
	return err
}

// jsonOnly prints as JSON what a person has read already or needs no words for.
func (g *globals) jsonOnly(v any) error {
	if !g.json {
		return nil
	}
	return printJSON(g, v)
}

func printJSON(g *globals, v any) error {
	enc := json.NewEncoder(g.Out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	return enc.Encode(v)
}
