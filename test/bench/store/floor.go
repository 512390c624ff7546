// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/atomic-agent/atomic/install/store/inflate"
	"github.com/atomic-agent/atomic/install/store/verity"
)

// floorCommand makes this program do what nobody can do without who verifies an
// image: read every layer, hash it, decompress it, hash what comes out. It is
// written, if at all, as one file a layer: without a file system's work for
// thousands of files, without a store and without any check.
const floorCommand = "floor"

func floor(layoutDir, dir string) error {
	blobs, err := layers(layoutDir)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(blobs))
	for _, blob := range blobs {
		wg.Go(func() { errs <- floorLayer(blob, dir) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func floorLayer(blob, dir string) error {
	f, err := os.Open(blob)
	if err != nil {
		return err
	}
	defer f.Close()
	compressed := ahead(io.TeeReader(f, sha256.New()))
	defer compressed.Close()
	br := bufio.NewReaderSize(compressed, 256<<10)
	var stream io.Reader
	if magic, _ := br.Peek(2); string(magic) == "\x1f\x8b" {
		stream, err = inflate.NewReader(br)
	} else {
		stream, err = zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	}
	if err != nil {
		return err
	}
	var h verity.Hasher
	out := []io.Writer{&h}
	if dir != "" {
		w, err := os.Create(filepath.Join(dir, filepath.Base(blob)))
		if err != nil {
			return err
		}
		defer w.Close()
		out = append(out, w)
	}
	content := ahead(stream)
	defer content.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(out...)}, struct{ io.Reader }{content}, make([]byte, 256<<10))
	return err
}

// ahead reads r in a goroutine of its own.
func ahead(r io.Reader) io.ReadCloser {
	pr, pw := io.Pipe()
	go func() {
		w := bufio.NewWriterSize(pw, 256<<10)
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, 256<<10))
		if err == nil {
			err = w.Flush()
		}
		_ = pw.CloseWithError(err) // always nil
	}()
	return pr
}
