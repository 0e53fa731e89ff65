package serve

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/internal/seqpacket"
	"github.com/kakuri/kakuri/netip"
	"github.com/kakuri/kakuri/network"
	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/uplink"
	"golang.org/x/sys/unix"
)

// What the process in the namespaces is told, and says. Each message gets one answer.
const (
	wordTUN    = "tun"    // DEVICE MTU ADDR/BITS GATEWAY ADDR/BITS GATEWAY: makes it; the answer brings its descriptor
	wordLook   = "look"   // DEVICE: whether it is up, and its addresses
	wordListen = "listen" // ADDR PROTO: for names; the answer brings a socket
	wordServe  = "serve"  // ID PROTO ADDR PORT, and a socket of the machine: passes on what comes to that
	wordStop   = "stop"   // ID
	wordError  = "error"  // an answer: what went wrong
	wordDone   = "done"
)

// wordsMax is the size of such a message, in bytes.
const wordsMax = 4 << 10

// answerMark is on sockets whose address is a sender's: see [network.LeadAnswersHere].
const answerMark = 0x6b61

// An inside is the process in the namespaces: it makes the device, and passes on what comes to ports.
type inside struct {
	routes *netlink.Socket // of the relay's goroutine
	device string          // that leads out
	relay  *network.Relay
	ports  map[string]int // sockets by ID
}

// runInside does what it is told on a descriptor until that ends.
func runInside(fd int) error {
	unix.CloseOnExec(fd)
	os.WriteFile("/proc/self/comm", []byte(uplink.Program), 0) // for who looks: it would be "exe"
	conn, err := seqpacket.New(fd)
	if err != nil {
		return err
	}
	in := &inside{device: deviceName, ports: map[string]int{}}
	if err := in.prepare(); err != nil {
		seqpacket.Send(conn, []byte(wordError+" "+err.Error()))
		return err
	}
	if err := seqpacket.Send(conn, []byte(wordDone)); err != nil {
		return err
	}
	for buf := make([]byte, wordsMax); ; {
		n, fds, err := seqpacket.Receive(conn, buf, 1)
		if err != nil {
			return nil // the other side is gone
		}
		answer, out, err := in.do(strings.Split(string(buf[:n]), " "), fds)
		if err != nil {
			answer = wordError + " " + err.Error()
		}
		var send []int
		if out >= 0 {
			send = []int{out}
		}
		err = seqpacket.Send(conn, []byte(answer), send...)
		if out >= 0 {
			unix.Close(out)
		}
		if err != nil {
			return nil
		}
	}
}

func (in *inside) prepare() (err error) {
	s, err := netlink.Open()
	if err != nil {
		return err
	}
	in.routes = s
	if err := up(s, "lo", 0); err != nil {
		return err
	}
	if err := network.LeadAnswersHere(answerMark); err != nil {
		return err
	}
	if in.relay, err = network.NewRelay(files.Most() - 64); err != nil {
		return err
	}
	in.relay.Dress = in.dress
	return nil
}

func (in *inside) do(words []string, fds []int) (answer string, out int, err error) {
	out = -1
	keep := false
	defer func() {
		for _, fd := range fds {
			if !keep {
				unix.Close(fd)
			}
		}
	}()
	switch {
	case words[0] == wordTUN && len(words) == 7:
		out, err = in.tun(words[1:])
		return wordDone, out, err
	case words[0] == wordLook && len(words) == 2:
		answer, err = look(words[1])
		return answer, -1, err
	case words[0] == wordListen && len(words) == 3:
		a, err := netip.ParseAddr(words[1])
		if err == nil {
			out, err = listenForNames(a, words[2])
		}
		return wordDone, out, err
	case words[0] == wordServe && len(words) == 5 && len(fds) == 1:
		to, err := netip.ParseAddr(words[3])
		if err != nil {
			return "", -1, err
		}
		port, err := strconv.ParseUint(words[4], 10, 16)
		if err != nil {
			return "", -1, err
		}
		if err := in.relay.Serve(fds[0], words[2], to, uint16(port)); err != nil {
			return "", -1, err
		}
		in.ports[words[1]], keep = fds[0], true
		return wordDone, -1, nil
	case words[0] == wordStop && len(words) == 2:
		if fd, ok := in.ports[words[1]]; ok {
			in.relay.Stop(fd)
			unix.Close(fd)
			delete(in.ports, words[1])
		}
		return wordDone, -1, nil
	}
	return "", -1, fmt.Errorf("it does not know %q", words)
}

// dress gives a socket the sender's address, where answers to that would leave by the device that leads out: not to one that is in here as
// well, or on the machine's loopback.
func (in *inside) dress(fd int, from unix.Sockaddr) bool {
	var a netip.Addr
	level, option := unix.IPPROTO_IP, unix.IP_TRANSPARENT
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		a = netip.AddrFrom4(from.Addr)
	case *unix.SockaddrInet6:
		a = netip.AddrFrom16(from.Addr)
		level, option = unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT
	}
	if !a.IsValid() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.Is6() && a.IsLinkLocalUnicast() || !in.leadsOut(a) {
		return false
	}
	if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || (domain == unix.AF_INET) != a.Is4() {
		return false // the container has no address of the sender's family
	}
	return unix.SetsockoptInt(fd, level, option, 1) == nil &&
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, answerMark) == nil &&
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) == nil && // the sender's port may lead to two of ours
		unix.Bind(fd, from) == nil
}

