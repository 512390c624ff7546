// SPDX-License-Identifier: Apache-2.0

package login

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"strings"
)

// handshake is the server's side of SASL EXTERNAL with the passing of files.
// Who the peer is has been found out by other means (see Peer): what it says
// about itself is not looked at.
func handshake(in *stream, out io.Writer) error {
	zero, err := in.take(1)
	if err != nil {
		return err
	}
	if zero[0] != 0 {
		return errors.New("the connection does not begin with a zero byte")
	}
	accepted := false
	for range maxLines {
		line, err := in.line()
		if err != nil {
			return err
		}
		command, rest, _ := strings.Cut(line, " ")
		answer := "ERROR"
		switch {
		case line == "BEGIN" && accepted:
			return nil
		case line == "BEGIN":
			return errors.New("BEGIN before authentication")
		case line == "AUTH EXTERNAL":
			answer = "DATA"
		case command == "DATA" || command == "AUTH" && strings.HasPrefix(rest, "EXTERNAL "):
			accepted = true
			answer = "OK " + guid()
		case command == "AUTH":
			answer = "REJECTED EXTERNAL"
		case line == "NEGOTIATE_UNIX_FD" && accepted:
			answer = "AGREE_UNIX_FD"
		}
		if _, err := io.WriteString(out, answer+"\r\n"); err != nil {
			return err
		}
	}
	return errors.New("the handshake is too long")
}

// guid identifies a bus, which ours has no need of.
func guid() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}
