package reach

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/network/rtnetlink"
	"golang.org/x/sys/unix"
)

// Of linux/sock_diag.h and linux/inet_diag.h.
const (
	sockDiagByFamily  = 20
	inetDiagSKV6Only  = 11
	stateListen       = 10
	stateClose        = 7 // of a UDP socket that is not connected
	inetDiagMsgLength = 72
)

// listeners reads who listens in the caller's network namespace, and the inodes of the
// sockets beside them.
func listeners() (list []Listener, inodes []uint32, err error) {
	for _, proto := range []string{"tcp", "udp", "sctp"} {
		for _, fam := range []byte{unix.AF_INET, unix.AF_INET6} {
			state := uint32(1) << stateListen
			if proto == "udp" {
				state = 1 << stateClose
			}
			// inet_diag_req_v2: family, protocol, extensions, pad, states, an id of zeros.
			request := make([]byte, 56)
			request[0], request[1] = fam, protocol(proto)
			binary.NativeEndian.PutUint32(request[4:], state)
			e := dump(unix.NETLINK_SOCK_DIAG, sockDiagByFamily, request, func(_ uint16, m []byte) {
				if l, inode, ok := listener(proto, fam, m); ok {
					list, inodes = append(list, l), append(inodes, inode)
				}
			})
			if e == unix.ENOENT { // no such protocol in this kernel
				continue
			}
			if e != nil {
				err = fmt.Errorf("sock_diag: %s: %w", proto, e)
			}
		}
	}
	return list, inodes, err
}

// listener parses struct inet_diag_msg.
func listener(proto string, fam byte, m []byte) (l Listener, inode uint32, ok bool) {
	if len(m) < inetDiagMsgLength || m[0] != fam {
		return l, 0, false
	}
	l = Listener{Proto: proto, Port: binary.BigEndian.Uint16(m[4:])}
	if fam == unix.AF_INET {
		l.Addr = netip.AddrFrom4([4]byte(m[8:12]))
	} else {
		l.Addr = netip.AddrFrom16([16]byte(m[8:24]))
	}
	inode = binary.NativeEndian.Uint32(m[68:])
	rtnetlink.Attributes(m[inetDiagMsgLength:], func(kind uint16, v []byte) {
		if kind == inetDiagSKV6Only && len(v) > 0 {
			l.Only6 = v[0] == 1
		}
	})
	return l, inode, l.Port != 0
}

// name finds the processes that have the sockets, in /proc as this process sees it.
func nameSockets(list []Listener, inodes []uint32) {
	want := map[string][]int{}
	for i, n := range inodes {
		if n != 0 {
			key := fmt.Sprintf("socket:[%d]", n)
			want[key] = append(want[key], i)
		}
	}
	if len(want) == 0 {
		return
	}
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		fds, _ := os.ReadDir("/proc/" + d.Name() + "/fd")
		for _, fd := range fds {
			target, _ := os.Readlink("/proc/" + d.Name() + "/fd/" + fd.Name())
			for _, i := range want[target] {
				if list[i].PID == 0 {
					list[i].PID, list[i].Program = pid, program(pid)
				}
			}
		}
	}
}

// program is what a process runs: the name of its file, or of its thread where that is
// not to be read.
func program(pid int) string {
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	name := strings.TrimSpace(string(comm))
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
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
