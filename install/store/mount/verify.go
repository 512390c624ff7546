// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/erofs"
	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
	"github.com/atomic-agent/atomic/internal/hint"
)

// Verify checks an image and all of its content as they are in the store now.
// What the kernel checks when it is read is not read here.
func Verify(o Options) error {
	want, err := verity.Parse(o.Image)
	if err != nil {
		return err
	}
	image, err := openImage(o.StoreDir, want)
	if err != nil {
		return err
	}
	defer image.Close()
	got, err := verity.Measure(image)
	enforced := err == nil && o.Verity != "off"
	if errors.Is(err, verity.ErrNotEnabled) {
		got, _, err = verity.OfReader(image)
	}
	if err == nil && got != want {
		err = hint.New(fmt.Errorf("%w: image %s has the digest %s", ErrVerity, want, got),
			"the store was tampered with or is damaged, see: atomic store fsck")
	}
	if err != nil || enforced {
		return err
	}
	return verifyContent(image, o.StoreDir)
}

// verifyContent reads every object that the image refers to, where the kernel
// does not do that itself. It detects what was changed until now; it cannot
// prevent what is changed later.
func verifyContent(image *os.File, store string) error {
	st, err := image.Stat()
	if err != nil {
		return err
	}
	b, err := unix.Mmap(int(image.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map image: %w", err)
	}
	defer func() { _ = unix.Munmap(b) }()
	t, err := erofs.Read(b)
	if err != nil {
		return err
	}
	type file struct {
		path string
		n    *tree.Node
	}
	var files []file
	seen := map[verity.Digest]bool{}
	err = t.Walk("/", func(path string, n *tree.Node) error {
		if n.Source == tree.SourceObject && !seen[n.Digest] {
			seen[n.Digest] = true
			files = append(files, file{path, n})
		}
		return nil
	})
	if err != nil {
		return err
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		next  int
		first error
	)
	take := func() (file, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == len(files) || first != nil {
			return file{}, false
		}
		next++
		return files[next-1], true
	}
	for range 2 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for f, ok := take(); ok; f, ok = take() {
				if err := verifyObject(store, f.n); err != nil {
					mu.Lock()
					first = fmt.Errorf("%s: %w", f.path, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}

func verifyObject(store string, n *tree.Node) error {
	f, err := os.OpenFile(filepath.Join(store, "objects", n.Digest.Path()), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return hint.New(err, "the store is damaged, see: atomic store fsck")
	}
	defer f.Close()
	got, _, err := verity.OfReader(f)
	if err == nil && got != n.Digest {
		err = hint.New(fmt.Errorf("%w: the content has the digest %s", ErrVerity, got),
			"the store was tampered with or is damaged, see: atomic store fsck")
	}
	return err
}
