// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/tpm"
	"github.com/atomic-agent/atomic/tpm/eventlog"
)

func newAttestCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attest",
		Short: "Show, prove and verify what was measured into the TPM",
		Long: "Show which starts of containers were measured into the host's TPM, whether the log\n" +
			"of them is true, and prove it to others.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newAttestStatusCommand(g), newAttestLogCommand(g), newAttestStatementCommand(g), newAttestAckCommand(g),
		newAttestKeyCommand(g), newAttestEvidenceCommand(g), newAttestVerifyCommand(g),
	)
	return cmd
}

func newAttestStatusCommand(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how measurement stands on this host",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runAttestStatus(cmd.Context(), g.host(), g.Out, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

type attestLogOptions struct{ json, cel, tcg2, replay bool }

func newAttestLogCommand(g *globals) *cobra.Command {
	o := &attestLogOptions{}
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show the starts since boot, or replay them",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runAttestLog(cmd.Context(), g.host(), g.Out, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print one record in JSON on each line")
	f.BoolVar(&o.cel, "cel", false, "print a TCG Canonical Event Log in JSON")
	f.BoolVar(&o.tcg2, "tcg2", false, "print a log in the firmware's binary format")
	f.BoolVar(&o.replay, "replay", false, "compute the register from the log and compare it with the TPM's")
	cmd.MarkFlagsMutuallyExclusive("json", "cel", "tcg2", "replay")
	return cmd
}

func newAttestStatementCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "statement NAME|DIGEST",
		Short: "Print what a start was measured as",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			return runAttestStatement(g.host(), g.Out, a[0])
		},
	}
}

func newAttestAckCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ack",
		Short: "Accept a register that the log does not explain",
		Long: "Accept a register that the log does not explain, so that containers start again\n" +
			"where Measure=require. The gap stays in the log until the next boot, and every\nverifier sees it.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runAttestAck(cmd.Context(), g)
		},
	}
	g.jsonFlag(cmd.Flags())
	return cmd
}

// measurer returns the host's measurer.
func measurer(host paths.Host) (*tpm.Measurer, error) {
	c, err := conf.Load(host)
	if err != nil {
		return nil, err
	}
	return tpm.Open(tpm.FromHost(host, c.TPM, ""))
}

