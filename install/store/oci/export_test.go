// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"path/filepath"
	"testing"

	"github.com/atomic-agent/atomic/install/store"
)

// OpenStore makes a store for one test.
func OpenStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Begin begins a transaction that ends with the test.
func Begin(t testing.TB, s *store.Store) *store.Txn {
	t.Helper()
	txn, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(txn.Abort)
	return txn
}
