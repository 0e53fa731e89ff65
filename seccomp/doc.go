// Package seccomp turns the profile of a config.json (linux.seccomp) into the
// classic BPF program that seccomp(2) loads, without libseccomp and without Linux:
// a profile is a value, the program is a value, and neither needs the other's machine.
//
//	p, err := seccomp.Compile(spec.Linux.Seccomp, abi.Native(runtime.GOARCH))
//	if p != nil {
//		load(p.Flags, p.Bytes()) // a step of the plan; this package never does it
//	}
//
// [Compile] makes a [Program]. [Simulate] runs one on a call's [Data], as the kernel
// would, and counts the instructions; [Program.String] prints it for people.
//
// # What a program decides
//
// The answers are those of runc with libseccomp, as far as both have one:
//
//   - A rule without conditions decides its system calls for good; of several the
//     first one does, wherever in the profile it stands. Then the default action.
//     Of rules with conditions the first one that holds decides, in the order of the
//     profile. This is kakuri's own where two of one call differ in their actions:
//     libseccomp merges them into a tree, which asks for the highest argument first,
//     for equality before order and for larger values before smaller, or refuses them.
//   - Conditions on different arguments of one rule must all hold. When a rule has
//     two on the same argument, each condition becomes a rule of its own.
//   - A rule whose action is the default one is left out before all that.
//   - The native architecture is always there; a call through one that the profile
//     does not list kills the thread.
//   - A number above the largest one which the profile names on an architecture is
//     answered with ENOSYS, when the default action would refuse it: programs try new
//     calls and fall back on ENOSYS alone. A name that an architecture lacks is left out there.
//
// Where those two are imprecise, the program takes the meaning that the kernel gives:
//
//   - A 32-bit architecture passes 32 bits. A condition's larger value can then not be
//     equal to the argument, unless it is a negative number written with 64 bits.
//   - socketcall(2) and ipc(2) carry other calls inside. A rule without conditions
//     for socket(2) also holds for socketcall with that call's number; one with
//     conditions cannot be checked there, and holds whole if it refuses, not at all
//     if it permits.
//   - ARM's private calls at 0x0f0000 do not count as the largest number.
//
// # Shape of a program
//
// The native architecture is asked for first, then the number is found by a binary
// tree over ranges of equal verdict, weighted by how many calls a range holds. Most
// verdicts need no argument, and the kernel keeps those of such calls in a bitmap, for
// which it runs the program over all numbers when it is loaded: short ways and a small
// program are a faster start of the container.
package seccomp
