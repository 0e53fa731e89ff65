// Package systemd has systemd make the cgroup of a container: a scope with its process, or a
// slice, by D-Bus. It implements cgroup.Unit.
//
//	bus, err := systemd.Dial(systemd.System)
//	defer bus.Close()
//	u, err := bus.Unit(systemd.Options{Path: "machine.slice:libpod:abc", Properties: props})
//	g, err := host.Group(cgroup.Options{Unit: u})
//
// A [Bus] is a connection to a manager: the machine's, or that of a user. Its client is a small one of its own: the
// usual library, with the packages net, os/exec and os/user below it, takes 0.1 ms of each start of
// kakuri-runtime, whether it is used or not, and 1.1 MB of its file.
//
// What it may not do: touch a cgroup file system, or know what limits mean.
package systemd
