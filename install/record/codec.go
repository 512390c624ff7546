// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// maxSize bounds what Read accepts; a real record has a few kilobytes.
const maxSize = 8 << 20

// Read parses and checks a record. Unknown keys, a version this program does
// not know and values that would lead a reader astray are errors: a record
// decides what is executed.
func Read(r io.Reader) (*Record, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	return Parse(data)
}

// Parse is Read for a record in memory.
func Parse(data []byte) (*Record, error) {
	if len(data) > maxSize {
		return nil, errors.New("parse record: larger than 8 MiB")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	rec := &Record{}
	if err := dec.Decode(rec); err != nil {
		return nil, fmt.Errorf("parse record: %w", err)
	}
	if dec.More() {
		return nil, errors.New("parse record: data after the record")
	}
	if err := rec.check(); err != nil {
		return nil, fmt.Errorf("parse record: %w", err)
	}
	return rec, nil
}

// ReadFile reads the record at a path.
func ReadFile(file string) (*Record, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rec, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return rec, nil
}

// Marshal returns the record as it is stored. It refuses a record that Read
// would refuse.
func (r *Record) Marshal() ([]byte, error) {
	r.Atomic.Version = Version
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("write record: %w", err)
	}
	data, err := json.MarshalIndent(r, "", "    ")
	if err != nil {
		return nil, fmt.Errorf("write record: %w", err)
	}
	return append(data, '\n'), nil
}

func (r *Record) check() error {
	a := &r.Atomic
	if a.Version != Version {
		return fmt.Errorf("version %d of the object \"atomic\" is unknown, want %d", a.Version, Version)
	}
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if err := CheckName(a.Name); err != nil {
		problems = append(problems, err)
	}
	if a.Generation < 0 {
		bad("generation %d is negative", a.Generation)
	}
	if a.Rootfs.Type != "composefs" {
		bad("root file system type %q is unknown", a.Rootfs.Type)
	}
	if a.Rootfs.Verify != "" && a.Rootfs.Verify != "start" {
		bad("root file system verification %q is unknown", a.Rootfs.Verify)
	}
	if !isHex(a.Rootfs.Image) {
		bad("root file system image %q is not a digest", a.Rootfs.Image)
	}
	if !isDigest(a.ManifestDigest) || !isDigest(a.ConfigDigest) || a.IndexDigest != "" && !isDigest(a.IndexDigest) {
		bad("an image digest is not of the form sha256:HEX")
	}
	if !isHex(a.ConfigSHA256) {
		bad("configSHA256 %q is not a digest", a.ConfigSHA256)
	}
	for _, u := range a.Units {
		if !cleanAbs(u.Path) || !isHex(u.SHA256) {
			bad("unit file %q: not a clean absolute path with a digest", u.Path)
		}
	}
	for _, p := range r.InstalledFiles {
		sum, ok := r.InstalledFilesChecksum[p]
		if !cleanAbs(p) || !ok || sum != DirChecksum && !isHex(sum) {
			bad("installed file %q: not a clean absolute path with a checksum", p)
		}
	}
	for _, p := range a.Directories {
		if !cleanAbs(p) {
			bad("directory %q is not a clean absolute path", p)
		}
	}
	for _, p := range a.Made {
		if !cleanAbs(p) {
			bad("made file %q is not a clean absolute path", p)
		}
	}
	if i := a.IDs; i != nil && (i.First == 0 || i.Count == 0 || uint64(i.First)+uint64(i.Count) > 1<<32-1) {
		bad("the ID range %d:%d is impossible", i.First, i.Count)
	}
	return errors.Join(append(problems, r.checkStart())...)
}

func (r *Record) checkStart() error {
	s := r.Atomic.Start
	if !r.HasContainerService {
		return nil
	}
	if s.Unit != r.Atomic.Name+".service" {
		return fmt.Errorf("unit %q does not belong to container %q", s.Unit, r.Atomic.Name)
	}
	switch s.Notify {
	case "relay", "filter", "raw", "launcher":
	default:
		return fmt.Errorf("notify %q is none of relay, filter, raw and launcher", s.Notify)
	}
	if s.Engine == "runtime" != (s.Runtime != nil) || s.Runtime != nil && !cleanAbs(s.Runtime.Path) {
		return fmt.Errorf("engine %q does not go with its runtime", s.Engine)
	}
	switch {
	case (s.Engine == "oci" || s.Engine == "native" || s.Engine == "runtime") && s.PlanSHA256 == "":
	case s.Engine == "plan" && isHex(s.PlanSHA256):
	case s.Engine != "oci" && s.Engine != "plan" && s.Engine != "native" && s.Engine != "runtime":
		return fmt.Errorf("engine %q is unknown", s.Engine)
	default:
		return fmt.Errorf("engine %q does not go with planSHA256 %q", s.Engine, s.PlanSHA256)
	}
	if h := s.Health; h != nil && (len(h.Test) == 0 || h.Interval <= 0 || h.Timeout <= 0 || h.StartPeriod < 0 || h.Retries <= 0) {
		return errors.New("health check without a command, or with times that are none")
	}
	if s.Notify != "launcher" && !cleanAbs(s.NotifyPath) {
		return fmt.Errorf("notifyPath %q is not a clean absolute path", s.NotifyPath)
	}
	return nil
}

// DirChecksum is the checksum of an installed file that is a directory.
const DirChecksum = "0"

// CheckName says why a container cannot have a name. A name is a file name, a
// unit name and a machine name at once.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("container name is empty")
	case len(name) > 64:
		return fmt.Errorf("container name %q is longer than 64 characters", name)
	case strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-"):
		return fmt.Errorf("container name %q starts with %q", name, name[:1])
	}
	for _, c := range name {
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", c) {
			return fmt.Errorf("container name %q: only letters, digits, \".\", \"_\" and \"-\" are allowed", name)
		}
	}
	return nil
}

func cleanAbs(p string) bool { return path.IsAbs(p) && path.Clean(p) == p }

func isDigest(s string) bool {
	h, ok := strings.CutPrefix(s, "sha256:")
	return ok && isHex(h)
}

func isHex(s string) bool {
	if len(s) != 64 || strings.ToLower(s) != s {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}
