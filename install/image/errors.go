// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/docker/distribution/registry/api/errcode"
	v2 "github.com/docker/distribution/registry/api/v2"
	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker"

	"github.com/atomic-agent/atomic/install/trust"
	"github.com/atomic-agent/atomic/internal/hint"
)

// The reasons for which an image cannot be had. A policy that rejects it is
// trust.ErrRejected.
var (
	ErrNotFound     = errors.New("the registry has no such image")
	ErrUnreachable  = errors.New("the registry cannot be reached")
	ErrTLS          = errors.New("the registry's certificate cannot be verified")
	ErrUnauthorized = errors.New("the registry refuses the credentials")
	ErrArchitecture = errors.New("the image is not for this machine")
	ErrCorrupt      = errors.New("the registry serves the image damaged")
	ErrNoSpace      = errors.New("no space left on the disk of the image store")
	ErrRateLimit    = errors.New("the registry's rate limit is reached")
	ErrChanged      = errors.New("the image changed in the registry while it was fetched")
)

// architectureError says which architecture an image is for.
type architectureError struct {
	want, got string
	err       error
}

func (e *architectureError) Error() string {
	if e.got == "" {
		return fmt.Sprintf("the index has no image for linux/%s", e.want)
	}
	return fmt.Sprintf("it is for %s, this machine needs %s", e.got, e.want)
}

func (e *architectureError) Unwrap() error { return e.err }

type changedError struct{ before, after digest.Digest }

func (e *changedError) Error() string { return fmt.Sprintf("from %s to %s", e.before, e.after) }

// Error is a failed pull: which image, why, and the cause in full.
type Error struct {
	Image  string
	Reason error // one of the sentinels above, nil if it is none of them
	Detail string
	Err    error
}

func (e *Error) Error() string {
	if e.Reason == nil {
		return fmt.Sprintf("pull %s: %v", e.Image, e.Err)
	}
	if e.Detail == "" {
		return fmt.Sprintf("pull %s: %v", e.Image, e.Reason)
	}
	return fmt.Sprintf("pull %s: %v: %s", e.Image, e.Reason, e.Detail)
}

func (e *Error) Unwrap() []error {
	if e.Reason == nil {
		return []error{e.Err}
	}
	return []error{e.Reason, e.Err}
}

// classify turns whatever containers/image reports into an Error with a hint.
func (p *Puller) classify(name string, err error) error {
	err = p.Policy.Reject(err)
	if errors.Is(err, trust.ErrRejected) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("pull %s: %w", name, err)
	}
	registry, _, _ := strings.Cut(name, "/")
	detail, reason := reasonOf(err)
	e := &Error{Image: name, Reason: reason, Detail: detail, Err: err}
	if host := (x509.HostnameError{}); errors.As(err, &host) {
		return hint.New(e, "name the registry as its certificate does")
	}
	if reason == nil && hint.Of(err) != "" {
		return e // who found the fault knows better
	}
	return hint.New(e, hintFor(reason, name, registry))
}

// reasonOf finds the reason in an error's tree. The order matters: a failed
// TLS handshake is also a failed connection, a bad credential is also an
// errcode.
func reasonOf(err error) (detail string, reason error) {
	var arch *architectureError
	if errors.As(err, &arch) {
		return arch.Error(), ErrArchitecture
	}
	var changed *changedError
	if errors.As(err, &changed) {
		return changed.Error(), ErrChanged
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return "", ErrNoSpace
	}
	if detail := tlsDetail(err); detail != "" {
		return detail, ErrTLS
	}
	if reason := httpReason(err); reason != nil {
		if errors.Is(reason, ErrNotFound) && strings.Contains(err.Error(), "blob") {
			return "a part of the image is missing", ErrCorrupt
		}
		return "", reason
	}
	if detail := netDetail(err); detail != "" {
		return detail, ErrUnreachable
	}
	// containers/image reports these as text only.
	text := err.Error()
	for _, s := range []string{"Digest did not match", "does not match provided manifest digest", "does not match expected", "does not match selected manifest digest"} {
		if strings.Contains(text, s) {
			return text[strings.Index(text, s):], ErrCorrupt
		}
	}
	if strings.Contains(text, "StatusCode: 429") {
		return "", ErrRateLimit
	}
	return "", nil
}

