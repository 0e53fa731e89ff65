package namespace_test

import (
	"context"
	"fmt"
	"os"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/namespace"
)

// Every process is in one namespace of each type.
func ExampleRead() {
	sys, err := namespace.Read(context.Background(), namespace.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, t := range abi.Namespaces() {
		if sys.Self.In(t) != nil {
			fmt.Println(t)
		}
	}
	// Output:
	// pid
	// user
	// mount
	// network
	// uts
	// ipc
	// cgroup
	// time
}

// A process has a pid at every level down to its own pid namespace. The first one is
// that of the /proc which was read, the last one what getpid(2) returns.
func ExampleSystem_PIDsOf() {
	sys, err := namespace.Read(context.Background(), namespace.Options{Quick: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	levels := sys.PIDsOf(sys.Self)
	first, last := levels[0], levels[len(levels)-1]
	fmt.Println(first.Namespace == sys.PIDRoot, first.PID == sys.Self.PID, last.PID == os.Getpid())
	// Output: true true true
}

// A process shares all namespaces with itself.
func ExampleDiff() {
	p, err := namespace.ReadProcess(nil, os.Getpid())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, d := range namespace.Diff(p, p) {
		fmt.Println(d.Type.ProcName(), d.Verdict)
	}
	// Output:
	// pid shared
	// user shared
	// mnt shared
	// net shared
	// uts shared
	// ipc shared
	// cgroup shared
	// time shared
}

// Root inside is 100000 outside, and root outside has no id inside.
func ExampleIDMap() {
	m, err := namespace.ParseIDMap([]byte("0 100000 65536\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Outside(0))
	fmt.Println(m.Inside(100033))
	fmt.Println(m.Inside(0))
	// Output:
	// 100000 true
	// 33 true
	// 0 false
}

func ExampleParseMounts() {
	mounts, err := namespace.ParseMounts([]byte(`42 41 0:4 net:[4026532008] /run/netns/my\040net rw shared:3 - nsfs nsfs rw`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range mounts {
		fmt.Printf("%s of %s on %q, %s\n", m.Root, m.Type, m.Point, m.Propagation())
	}
	// Output: net:[4026532008] of nsfs on "/run/netns/my net", shared
}

// The same namespace whichever way it is reached.
func ExampleIdentify() {
	f, err := namespace.Open(nil, os.Getpid(), abi.NSNetwork)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close()
	p, err := namespace.ReadProcess(nil, os.Getpid())
	if err != nil {
		fmt.Println(err)
		return
	}
	t, inode, err := namespace.Identify(f)
	fmt.Println(t, inode == p.Inodes[abi.NSNetwork], err)
	// Output: network true <nil>
}
