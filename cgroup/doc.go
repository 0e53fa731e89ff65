// Package cgroup makes, limits, reads and removes the control groups of a container:
// cgroups(7), of version 1, version 2 and of hosts that have both, by files or with systemd.
//
//	host, err := cgroup.Detect()
//	l, err := limits.Compile(spec.Linux.Resources, host.Controllers())
//	g, err := host.Group(cgroup.Options{Path: spec.Linux.CgroupsPath, ID: id})
//	defer g.Close()
//	err = g.Create(l)           // directories, controllers down the tree
//	notices, err := g.Apply(l)  // values, then device rules
//	err = g.Join(pid, "")       // or clone3 with CLONE_INTO_CGROUP and g.Directory, or a write of "0" to g.Tasks
//	...
//	err = g.Kill(ctx, unix.SIGKILL)
//	err = g.Remove(ctx)
//
// A [Host] is what [Detect] finds mounted; nothing is taken from a fixed path. A [Group] is one
// container's cgroup in all of its hierarchies; its [Group.Paths] go into a record, and
// [Host.Open] makes a Group of them again. What values mean is for package limits, which
// makes no system call. With a [Unit] (package systemd) systemd makes the cgroup.
//
// Every directory is reached by descriptor from the mount point of its hierarchy, never through a
// symbolic link or another mount.
//
// What it may not do: know the rest of a config.json, print, or move any process but those it
// is told to.
package cgroup