func tlsDetail(err error) string {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	switch {
	case errors.As(err, &authority):
		return "signed by an unknown authority"
	case errors.As(err, &host):
		return host.Error()
	case errors.As(err, &invalid):
		return invalid.Error()
	case errors.As(err, &verify):
		return verify.Error()
	case errors.As(err, &header):
		return "it does not speak TLS"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "it does not speak TLS"
	}
	return ""
}

func httpReason(err error) error {
	var credentials docker.ErrUnauthorizedForCredentials
	var status docker.UnexpectedHTTPStatusError
	var coder errcode.ErrorCoder
	switch {
	case errors.As(err, &credentials):
		return ErrUnauthorized
	case errors.Is(err, docker.ErrTooManyRequests):
		return ErrRateLimit
	case errors.As(err, &status):
		return map[int]error{
			http.StatusUnauthorized: ErrUnauthorized, http.StatusForbidden: ErrUnauthorized,
			http.StatusNotFound: ErrNotFound, http.StatusTooManyRequests: ErrRateLimit,
		}[status.StatusCode]
	case errors.As(err, &coder):
		switch coder.ErrorCode() {
		case errcode.ErrorCodeUnauthorized, errcode.ErrorCodeDenied:
			return ErrUnauthorized
		case v2.ErrorCodeManifestUnknown, v2.ErrorCodeNameUnknown, v2.ErrorCodeNameInvalid, v2.ErrorCodeBlobUnknown:
			return ErrNotFound
		case errcode.ErrorCodeTooManyRequests:
			return ErrRateLimit
		}
	}
	return nil
}

func netDetail(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return fmt.Sprintf("the name %q does not resolve", dns.Name)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		var errno syscall.Errno
		switch {
		case errors.As(op.Err, &errno) && op.Addr != nil:
			return fmt.Sprintf("%s: %s", op.Addr, errno.Error())
		case op.Timeout() && op.Addr != nil:
			return fmt.Sprintf("%s does not answer", op.Addr)
		}
		return op.Error()
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "it does not answer"
	}
	return ""
}

func hintFor(reason error, name, registry string) string {
	switch {
	case errors.Is(reason, ErrNotFound):
		return "check the name and the tag; a private image also needs credentials (--src-creds USER:PASSWORD)"
	case errors.Is(reason, ErrUnreachable):
		return "check the network, the proxy settings and that " + registry + " is up"
	case errors.Is(reason, ErrTLS):
		return "put the registry's CA certificate into /etc/containers/certs.d/" + registry + "/ca.crt"
	case errors.Is(reason, ErrUnauthorized):
		return "give --src-creds USER:PASSWORD, or log in with a tool that writes auth.json (podman login " + registry + ")"
	case errors.Is(reason, ErrArchitecture):
		return "ask the image's publisher for this architecture, or name another image"
	case errors.Is(reason, ErrCorrupt):
		return "try again; if it stays, " + registry + " or something on the way to it is broken or hostile"
	case errors.Is(reason, ErrNoSpace):
		return "free space in /var/lib/containers/atomic and try again; nothing was installed"
	case errors.Is(reason, ErrRateLimit):
		return "wait, or log in to " + registry + " for a higher limit"
	case errors.Is(reason, ErrChanged):
		return "try again"
	}
	return "nothing was installed; trying again is safe (" + name + ")"
}

// allFailed is the error for a name none of whose candidates could be had: the
// only failure as it is, several in one.
func allFailed(failed []error) error {
	if len(failed) == 1 {
		return failed[0]
	}
	lines := make([]string, len(failed))
	for i, err := range failed {
		lines[i] = err.Error()
	}
	return hint.New(&manyError{strings.Join(lines, "; "), failed}, "write the image's name with its registry")
}

type manyError struct {
	text string
	errs []error
}

func (e *manyError) Error() string   { return e.text }
func (e *manyError) Unwrap() []error { return e.errs }
