package netlink

import (
	"encoding/binary"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/netip"
	"golang.org/x/sys/unix"
)

// A Bound is a socket with an address of the namespace's own: struct inet_diag_msg of linux/inet_diag.h.
type Bound struct {
	Addr  netip.Addr
	Port  uint16
	Inode uint32 // 0 for one that no process has any more
	Only6 bool   // at [::], and not for IPv4
}

// States of sockets, as bits for [Socket.Sockets]: those of TCP and SCTP that wait for connections, and of UDP without a peer.
const (
	Established = 1 << 1
	Unconnected = 1 << 7
	Listening   = 1 << 10
)

// Sockets lists those of a family, unix.AF_INET or AF_INET6, and a protocol, unix.IPPROTO_TCP and others, in some states, by a socket
// that is for unix.NETLINK_SOCK_DIAG: sock_diag(7). The error is unix.ENOENT where the kernel has not the protocol.
func (s *Socket) Sockets(family, protocol byte, states uint32) (list []Bound, err error) {
	const sockDiagByFamily = 20
	// struct inet_diag_req_v2, with an id of zeros.
	head := append([]byte{family, protocol, 0, 0}, ne.AppendUint32(nil, states)...)
	bodies, err := s.Dump(NewMessage(sockDiagByFamily, 0, append(head, make([]byte, 48)...)))
	for _, b := range bodies {
		if x, ok := parseBound(b); ok {
			list = append(list, x)
		}
	}
	return list, err
}

func parseBound(b []byte) (x Bound, ok bool) {
	const size, only6 = 72, 11 // INET_DIAG_SKV6ONLY
	if len(b) < size {
		return x, false
	}
	x = Bound{Port: binary.BigEndian.Uint16(b[4:]), Inode: ne.Uint32(b[68:])}
	switch b[0] {
	case unix.AF_INET:
		x.Addr, _ = netip.AddrFromSlice(b[8:12])
	case unix.AF_INET6:
		x.Addr, _ = netip.AddrFromSlice(b[8:24])
	}
	Attributes(b[size:], func(kind uint16, v []byte) {
		if kind == only6 && len(v) > 0 {
			x.Only6 = v[0] == 1
		}
	})
	return x, x.Port != 0 && x.Addr.IsValid()
}

// Owners gives the processes that have sockets, by the sockets' inodes, in /proc as this process sees it. Of another user's processes only root is told:
// proc_pid_fd(5).
func Owners(inodes []uint32) map[uint32][]int {
	owners := map[uint32][]int{}
	for _, n := range inodes {
		if n != 0 { // a socket that no process has any more
			owners[n] = nil
		}
	}
	if len(owners) == 0 {
		return nil
	}
	processes, _ := os.ReadDir("/proc")
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		dir := "/proc/" + p.Name() + "/fd"
		fds, _ := os.ReadDir(dir)
		for _, fd := range fds {
			to, _ := os.Readlink(dir + "/" + fd.Name())
			digits, socket := strings.CutPrefix(to, "socket:[")
			n, err := strconv.ParseUint(strings.TrimSuffix(digits, "]"), 10, 32)
			list, wanted := owners[uint32(n)]
			if socket && err == nil && wanted && !slices.Contains(list, pid) {
				owners[uint32(n)] = append(list, pid)
			}
		}
	}
	return owners
}
