package network

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// A Held is a port of the host that nobody else gets as long as the descriptor is open.
type Held struct {
	FD   int    // -1: the kernel has no SCTP, so nobody can have the port
	Port uint16 // as asked, or of port 0 the one that the kernel chose
	// Relay says that packets come to the socket, and have to be passed on by [Relay.Serve]. Others never see one.
	Relay bool
}

// A TakenError is a port of the host that somebody has. It is EADDRINUSE.
type TakenError struct {
	Port plan.Publish
	Who  string // has it, and what can be done
}

// Error begins with Docker's words, which its clients look for.
func (e *TakenError) Error() string {
	return fmt.Sprintf("driver failed programming external connectivity: Bind for %s failed: port is already allocated: %s", plan.HostPort(e.Port.HostAddr, e.Port.HostPort), e.Who)
}

// Unwrap gives the kernel's number, for errors.Is.
func (e *TakenError) Unwrap() error { return unix.EADDRINUSE }

// PublishedBy is who has a port that a container publishes.
func PublishedBy(container string) string {
	return "container " + container + " publishes it: kakuri stop " + container + ", or publish another port"
}

// HoldPort takes a port for a container that publishes it. When somebody has it, the error is a [*TakenError] and
// names him: a container by the records, or a process.
func (r *Rules) HoldPort(p plan.Publish) (Held, error) {
	h, err := holdPort(p)
	if errors.Is(err, unix.EADDRINUSE) {
		return Held{FD: -1}, &TakenError{p, r.holder(p)}
	}
	if err != nil {
		return Held{FD: -1}, fmt.Errorf("port %s of %s: %w", strconv.Itoa(int(p.HostPort))+"/"+p.Proto, p.HostAddr, err)
	}
	return h, nil
}

// TryPort is HoldPort for who asks for another port when this one is taken, and does not want to know who has it.
func TryPort(p plan.Publish) (Held, error) { return holdPort(p) }

// HeldBy is a port that another process has held, which passed the descriptor on.
func HeldBy(p plan.Publish, fd int) Held {
	return Held{FD: fd, Port: p.HostPort, Relay: Relayed(p) || aside(p)}
}

// aside tells a port of all addresses of IPv6: [::1] is one of them, and the only one that no rule leads from. By the loopback device nothing else comes to the
// socket, since the rules take it before.
func aside(p plan.Publish) bool {
	return p.HostAddr.Is6() && p.HostAddr.IsUnspecified() && !Relayed(p) && p.Proto != "sctp"
}

func holdPort(p plan.Publish) (h Held, err error) {
	if p.Routed {
		return Held{FD: -1}, nil // the host has none
	}
	number, ok := protoNumber(p.Proto)
	if !ok || !p.HostAddr.IsValid() {
		return h, unix.EINVAL
	}
	if p.Proto == "sctp" && Relayed(p) {
		return h, fmt.Errorf("SCTP is passed on by rules alone, which strict ports, [::1], and a container of the other family have not: %w", unix.EPROTONOSUPPORT)
	}
	family, kind := unix.AF_INET, unix.SOCK_STREAM
	if p.HostAddr.Is6() {
		family = unix.AF_INET6
	}
	if p.Proto == "udp" {
		kind = unix.SOCK_DGRAM
	}
	h.FD, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(number))
	if p.Proto == "sctp" && (errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT)) {
		return Held{FD: -1, Port: p.HostPort}, nil
	}
	if err != nil {
		return h, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			unix.Close(h.FD)
		}
	}()
	h.Relay = Relayed(p) || aside(p)
	if err := dressPort(h.FD, p, h.Relay); err != nil {
		return h, err
	}
	if err := bindPort(h.FD, p, h.Relay); err != nil {
		return h, err
	}
	at, err := unix.Getsockname(h.FD)
	if err != nil {
		return h, os.NewSyscallError("getsockname", err)
	}
	switch at := at.(type) {
	case *unix.SockaddrInet4:
		h.Port = uint16(at.Port)
	case *unix.SockaddrInet6:
		h.Port = uint16(at.Port)
	}
	return h, nil
}

// Readdress has a held socket, which relays, take what it is to take of a port that leads to another address now: by all devices, or by the loopback device alone.
func Readdress(fd int, p plan.Publish) error {
	device := ""
	if aside(p) {
		device = "lo"
	}
	return os.NewSyscallError("setsockopt SO_BINDTODEVICE", unix.BindToDevice(fd, device))
}

// setPort sets an option of a socket.
func setPort(fd, level, name, value int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, name, value))
}

