// Package verify asks the kernel whether a running container is what its plan asked for:
// every check of the plan's steps is read back, and compared.
//
//	list, err := verify.Container(p, pid)
//	if err != nil {
//		return err // the container has ended
//	}
//	for _, r := range list {
//		fmt.Println(r.Verdict(), r.Property, r.Asked, r.Measured)
//	}
//	ok, differ, unknown := verify.Count(list)
//
// [Container] reads, [Result] is one property with what was asked, what was measured and
// the verdict. What the caller may not read is unknown, with the reason, and never ok.
//
// # How it reads
//
// Most properties show in /proc/PID. Paths of the container are opened with O_PATH below
// /proc/PID/root and never leave it (openat2(2), RESOLVE_IN_ROOT): the last component is
// not opened in earnest, so that no device or FIFO of the container's is touched. A mount
// is the one that such a lookup arrives at, which is what the container itself would see.
//
// A host name or a kernel parameter shows only to a thread that is in the namespace. For
// these a thread of this process joins it, reads through the reader's own /proc, and ends
// with its goroutine; the process as a whole stays where it is. The kernel lets root do
// that (CAP_SYS_ADMIN here and there). An ordinary user could only with a process of one
// thread, which a Go program never is; so for these few properties the verdict is unknown.
//
// Files of control groups are read in the reader's own mount namespace, where the plan or
// a runtime's record says that they are. Of a BPF program for devices the kernel tells who may ask
// its id, its name and a hash of its code; the code itself is not read. What nothing shows
// (keyrings, the signal at the parent's end) is in [plan.Plan.Unchecked], with the reason.
//
// # What is looked at
//
// The container's first process. Where the plan leaves an init as pid 1, it is that one's
// first child, the command. A process may give up more than its plan did: fewer effective
// or permitted capabilities are fine, other ids, limits or another umask are differences.
//
// What it may not do: change or repair anything.
package verify
