// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"strings"
	"testing"
)

// sample is a small image in a store of its own, inside the machine.
type sample struct {
	policy, dir   string
	image, object string // the image's digest and its object's path
	file, data    string // the name of a file in it, and its object's path
	other         string // the object of another file
}

func newSample(t *testing.T, v *VM, name, policy string) *sample {
	t.Helper()
	s := &sample{policy: policy, dir: "/var/lib/containers/" + name}
	out := sh(t, v, fmt.Sprintf("%s put %s %s fox hound", storetool, policy, s.dir))
	if _, err := fmt.Sscan(out, &s.image, &s.object, &s.file, &s.data, new(string), &s.other); err != nil {
		t.Fatalf("storetool put: %v\n%s", err, out)
	}
	return s
}

// mount mounts the sample's image, as its digest says.
func (s *sample) mount(t *testing.T, v *VM) error {
	_, err := v.Run(t.Context(), storetool, "mount", s.policy, s.dir, storeMnt, s.image)
	return err
}

// read reads the sample's file with nothing cached.
func (s *sample) read(t *testing.T, v *VM) error {
	_, err := v.Run(t.Context(), "sh", "-c", "echo 3 >/proc/sys/vm/drop_caches; cat "+storeMnt+"/"+s.file+" >/dev/null")
	return err
}

// flip changes one bit of a file on the disk, below the file system.
func flip(t *testing.T, v *VM, path string) {
	t.Helper()
	out := sh(t, v, "sync; filefrag -b4096 -v "+path)
	var block int64
	for line := range strings.Lines(out) {
		// "   0:        0..       5:     271360..    271365:      6: …"
		var ext, first, last int64
		if n, _ := fmt.Sscanf(line, "%d: %d.. %d: %d..", &ext, &first, &last, &block); n == 4 && first == 0 {
			break
		}
	}
	if block == 0 {
		t.Fatalf("where is %s?\n%s", path, out)
	}
	at := block*4096 + 1234
	b := make([]byte, 1)
	if _, err := v.Disk().ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := v.Disk().WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	sh(t, v, "echo 3 >/proc/sys/vm/drop_caches")
}

// TestStoreTamper changes an installed image in every way that root, or a disk,
// can. The kernel refuses what it reads or the mount is refused; fsck finds it.
func TestStoreTamper(t *testing.T) {
	v := boot(t, Options{Initrd: true, Layers: []string{storetoolLayer(t)}})
	sh(t, v, "modprobe loop")
	const eio, enoent = "Input/output error", "No such file"
	for _, c := range []struct {
		name, policy string
		tamper       func(*testing.T, *sample)
		mount, read  string // what they must say; empty if they must work
	}{
		{"Nothing", "require", func(*testing.T, *sample) {}, "", ""},
		{"NothingOff", "off", func(*testing.T, *sample) {}, "", ""},
		{"NoVerity", "require", func(t *testing.T, s *sample) {
			sh(t, v, fmt.Sprintf("cp %[1]s %[1]s.new; mv -f %[1]s.new %[1]s", s.data))
		}, "", eio},
		{"OtherContent", "require", func(t *testing.T, s *sample) {
			sh(t, v, fmt.Sprintf("cp %[2]s %[1]s.new; fsverity enable %[1]s.new; mv -f %[1]s.new %[1]s", s.data, s.other))
		}, "", eio},
		{"Missing", "require", func(t *testing.T, s *sample) { sh(t, v, "rm "+s.data) }, "", enoent},
		{"FlippedBit", "require", func(t *testing.T, s *sample) { flip(t, v, s.data) }, "", eio},
		{"WrongImage", "require", func(t *testing.T, s *sample) {
			sh(t, v, fmt.Sprintf("cp %[2]s %[1]s.new; fsverity enable %[1]s.new; mv -f %[1]s.new %[1]s", s.object, s.other))
		}, refusal, ""},
		{"FlippedBitInImage", "require", func(t *testing.T, s *sample) { flip(t, v, s.object) }, refusal, ""},
		{"WrongImageOff", "off", func(t *testing.T, s *sample) {
			sh(t, v, fmt.Sprintf("chmod u+w %[1]s; printf x | dd of=%[1]s bs=1 seek=1200 conv=notrunc status=none", s.object))
		}, refusal, ""},
		{"MissingImage", "require", func(t *testing.T, s *sample) { sh(t, v, "rm "+s.object) }, refusal, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSample(t, v, c.name, c.policy)
			c.tamper(t, s)
			err := s.mount(t, v)
			if refused(t, "mount", err, c.mount) {
				return
			}
			refused(t, "read", s.read(t, v), c.read)
			sh(t, v, "umount "+storeMnt)
			_, err = v.Run(t.Context(), storetool, "check", s.policy, s.dir, storeMnt)
			if want := c.read != ""; (err != nil) != want {
				t.Errorf("check: %v", err)
			} else if err != nil {
				t.Log(err)
			}
		})
	}
	t.Run("Write", func(t *testing.T) {
		s := newSample(t, v, "Write", "require")
		for _, script := range []string{"echo >> ", "truncate -s 0 ", "printf x 1<>"} {
			if _, err := v.Run(t.Context(), "sh", "-c", script+s.data); err == nil {
				t.Errorf("%s%s worked", script, s.data)
			}
		}
	})
}

// refusal is said by every refusal.
const refusal = "storetool:"

// refused checks that err is there if it should be and says what it should.
func refused(t *testing.T, what string, err error, want string) bool {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", what, err)
	case want != "" && err == nil:
		t.Errorf("%s worked, want %q", what, want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("%s: %v, want %q", what, err, want)
	case err != nil:
		t.Logf("%s: %v", what, err)
	}
	return err != nil
}
