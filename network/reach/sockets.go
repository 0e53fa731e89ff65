package reach

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/namespace"
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
	var args namespace.ArgsReader
	for i, n := range inodes {
		pids := owners[n]
		if len(pids) == 0 {
			continue
		}
		if _, known := names[pids[0]]; !known {
			names[pids[0]] = program(pids[0], &args)
		}
		list[i].PID, list[i].Program = pids[0], names[pids[0]]
	}
}

// program is what a process runs: the name of its file, or of its thread where that is
// not to be read.
func program(pid int, args *namespace.ArgsReader) string {
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	name := strings.TrimSpace(string(comm))
	if len(name) < 15 {
		return name
	}
	// A comm is cut at 15 bytes; the whole is in the command line.
	if list, err := args.Read(nil, pid); err == nil && len(list) > 0 && strings.HasPrefix(filepath.Base(list[0]), name) {
		return filepath.Base(list[0])
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
