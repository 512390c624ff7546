// SPDX-License-Identifier: Apache-2.0

// Package cniconf is the home of the network configurations for containers
// that do not use the host's network: embedded networks, attach and detach,
// and the nftables plugin. Host network is the default of the image contract
// and needs none of it, so there is no code here yet.
package cniconf
