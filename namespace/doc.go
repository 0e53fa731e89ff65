// Package namespace reads what the kernel shows of namespaces and processes, for any
// process of the machine: who is in which namespace, whose each namespace is, which pid,
// uid and mounts the same process has seen from either side.
//
// It reads /proc and asks nsfs (ioctl_nsfs(2)), and never changes anything.
//
// The main types are [System], a reading of the whole machine, its [Process] and
// [Namespace]. [Read] makes one:
//
//	sys, err := namespace.Read(ctx, namespace.Options{})
//	…
//	p := sys.Process(341502)
//	for _, at := range sys.PIDsOf(p) {
//		fmt.Println(at.Namespace, at.PID) // pid:[4026531836] 341502, pid:[4026532501] 7
//	}
//
// Single files are read by [ReadProcess], [ReadMounts], [ReadIDMaps], [ReadCgroups],
// [ReadLimits] and [ReadTimeOffsets]. Each takes the directory of a /proc, which may be
// the one of another pid namespace, and nil for the machine's own at /proc. Pids in
// arguments and results are those of that /proc; ids of users are the reader's own.
//
// # What a reading is
//
// The machine does not stand still meanwhile. A process which ends while it is read is
// left out or there as an ended one (Process.Ended), never half of each; one that starts
// too late is not there either. Everything
// of one process comes through one open directory, so a pid that is used again is not
// mistaken for the process before. A reading is not changed after [Read] returned it and
// may be used by several goroutines.
//
// # What stays hidden
//
// The links in /proc/PID/ns are readable for those who may trace the process (ptrace(2),
// PTRACE_MODE_READ_FSCREDS). Without root that leaves out other people's processes, and
// a kernel may keep some from root as well. They are listed with namespaces unknown
// (inode 0, nil) and counted in System.Unreadable. Only their pid namespace is known when
// their status has a single pid: it is the one of this /proc. Processes that a hidepid
// mount hides are missing or counted in System.Hidden.
//
// Namespaces are found where a process, one of its open files, a bind mount or, with
// Options.Threads, a single thread holds them, and as ancestors or owners of those. A
// network namespace that nothing but a socket holds is not found.
package namespace
