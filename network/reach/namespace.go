package reach

import (
	"fmt"
	"os"

	"github.com/kakuri/kakuri/internal/thread"
	"github.com/kakuri/kakuri/network/netlink"
	"golang.org/x/sys/unix"
)

// inNamespace calls do on a thread in the network namespace of a process, which the
// thread does not outlive. 0 is the caller's own.
func inNamespace(pid int, do func() error) error {
	if pid == 0 {
		return do()
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer f.Close()
	<-thread.Aside(func() {
		if err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("setns to the network namespace of process %d: %w", pid, err)
			return
		}
		err = do()
	})
	return err
}

// NSID is the number that the network namespace of the process in gives that of the process
// of, 0 for the caller's own; -1 where it has none for it, or cannot be asked.
func NSID(in, of int) int {
	path := "/proc/thread-self/ns/net" // the first thread may have been lent to another namespace
	if of != 0 {
		path = fmt.Sprintf("/proc/%d/ns/net", of)
	}
	f, err := os.Open(path)
	if err != nil {
		return -1
	}
	defer f.Close()
	id := int32(-1)
	err = inNamespace(in, func() error {
		return onSocket(unix.NETLINK_ROUTE, func(s *netlink.Socket) error {
			id, err = s.NSID(int(f.Fd()))
			return err
		})
	})
	if err != nil {
		return -1
	}
	return int(id)
}

// onSocket calls do with a socket in the caller's network namespace.
func onSocket(family int, do func(s *netlink.Socket) error) error {
	s, err := netlink.OpenFor(family)
	if err != nil {
		return err
	}
	defer s.Close()
	return do(s)
}