// indented prints what is for programs, and for people who look at it.
func indented(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// asRoot explains why the log cannot be read.
func asRoot(err error) error {
	if errors.Is(err, fs.ErrPermission) && hint.Of(err) == "" {
		return hint.New(err, "the log of measured starts can be read by root only")
	}
	return err
}

func runAttestStatus(ctx context.Context, host paths.Host, out io.Writer, asJSON bool) error {
	m, err := measurer(host)
	if err != nil {
		return err
	}
	s, err := m.Status(ctx)
	if err != nil {
		return asRoot(err)
	}
	if asJSON {
		return indented(out, s)
	}
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', tabwriter.AlignRight)
	line := func(key, format string, args ...any) {
		fmt.Fprintf(w, "%s:\t %s\n", key, fmt.Sprintf(format, args...))
	}
	line("State", "%s", s.State)
	if s.Problem != "" {
		line("Problem", "%s", s.Problem)
	}
	line("Measure", "%s", s.Mode)
	line("TPM", "%s, reset count %d", s.Device, s.ResetCount)
	for _, d := range s.Value {
		line(fmt.Sprintf("PCR %d", s.PCR), "%s %s", d.HashAlg, d.Digest)
	}
	line("Log", "%s", s.Log)
	line("Starts", "%d measured (%d of them recovered), %d not measured", s.Starts, s.Recovered, s.Unmeasured)
	return w.Flush()
}

func runAttestLog(ctx context.Context, host paths.Host, out io.Writer, o *attestLogOptions) error {
	m, err := measurer(host)
	if err != nil {
		return err
	}
	if o.replay {
		return replayLog(ctx, m, out)
	}
	records, err := tpm.ReadLog(host.EventLog())
	if err != nil {
		return asRoot(err)
	}
	switch {
	case o.cel:
		return eventlog.WriteCEL(out, records)
	case o.tcg2:
		return eventlog.WriteTCG2(out, records)
	}
	notes, err := m.Unanchored()
	if err != nil {
		return asRoot(err)
	}
	records = append(records, notes...)
	slices.SortStableFunc(records, func(a, b eventlog.Record) int {
		return cmp.Compare(a.Content.Timestamp, b.Content.Timestamp)
	})
	if !o.json {
		return printLog(out, records)
	}
	e := json.NewEncoder(out)
	for _, r := range records {
		if err := e.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// printLog prints records for a reader; the time is that since boot, as in
// `journalctl -o short-monotonic`.
func printLog(out io.Writer, records []eventlog.Record) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SECONDS\tEVENT\tCONTAINER\tSTATEMENT\tNOTE")
	for _, r := range records {
		e, err := eventlog.ParseEvent(r.Content.String)
		if err != nil {
			return err
		}
		name, digest, note := "-", "-", ""
		if e.Kind == eventlog.Start {
			name, digest = e.Name, e.Digest[:12]
		}
		switch {
		case r.PCR == nil:
			note = "not measured: " + r.Atomic.Unanchored
		case r.Atomic.Recovered:
			note = "recovered"
		case e.Kind == eventlog.Gap:
			note = "unexplained register value " + e.Digest
		}
		seconds := float64(r.Content.Timestamp) / 1e6
		fmt.Fprintf(w, "%.6f\t%s\t%s\t%s\t%s\n", seconds, strings.TrimPrefix(string(e.Kind), "atomic-"), name, digest, note)
	}
	return w.Flush()
}

func replayLog(ctx context.Context, m *tpm.Measurer, out io.Writer) error {
	s, err := m.Snapshot(ctx)
	if err != nil {
		return asRoot(err)
	}
	sum, err := s.Verify()
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	if len(s.Records) == 0 {
		fmt.Fprintln(out, "Nothing was measured since boot.")
		return nil
	}
	for _, d := range s.Register {
		fmt.Fprintf(out, "PCR %d %s %s\n", s.PCR, d.HashAlg, d.Digest)
	}
	fmt.Fprintf(out, "The log gives the register's value: %d starts, %d gaps, %d resets.\n", sum.Starts, sum.Gaps, sum.Resets)
	return nil
}

func runAttestStatement(host paths.Host, out io.Writer, which string) error {
	m, err := measurer(host)
	if err != nil {
		return err
	}
	digest, err := findStatement(host, m, which)
	if err != nil {
		return err
	}
	body, err := m.LoadStatement(digest)
	if err != nil {
		return err
	}
	_, err = out.Write(body) // exactly the bytes that were hashed
	return err
}

// findStatement returns the digest of a container's last start, measured or
// not, or the one digest that begins with which.
func findStatement(host paths.Host, m *tpm.Measurer, which string) (string, error) {
	records, err := tpm.ReadLog(host.EventLog())
	if err != nil {
		return "", asRoot(err)
	}
	notes, err := m.Unanchored()
	if err != nil {
		return "", asRoot(err)
	}
	var byName string
	var last uint64
	for _, r := range append(records, notes...) {
		e, err := eventlog.ParseEvent(r.Content.String)
		if err != nil {
			return "", err
		}
		if e.Kind != eventlog.Start {
			continue
		}
		if e.Digest == which || len(which) >= 12 && len(which) < 64 && e.Digest[:len(which)] == which {
			return e.Digest, nil
		}
		if e.Name == which && r.Content.Timestamp >= last {
			byName, last = e.Digest, r.Content.Timestamp
		}
	}
	if byName == "" {
		return "", hint.New(fmt.Errorf("%q was not started since boot", which), "`atomic attest log` lists the starts")
	}
	return byName, nil
}

func runAttestAck(ctx context.Context, g *globals) error {
	m, err := measurer(g.host())
	if err != nil {
		return err
	}
	gap, err := m.Acknowledge(ctx)
	if err != nil {
		return asRoot(fmt.Errorf("acknowledge: %w", err))
	}
	if gap {
		return g.result(done{Name: "register", Status: "acknowledged"}, "Noted. The gap stays in the log until the next boot.")
	}
	return g.result(done{Name: "register", Status: unchanged}, "Nothing to acknowledge: the log explains the register.")
}
