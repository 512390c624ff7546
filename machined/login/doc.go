// SPDX-License-Identifier: Apache-2.0

// Package login is the server side of the system bus that systemd-machined(8)
// looks for in a container: as much of it as `machinectl login` and
// `machinectl shell` need, and nothing else.
//
// machined joins the container's namespaces, connects to
// /var/run/dbus/system_bus_socket there and asks the service manager that it
// expects behind it to start container-getty@N.service on pseudo terminal N, or
// a transient container-shell@N.service with given streams. Serve speaks that
// protocol on one connection and leaves starting the session to its caller. Any
// other call is answered with UnknownMethod.
//
// machined is single-threaded and waits for the answer, so everything here has
// a size and a deadline, and nothing here may ever call machined. The peer may
// be anybody in the container: Peer tells who it is as far as the kernel knows,
// and a session gains whoever asked for it nothing that the container's payload
// does not have.
package login
