// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
)

// Files of an image are named by the hash of their content, so that a reader
// needs nothing else to check them.
const (
	maxFiles    = 40
	maxFileSize = 200 << 10
	keepRefs    = 4
)

// churn commits images, each in one transaction, removes old ones and collects
// garbage. It says
// on standard output what it has done: a line is a promise that must hold
// whenever the power goes.
func (t tool) churn(seed string) error {
	ctx := context.Background()
	n, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(n, 0))
	s, err := t.open()
	if err != nil {
		return err
	}
	refs, err := s.Refs()
	if err != nil {
		return err
	}
	var live []int
	for _, r := range refs {
		live = append(live, r.Generation)
	}
	next := 1
	if len(live) > 0 {
		next = live[len(live)-1] + 1
	}
	var old [][]byte // contents of earlier images, which new ones share
	for gen := next; ; gen++ {
		files := randomFiles(random, old)
		image, err := commit(ctx, s, gen, files)
		if err != nil {
			return err
		}
		fmt.Println("committed", gen, image)
		old = files[:min(len(files), 5)]
		live = append(live, gen)
		for len(live) > keepRefs {
			victim := live[0]
			fmt.Println("removing", victim)
			if err := s.RemoveRef(ctx, ref, victim); err != nil {
				return err
			}
			fmt.Println("removed", victim)
			live = live[1:]
		}
		if random.IntN(3) == 0 {
			if _, err := s.GC(ctx); err != nil {
				return err
			}
			fmt.Println("collected")
		}
	}
}

func randomFiles(random *rand.Rand, old [][]byte) [][]byte {
	files := append([][]byte{}, old...)
	for range 1 + random.IntN(maxFiles) {
		b := make([]byte, random.IntN(maxFileSize))
		var chunk [8]byte
		for i := range b {
			if i%8 == 0 {
				word := random.Uint64()
				for j := range chunk {
					chunk[j] = byte(word >> (8 * j))
				}
			}
			b[i] = chunk[i%8]
		}
		files = append(files, b)
	}
	return files
}

// commit makes an image of the files and a ref to it.
func commit(ctx context.Context, s *store.Store, gen int, files [][]byte) (string, error) {
	txn, err := s.Begin(ctx)
	if err != nil {
		return "", err
	}
	defer txn.Abort()
	t := tree.New()
	for _, data := range files {
		node := &tree.Node{Mode: unix.S_IFREG | 0o444, Size: uint64(len(data))}
		switch {
		case len(data) == 0:
		case len(data) <= tree.InlineMax:
			node.Source, node.Data = tree.SourceInline, string(data)
		default:
			node.Source = tree.SourceObject
			if node.Digest, err = txn.PutObject(data); err != nil {
				return "", err
			}
			node.HasDigest = true
		}
		sum := sha256.Sum256(data)
		t.Root.SetChild(hex.EncodeToString(sum[:]), node)
	}
	t.CountLinks()
	image, err := txn.PutImage(t)
	if err != nil {
		return "", err
	}
	conf := fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","author":"%d"}`, gen)
	config, err := txn.PutConfig(conf)
	if err != nil {
		return "", err
	}
	manifest, err := txn.PutManifest(fmt.Appendf(nil, `{"schemaVersion":2,`+
		`"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[]}`,
		config, len(conf)))
	if err != nil {
		return "", err
	}
	info := store.RefInfo{Image: image, Source: "test", ManifestDigest: manifest}
	if err := txn.SetRef(ref, gen, info); err != nil {
		return "", err
	}
	return image, txn.Commit()
}

// put commits one image of files that repeat a text. It prints the image's
// digest, and the path and object of the image and of each file.
func (t tool) put(texts []string) error {
	s, err := t.open()
	if err != nil {
		return err
	}
	var files [][]byte
	for _, text := range texts {
		files = append(files, []byte(strings.Repeat(text+"\n", 4096)))
	}
	image, err := commit(context.Background(), s, 1, files)
	if err != nil {
		return err
	}
	d, err := verity.Parse(image)
	if err != nil {
		return err
	}
	fmt.Println(image, filepath.Join(t.dir, "objects", d.Path()))
	for _, data := range files {
		sum := sha256.Sum256(data)
		fmt.Println(hex.EncodeToString(sum[:]), filepath.Join(t.dir, "objects", verity.Of(data).Path()))
	}
	return nil
}
