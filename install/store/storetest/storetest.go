// SPDX-License-Identifier: Apache-2.0

// Package storetest opens stores for the tests of several packages. It is for
// tests only.
package storetest

import (
	"testing"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/internal/hint"
)

// Open opens the store in a directory, and makes it if there is none.
func Open(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, hint.Of(err))
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
