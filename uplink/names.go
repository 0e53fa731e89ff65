package uplink

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/netip"
	"golang.org/x/sys/unix"
)

// A NameServer is a server for names that a machine asks.
type NameServer struct {
	Addr   netip.Addr
	Port   uint16 // 0 is 53; systemd-resolved alone has others
	Device uint32 // number of the one that a link-local address is on; 0 for none
}

// String is it as resolv.conf(5) has it, which knows no ports.
func (s NameServer) String() string {
	if s.Device == 0 {
		return s.Addr.String()
	}
	return s.Addr.String() + "%" + strconv.Itoa(int(s.Device))
}

// ParseNameServer reads one as resolv.conf(5) has it: 192.0.2.1, fe80::1%eth0, or fe80::1%2.
func ParseNameServer(text string) (s NameServer, err error) {
	text, device, _ := strings.Cut(text, "%")
	if s.Addr, err = netip.ParseAddr(text); err != nil {
		return s, err
	}
	s.Addr = s.Addr.OrLoopback()
	if device != "" && s.Addr.Is6() && s.Addr.IsLinkLocalUnicast() {
		s.Device = ifNameToIndex(device)
	}
	return s, nil
}

// A Resolv is a resolv.conf(5): whom a machine asks for names.
type Resolv struct {
	Servers []NameServer
	Search  []string
	Options []string
}

// ParseResolv reads one; what it does not know it leaves out, as it does remarks, wherever on a line they begin.
func ParseResolv(data []byte) (r Resolv) {
	for line := range strings.Lines(string(data)) {
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if s, err := ParseNameServer(f[1]); err == nil {
				r.Servers = append(r.Servers, s)
			}
		case "search", "domain":
			r.Search = f[1:]
		case "options":
			r.Options = append(r.Options, f[1:]...)
		}
	}
	return r
}

// Asked are the servers that are asked: where none is named, one of the machine itself.
func (r Resolv) Asked() []NameServer {
	if len(r.Servers) == 0 {
		return []NameServer{{Addr: netip.IPv4Unspecified().OrLoopback()}}
	}
	return r.Servers
}

// Stub reports whether the only servers are those of systemd-resolved on the machine itself.
func (r Resolv) Stub() bool {
	return len(r.Servers) > 0 && !slices.ContainsFunc(r.Servers, func(s NameServer) bool { return s.Addr.String() != "127.0.0.53" && s.Addr.String() != "127.0.0.54" })
}

// ResolvConf is whom a machine asks for names, and resolvedConf whom systemd-resolved asks for it.
const (
	ResolvConf   = "/etc/resolv.conf"
	resolvedConf = resolvedDir + "/resolv.conf"
)

// Behind is whom the stub of systemd-resolved asks, where that is all there is of servers and it names some; read reads a file.
func (r Resolv) Behind(read func(name string) []byte) (real Resolv, behind bool) {
	if r.Stub() {
		if real := ParseResolv(read(resolvedConf)); len(real.Servers) > 0 {
			return real, true
		}
	}
	return r, false
}

// ifNameToIndex is if_nametoindex(3) in this network namespace, for a device that may be named by its number itself; 0 is none.
func ifNameToIndex(name string) uint32 {
	if req, err := unix.NewIfreq(name); err == nil {
		if fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err == nil {
			defer unix.Close(fd)
			if unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req) == nil {
				return req.Uint32()
			}
		}
	}
	n, _ := strconv.ParseUint(name, 10, 31)
	return uint32(n)
}

// Inside is where who is in a namespace with an uplink asks it, if that is on its loopback: one on the machine's loopback at the same address, and one
// that is known by a device of the machine, which no other namespace has, at an address that is made of both.
func (s NameServer) Inside() (a netip.Addr, ok bool) {
	if s.Device == 0 {
		return s.Addr, s.Addr.IsLoopback()
	}
	h := fnv.New32a()
	b := s.Addr.As16()
	h.Write(binary.BigEndian.AppendUint32(b[:], s.Device))
	sum := h.Sum32()
	// 127.128.0.0/9, within which nobody has a server.
	return netip.AddrFrom4([4]byte{127, 128 | byte(sum>>16), byte(sum >> 8), byte(sum)}), true
}
