// Package limits turns the resources of a config.json (linux.resources) into what
// control groups understand: writes to files for versions 1 and 2, rules and a BPF
// program for devices, properties for systemd.
//
//	l, err := limits.Compile(spec.Linux.Resources, limits.Controllers{"memory": limits.V2})
//	for _, w := range l.Writes {
//		fmt.Println(w) // write memory.max 67108864
//	}
//
// [Compile] gives a [Limits]: [Guard]s, [Write]s in the order in which the kernel accepts
// them, and a [Devices], the policy for device nodes. [Devices.Program] is that policy as a
// program for version 2, [Simulate] runs one; [Devices.From] gives the rules that lead
// version 1 from one policy to another. [Properties] gives what systemd is told.
//
// Conversions are those of runc, so that a container has the same limits under
// both; where this package differs, a comment says why.
//
// What it may not do: make a system call, or know how a cgroup is made or joined.
package limits
