// SPDX-License-Identifier: Apache-2.0

// Package tpm measures container starts into a TPM register and keeps the
// event log that explains the register's value.
package tpm