// leadsOut reports whether packets to an address would leave by the device, or there is no way to it.
func (in *inside) leadsOut(a netip.Addr) bool {
	head := make([]byte, unix.SizeofRtMsg)
	head[0], head[1] = unix.AF_INET6, byte(a.BitLen())
	if a.Is4() {
		head[0] = unix.AF_INET
	}
	var device uint32
	m := netlink.NewMessage(unix.RTM_GETROUTE, 0, head).Add(unix.RTA_DST, a.AsSlice())
	body, err := in.routes.Ask(m, unix.RTM_NEWROUTE)
	if err != nil {
		return errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH)
	}
	if len(body) >= unix.SizeofRtMsg {
		netlink.Attributes(body[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
			if kind == unix.RTA_OIF && len(value) == 4 {
				device = binary.NativeEndian.Uint32(value)
			}
		})
	}
	l, err := in.routes.Link(in.device)
	return err == nil && uint32(l.Index) == device
}

// tun makes the device with its addresses and default routes. It is there as long as the descriptor.
func (in *inside) tun(words []string) (fd int, err error) {
	device := words[0]
	mtu, err := strconv.Atoi(words[1])
	if err != nil {
		return -1, err
	}
	fd, err = openTUN(device)
	if err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	s, err := netlink.Open()
	if err != nil {
		return -1, err
	}
	defer s.Close()
	// Nobody is to be asked for routers and addresses by it.
	os.WriteFile("/proc/sys/net/ipv6/conf/"+device+"/accept_ra", []byte("0"), 0)
	if err := up(s, device, mtu); err != nil {
		return -1, err
	}
	l, err := s.Link(device)
	if err != nil {
		return -1, err
	}
	for i := 2; i+1 < len(words); i += 2 {
		p, err := netip.ParsePrefix(words[i])
		if err != nil {
			return -1, err
		}
		gateway, err := netip.ParseAddr(words[i+1])
		if err != nil {
			return -1, err
		}
		if err := wayOut(s, l.Index, p, gateway); err != nil {
			if p.Addr().Is6() && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EAFNOSUPPORT)) {
				continue // a kernel without IPv6, or told to be
			}
			return -1, fmt.Errorf("device %s: %v: %w", device, p, err)
		}
	}
	return fd, nil
}

func openTUN(device string) (int, error) {
	fd, err := uplink.OpenDevice()
	if err != nil {
		return -1, err
	}
	req, err := unix.NewIfreq(device)
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	// That of an uplink that was killed a moment ago goes with its processes.
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
		if err != unix.EBUSY && err != unix.EEXIST && err != unix.EINVAL || time.Now().After(until) {
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("device %s: %w", device, os.NewSyscallError("ioctl TUNSETIFF", err))
	}
	return fd, nil
}

func up(s *netlink.Socket, device string, mtu int) error {
	m := netlink.NewMessage(unix.RTM_NEWLINK, 0, netlink.IfInfo(0, unix.IFF_UP, unix.IFF_UP)).AddString(unix.IFLA_IFNAME, device)
	if mtu > 0 {
		m = m.AddUint32(unix.IFLA_MTU, uint32(mtu))
	}
	if err := s.One(m); err != nil {
		return fmt.Errorf("device %s: up: %w", device, err)
	}
	return nil
}

// wayOut gives a device an address, and leads all else of the family to a gateway by it: rtnetlink(7).
func wayOut(s *netlink.Socket, index int32, p netip.Prefix, gateway netip.Addr) error {
	family := byte(unix.AF_INET6)
	if p.Addr().Is4() {
		family = unix.AF_INET
	}
	head := make([]byte, unix.SizeofIfAddrmsg)
	head[0], head[1], head[2], head[3] = family, byte(p.Bits()), unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE
	binary.NativeEndian.PutUint32(head[4:], uint32(index))
	address := netlink.NewMessage(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, head).Add(unix.IFA_LOCAL, p.Addr().AsSlice()).Add(unix.IFA_ADDRESS, p.Addr().AsSlice())
	head = make([]byte, unix.SizeofRtMsg)
	head[0], head[4], head[5], head[6], head[7] = family, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST
	route := netlink.NewMessage(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, head).Add(unix.RTA_GATEWAY, gateway.AsSlice()).AddUint32(unix.RTA_OIF, uint32(index))
	return s.One(address, route)
}

// look says whether a device is up and has a way out: "up" or "down", and the addresses.
func look(device string) (string, error) {
	s, err := netlink.Open()
	if err != nil {
		return "", err
	}
	defer s.Close()
	l, err := s.Link(device)
	if errors.Is(err, unix.ENODEV) {
		return "down", nil
	}
	if err != nil {
		return "", err
	}
	answer := "down"
	if l.Up {
		answer = "up"
	}
	addrs, err := s.Addrs(l.Index)
	if err != nil {
		return "", err
	}
	for _, a := range addrs {
		if !a.Prefix.Addr().IsLinkLocalUnicast() {
			answer += " " + a.Prefix.String()
		}
	}
	return answer, nil
}
