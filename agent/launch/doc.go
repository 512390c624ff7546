// SPDX-License-Identifier: Apache-2.0

// Package launch starts one container, hands it to systemd and is gone.
//
// Start, in start.go, is one start from top to bottom. It runs in two
// processes (see package twin): the creator makes the container through
// libcontainer and exits, the launcher measures the start, tells systemd who
// the main process is, registers the container with machined, releases the
// payload, passes READY=1 on and exits. Afterwards no process of ours is left:
// the payload is a child of PID 1, its exit status is the unit's, and every
// signal systemd sends reaches it directly.
//
// The package decides nothing that install could have decided. It executes
// config.json exactly as it is recorded and refuses one that differs.
//
// docs/formats/launch.md describes the files below /run/atomic/NAME.
package launch
