// Package abi holds the numbers of the Linux user space interface together with
// their names: namespaces, capabilities, signals, errnos, flags, architectures
// and the system call table of each architecture.
//
// It is a package of values. It calls nothing, reads nothing and imports no
// other room, so that a plan, a BPF program or a web page can be made on a
// machine that is not Linux: GOOS=js GOARCH=wasm builds it.
//
// The main types are [Namespace], [Capability] with [CapSet], [Signal], [Errno]
// and [Arch]. Flags are untyped constants that carry the kernel's name in Go's
// spelling (OPEN_TREE_CLONE is [OpenTreeClone]); a function per family turns a
// value back into words for people ([MountAttrWords]). [UnescapeMount] reads how mountinfo
// writes a path, [ParseList] how cpuset files write numbers.
//
// A number is looked up per architecture, since a plan may be read elsewhere
// than where it runs:
//
//	nr, ok := abi.ArchAARCH64.Syscall("openat2")    // 437, true
//	name, ok := abi.ArchX86_64.SyscallName(435)     // "clone3", true
//	ns, ok := abi.ParseNamespace("mount")           // abi.NSMount, true
//	ns.ProcName()                                   // "mnt", as in /proc/PID/ns
//
// Signals, errnos and resource limits have the values of asm-generic, which every
// architecture kakuri runs on shares; MIPS, PA-RISC and SPARC number some of them
// differently. Where this matters inside a BPF program [Arch.ENOSYS] knows it.
//
// No table costs anything at start: they are arrays in the read-only part of the
// binary, none is a map and none is built by an init function.
package abi
