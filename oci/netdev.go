package oci

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// moveNetDevice moves a device of this process's network namespace into that of process pid:
// runtime-spec, config-linux.md, "Network Devices".
func moveNetDevice(op *plan.MoveNetDevice, pid int) error {
	ns, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	defer unix.Close(ns)
	host, err := openRoute()
	if err != nil {
		return err
	}
	defer host.close()
	inside, err := openRouteIn(ns)
	if err != nil {
		return fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	defer inside.close()
	from, err := host.index(op.Device)
	if err != nil {
		return fmt.Errorf("network device %s: %w", op.Device, err)
	}
	addresses, err := host.addresses(from)
	if err != nil {
		return err
	}
	before, err := inside.links()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(before, func(l link) bool { return l.name == op.To }) {
		return fmt.Errorf("network device %s: the container's network namespace has a device %s: %w", op.Device, op.To, unix.EEXIST)
	}
	name := append([]byte(op.To), 0)
	fd := binary.NativeEndian.AppendUint32(nil, uint32(ns))
	if err := host.change(from, 0, attr(unix.IFLA_NET_NS_FD, fd), attr(unix.IFLA_IFNAME, name)); err != nil {
		return fmt.Errorf("move network device %s to the container as %s: %w", op.Device, op.To, err)
	}
	after, err := inside.links()
	if err != nil {
		return err
	}
	// The index is the old one, unless another device inside has it.
	i := slices.IndexFunc(after, func(l link) bool {
		return l.name == op.To || strings.Contains(op.To, "%") && !slices.Contains(before, l)
	})
	if i < 0 {
		return fmt.Errorf("network device %s is not in the container's network namespace after its move", op.Device)
	}
	for _, a := range addresses {
		if err := inside.add(after[i].index, a); err != nil {
			return fmt.Errorf("address of network device %s: %w", op.To, err)
		}
	}
	if err := inside.change(after[i].index, unix.IFF_UP); err != nil {
		return fmt.Errorf("set network device %s up: %w", op.To, err)
	}
	return nil
}

// A route is a socket for rtnetlink(7), in the network namespace that it was made in.
type route struct{ fd int }

func openRoute() (route, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return route{}, os.NewSyscallError("socket", err)
	}
	return route{fd}, nil
}

// openRouteIn opens one in another namespace, by a thread that ends there.
func openRouteIn(ns int) (r route, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			err = os.NewSyscallError("setns", err)
			return
		}
		r, err = openRoute()
	}()
	<-done
	return r, err
}

func (r route) close() { unix.Close(r.fd) }

// attr is an attribute of a message: rtnetlink(3).
func attr(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

// ask sends a message and gives those that answer it.
func (r route) ask(kind, flags uint16, body []byte) ([]syscall.NetlinkMessage, error) {
	ne := binary.NativeEndian
	msg := ne.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	msg = ne.AppendUint16(msg, kind)
	msg = ne.AppendUint16(msg, flags|unix.NLM_F_REQUEST)
	msg = append(ne.AppendUint32(ne.AppendUint32(msg, 1), 0), body...)
	if err := unix.Sendto(r.fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	var all []syscall.NetlinkMessage
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(r.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recvfrom", err)
		}
		list, err := syscall.ParseNetlinkMessage(bytes.Clone(buf[:n]))
		if err != nil {
			return nil, err
		}
		for _, m := range list {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return all, nil
			case unix.NLMSG_ERROR:
				if len(m.Data) < 4 {
					return nil, errors.New("a netlink error without a number")
				}
				if errno := int32(ne.Uint32(m.Data)); errno != 0 {
					return nil, syscall.Errno(-errno)
				}
				return all, nil
			}
			all = append(all, m)
		}
	}
}

// ifinfo is struct ifinfomsg: rtnetlink(7).
func ifinfo(index int32, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

type link struct {
	index int32
	name  string
}

func (r route) links() ([]link, error) {
	list, err := r.ask(unix.RTM_GETLINK, unix.NLM_F_DUMP, ifinfo(0, 0, 0))
	if err != nil {
		return nil, fmt.Errorf("network devices: %w", err)
	}
	var links []link
	for _, m := range list {
		if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		l := link{index: int32(binary.NativeEndian.Uint32(m.Data[4:]))}
		attrs, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return nil, err
		}
		for _, a := range attrs {
			if a.Attr.Type == unix.IFLA_IFNAME {
				l.name = unix.ByteSliceToString(a.Value)
			}
		}
		links = append(links, l)
	}
	return links, nil
}

// index finds a device by its name.
func (r route) index(name string) (int32, error) {
	links, err := r.links()
	if err != nil {
		return 0, err
	}
	for _, l := range links {
		if l.name == name {
			return l.index, nil
		}
	}
	return 0, errors.New("the host has no device of that name")
}

// change sets flags and attributes of a device.
func (r route) change(index int32, flags uint32, attrs ...[]byte) error {
	_, err := r.ask(unix.RTM_NEWLINK, unix.NLM_F_ACK, append(ifinfo(index, flags, flags), bytes.Join(attrs, nil)...))
	return err
}

// An address is what is kept of a device's: the head of its message, and attributes.
type address struct {
	family, prefix, scope byte
	attrs                 []byte
}

// addresses lists the permanent ones of global scope that a device has.
func (r route) addresses(index int32) ([]address, error) {
	list, err := r.ask(unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg))
	if err != nil {
		return nil, fmt.Errorf("addresses: %w", err)
	}
	var out []address
	for _, m := range list {
		if m.Header.Type != unix.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg || int32(binary.NativeEndian.Uint32(m.Data[4:])) != index {
			continue
		}
		a := address{family: m.Data[0], prefix: m.Data[1], scope: m.Data[3]}
		flags := uint32(m.Data[2])
		attrs, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return nil, err
		}
		for _, at := range attrs {
			switch at.Attr.Type {
			case unix.IFA_ADDRESS, unix.IFA_LOCAL, unix.IFA_BROADCAST, unix.IFA_RT_PRIORITY:
				a.attrs = append(a.attrs, attr(at.Attr.Type, at.Value)...)
			case unix.IFA_FLAGS:
				if len(at.Value) == 4 {
					flags = binary.NativeEndian.Uint32(at.Value)
				}
			}
		}
		if flags&unix.IFA_F_PERMANENT == 0 || a.scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		if keep := flags & (unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD); keep != 0 {
			a.attrs = append(a.attrs, attr(unix.IFA_FLAGS, binary.NativeEndian.AppendUint32(nil, keep))...)
		}
		out = append(out, a)
	}
	return out, nil
}

func (r route) add(index int32, a address) error {
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[0], b[1], b[3] = a.family, a.prefix, a.scope
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	_, err := r.ask(unix.RTM_NEWADDR, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, append(b, a.attrs...))
	return err
}
