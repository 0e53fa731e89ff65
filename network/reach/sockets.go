package reach

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/network/netlink"
	"golang.org/x/sys/unix"
)

// listeners reads who listens in the socket's network namespace, and the inodes of the
// sockets beside them.
func listeners(s *netlink.Socket) (list []Listener, inodes []uint32, err error) {
	for _, proto := range []string{"tcp", "udp", "sctp"} {
		for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
			states := uint32(netlink.Listening)
			if proto == "udp" {
				states = netlink.Unconnected
			}
			found, e := s.Sockets(family, protocol(proto), states)
			if errors.Is(e, unix.ENOENT) { // no such protocol in this kernel
				continue
			}
			if e != nil {
				err = fmt.Errorf("sock_diag: %s: %w", proto, e)
			}
			for _, x := range found {
				list = append(list, Listener{Proto: proto, Addr: value(x.Addr), Only6: x.Only6, Port: x.Port})
				inodes = append(inodes, x.Inode)
			}
			if errors.Is(e, netlink.ErrMore) {
				return list, inodes, err
			}
		}
	}
	return list, inodes, err
}

// nameSockets finds the processes that have the sockets.
func nameSockets(list []Listener, inodes []uint32) {
	owners := netlink.Owners(inodes)
	names := map[int]string{} // one may have them all
	for i, n := range inodes {
		pids := owners[n]
		if len(pids) == 0 {
			continue
		}
		if _, known := names[pids[0]]; !known {
			names[pids[0]] = program(pids[0])
		}
		list[i].PID, list[i].Program = pids[0], names[pids[0]]
	}
}

// program is what a process runs: the name of its file, or of its thread where that is
// not to be read.
func program(pid int) string {
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	name := strings.TrimSpace(string(comm))
	line, _ := files.Head(fmt.Sprintf("/proc/%d/cmdline", pid), 4096) // a process has it be as long as it likes
	first, _, _ := strings.Cut(string(line), "\x00")
	// A comm is cut at 15 bytes; the whole is in the command line.
	if base := filepath.Base(first); len(name) == 15 && strings.HasPrefix(base, name) {
		return base
	}
	return name
}

// at are the listeners of a port.
func at(list []Listener, proto string, port uint16) (found []Listener) {
	return slices.DeleteFunc(slices.Clone(list), func(l Listener) bool { return l.Proto != proto || l.Port != port })
}

// covers reports whether a socket gets what comes to an address.
func (l Listener) covers(a netip.Addr) bool {
	switch {
	case !l.Addr.IsUnspecified():
		return l.Addr.Unmap() == a.Unmap()
	case l.Addr.Is6():
		return a.Is6() && !a.Is4In6() || !l.Only6
	}
	return a.Is4() || a.Is4In6()
}
