// Package systemd has systemd make the cgroup of a container: a scope with its process, or a
// slice, by D-Bus. It implements cgroup.Unit.
//
//	bus, err := systemd.System()
//	defer bus.Close()
//	u, err := bus.Unit(systemd.Options{Path: "machine.slice:libpod:abc", Properties: props})
//	g, err := host.Group(cgroup.Options{Unit: u})
//
// A [Bus] is a connection to a manager: the machine's, or that of a user.
//
// What it may not do: touch a cgroup file system, or know what limits mean.
package systemd
