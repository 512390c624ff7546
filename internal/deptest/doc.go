// SPDX-License-Identifier: Apache-2.0

// Package deptest holds the tests that keep the floor plan: which package may
// depend on which, and why; that every package states its contract; and the
// house rules that no linter knows.
package deptest