// dressPort has a socket get what it is to get, before it is bound: of one that no packet is to come to, nothing.
func dressPort(fd int, p plan.Publish, relay bool) error {
	if p.HostAddr.Is6() {
		if err := setPort(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
	}
	if aside(p) {
		if err := Readdress(fd, p); err != nil {
			return err
		}
	}
	switch {
	case p.Proto != "udp":
		return nil
	case !relay:
		nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
		return os.NewSyscallError("setsockopt", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing[0]}))
	// The answer has to come from the address that was asked.
	case p.HostAddr.Is6():
		return setPort(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return setPort(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

// bindPort has the port be the socket's, and nobody else's.
func bindPort(fd int, p plan.Publish, relay bool) error {
	at := sockaddr(p.HostAddr, p.HostPort)
	err := unix.Bind(fd, at)
	if err == unix.EADDRINUSE && p.Proto == "tcp" {
		// Connections that ended, of a program that had the port before, stand in the way for a minute. With SO_REUSEADDR they do
		// not, and without it again nobody else gets the port.
		if err := setPort(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
		if err = unix.Bind(fd, at); err == nil {
			if err = unix.Listen(fd, 1); err == nil { // refused where another one holds it too
				err = unix.Shutdown(fd, unix.SHUT_RD) // listens no more; the port stays
			}
		}
	}
	if err == unix.EADDRNOTAVAIL {
		return fmt.Errorf("%w: no device of this machine has that address", os.NewSyscallError("bind", err))
	}
	if err != nil {
		return os.NewSyscallError("bind", err)
	}
	// Connections have it of the socket that they came to, and those that have ended by this side are in the way of the next who takes the port, for
	// a minute, unless they have it. A socket that listens shares its port with nobody.
	listens := relay && p.Proto == "tcp"
	if err := setPort(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, map[bool]int{true: 1}[listens]); err != nil || !listens {
		return err
	}
	return os.NewSyscallError("listen", unix.Listen(fd, 4096))
}

func sockaddr(a netip.Addr, port uint16) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Port: int(port), Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Port: int(port), Addr: a.As16()}
}

// holder names who has a port, as far as can be found out.
func (r *Rules) holder(p plan.Publish) string {
	if names, err := r.names("ports"); err == nil {
		for _, owner := range names {
			ports, _ := r.readPorts(owner)
			for _, o := range ports {
				if o.Proto == p.Proto && o.HostPort == p.HostPort && meet(o.HostAddr, p.HostAddr) {
					return PublishedBy(owner)
				}
			}
		}
	}
	pids := holdingProcesses(p)
	switch len(pids) {
	case 0:
		return "who has it cannot be seen from here: publish another port"
	case 1:
		return "process " + pids[0] + " has it: publish another port"
	}
	return "processes " + strings.Join(pids, ", ") + " have it: publish another port"
}

// meet tells addresses that cannot both have a port.
func meet(a, b netip.Addr) bool {
	return a.Is4() == b.Is4() && (a == b || a.IsUnspecified() || b.IsUnspecified())
}

// holdingProcesses are those with sockets at the port: sock_diag(7), proc(5).
func holdingProcesses(p plan.Publish) (list []string) {
	var inodes []uint32
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		// All states but that of connections, whose ports are shared with who listens.
		inodes = append(inodes, socketsAt(family, p, ^uint32(netlink.Established))...)
	}
	var pids []int
	for _, owners := range netlink.Owners(inodes) {
		pids = append(pids, owners...)
	}
	slices.Sort(pids)
	for _, pid := range slices.Compact(pids) {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		list = append(list, fmt.Sprintf("%d (%s)", pid, strings.TrimSpace(string(comm))))
	}
	return list
}

// socketsAt gives the inodes of sockets in some states that are bound to the port of the address, or of all.
func socketsAt(family byte, p plan.Publish, states uint32) (inodes []uint32) {
	s, err := netlink.OpenFor(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil
	}
	defer s.Close()
	number, _ := protoNumber(p.Proto)
	list, err := s.Sockets(family, number, states)
	if err != nil {
		return nil
	}
	for _, x := range list {
		// A socket of IPv6 at all addresses may have those of IPv4 as well.
		if x.Inode != 0 && x.Port == p.HostPort && (meet(x.Addr.Unmap(), p.HostAddr) || x.Addr.Is6() && x.Addr.IsUnspecified()) {
			inodes = append(inodes, x.Inode)
		}
	}
	return inodes
}
