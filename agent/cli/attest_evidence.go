// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/tpm/verify"
)

func newAttestKeyCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Print the name of this host's attestation key",
		Long: "Print the name of the key with which this host's TPM signs evidence. Enrol it with\n" +
			"the verifier over a channel that you trust: it is the same at every boot.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runAttestKey(cmd.Context(), g)
		},
	}
	g.jsonFlag(cmd.Flags())
	return cmd
}

func newAttestEvidenceCommand(g *globals) *cobra.Command {
	var nonce string
	cmd := &cobra.Command{
		Use:   "evidence --nonce HEX",
		Short: "Print signed evidence of what started on this host",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := parseHex("nonce", nonce)
			if err != nil {
				return usage(cmd, err)
			}
			return runAttestEvidence(cmd.Context(), g.host(), g.Out, n)
		},
	}
	cmd.Flags().StringVar(&nonce, "nonce", "", "the verifier's random number, in `HEX`")
	return cmd
}

type attestVerifyOptions struct {
	nonce, key []byte
	policy     string
	json       bool
}

func newAttestVerifyCommand(g *globals) *cobra.Command {
	o := &attestVerifyOptions{}
	var nonce, key string
	cmd := &cobra.Command{
		Use:   "verify --nonce HEX --key NAME [--policy FILE] FILE",
		Short: "Judge the evidence of a host",
		Long: "Judge the evidence of a host, which must be signed with an enrolled key for the\n" +
			"nonce that this verifier chose. Works on any machine, without a TPM.",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			var err, err2 error
			o.nonce, err = parseHex("nonce", nonce)
			o.key, err2 = parseHex("key", key)
			if err := errors.Join(err, err2); err != nil {
				return usage(cmd, err)
			}
			return runAttestVerify(g.In, g.Out, o, a[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&nonce, "nonce", "", "the nonce that the evidence was asked for with, in `HEX`")
	f.StringVar(&key, "key", "", "the host's enrolled key, a `NAME` that 'atomic attest key' printed")
	f.StringVar(&o.policy, "policy", "", "reject starts that the policy in `FILE` does not allow")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	return cmd
}

func parseHex(what, text string) ([]byte, error) {
	b, err := hex.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%s %q is not hex", what, text)
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("--%s is missing", what)
	}
	return b, nil
}

func runAttestKey(ctx context.Context, g *globals) error {
	m, err := measurer(g.host())
	if err != nil {
		return err
	}
	public, err := m.AttestationKey(ctx)
	if err != nil {
		return asRoot(err)
	}
	name, err := verify.KeyName(public)
	if err != nil {
		return err
	}
	return g.result(map[string]string{"key": hex.EncodeToString(name)}, "%x", name)
}

func runAttestEvidence(ctx context.Context, host paths.Host, out io.Writer, nonce []byte) error {
	m, err := measurer(host)
	if err != nil {
		return err
	}
	e, err := m.Evidence(ctx, nonce)
	if err != nil {
		return asRoot(err)
	}
	return indented(out, e)
}

func runAttestVerify(in io.Reader, out io.Writer, o *attestVerifyOptions, file string) error {
	data, err := readInput(in, file)
	if err != nil {
		return fmt.Errorf("read evidence: %w", err)
	}
	e, err := verify.Parse(data)
	if err != nil {
		return err
	}
	trust := verify.Trust{AK: o.key, Nonce: o.nonce}
	if o.policy != "" {
		text, err := os.ReadFile(filepath.Clean(o.policy))
		if err != nil {
			return fmt.Errorf("read policy: %w", err)
		}
		if trust.Policy, err = verify.ParsePolicy(text); err != nil {
			return err
		}
	}
	result, err := verify.Verify(e, trust)
	if err != nil {
		return explainRejection(err)
	}
	if o.json {
		return indented(out, result)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CONTAINER\tIMAGE\tMANIFEST\tSIGNATURE\tSTATEMENT")
	for _, s := range result.Starts {
		image := s.Statement.Image
		fmt.Fprintf(w, "%s\t%s\t%.19s\t%s\t%.12s\n", s.Name, image.Ref, image.Manifest, s.Statement.Signature.Verdict, s.Digest)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "Accepted: %d starts since boot, PCR %d is %s.\n", len(result.Starts), result.Register, result.Value)
	return err
}

// readInput reads a file, or standard input for "-".
func readInput(in io.Reader, file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(in)
	}
	return os.ReadFile(filepath.Clean(file))
}

// explainRejection adds what the host's administrator can do.
func explainRejection(err error) error {
	var r *verify.Rejection
	if !errors.As(err, &r) {
		return err
	}
	switch r.Check {
	case verify.CheckKey:
		return hint.New(err, "compare with `atomic attest key` on the host: is it the host you mean?")
	case verify.CheckNonce:
		return hint.New(err, "ask the host for new evidence with your nonce")
	case verify.CheckGap, verify.CheckReset, verify.CheckRegister:
		return hint.New(err, "only a reboot gives the host a clean history")
	}
	return err
}
