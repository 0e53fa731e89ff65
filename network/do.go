package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/internal/thread"
	"github.com/kakuri/kakuri/network/netlink"
	"github.com/kakuri/kakuri/plan"
)

// A Doer does the network operations of one launch that leave nothing to be kept: ports are held, and names answered, by the
// container's monitor. It is for one goroutine at a time, and Close ends it.
type Doer struct {
	Rules *Rules // nil where another one does the operations of rules

	host    *netlink.Socket  // of this process's namespace, once it is needed
	in      *inside          // the container's namespace
	bridges map[string]int32 // that are known to be there, by name
}

// Close closes what the doer has open. What was made stays.
func (d *Doer) Close() {
	if d.host != nil {
		d.host.Close()
	}
	if d.in != nil {
		d.in.close()
	}
	d.host, d.in, d.bridges = nil, nil, nil
}

// Do does op, if it is one of networks, for the container whose first process is pid, 0 while there is none.
func (d *Doer) Do(ctx context.Context, op plan.Op, pid int) (handled bool, err error) {
	switch op := op.(type) {
	case *plan.World:
		return true, inWorld()
	case *plan.SetForwarding:
		return true, setForwarding(op)
	case *plan.MakeBridge:
		return true, d.makeBridge(op.Bridge)
	case *plan.RemoveBridge:
		return true, d.removeBridge(op.Device, op.Alias)
	case *plan.MakeParent:
		return true, d.makeParent(op.Parent)
	case *plan.MakeVeth:
		return true, d.makeVeth(op, pid)
	case *plan.MakeMacvlan:
		return true, d.makeMacvlan(ctx, op, pid)
	case *plan.MakeIPvlan:
		return true, d.makeIPvlan(op, pid)
	case *plan.MoveNetDevice:
		return true, d.moveDevice(op, pid)
	case *plan.DeviceSysctl:
		return true, d.deviceSysctl(op, pid)
	case *plan.LinkUp:
		return true, d.linkUp(ctx, op, pid)
	case *plan.AddAddress:
		return true, d.addAddress(ctx, op, pid)
	case *plan.Announce:
		return true, d.announce(op, pid)
	case *plan.AddRoute:
		return true, d.addRoute(op, pid)
	case *plan.LimitEgress:
		return true, d.limitEgress(op, pid)
	}
	if d.Rules == nil {
		return false, nil
	}
	switch op := op.(type) {
	case *plan.MakeRules:
		for _, b := range op.Bridges {
			if err := d.Rules.AddBridge(b); err != nil {
				return true, err
			}
		}
		return true, nil
	case *plan.PublishPorts:
		return true, d.Rules.Publish(op.Owner, op.Ports)
	case *plan.UnpublishPorts:
		return true, d.Rules.Unpublish(op.Owner)
	}
	return false, nil
}

// hostSocket is the host's, made at its first use.
func (d *Doer) hostSocket() (*netlink.Socket, error) {
	if d.host == nil {
		s, err := netlink.Open()
		if err != nil {
			return nil, err
		}
		d.host = s
	}
	return d.host, nil
}

// inside is a network namespace that is worked in: a descriptor of it, a socket that was made in it, and a thread.
type inside struct {
	pid     int
	ns      int
	s       *netlink.Socket
	devices map[string]int32     // by name, as far as they were asked for
	cables  map[string][2]string // of veths that were made: the other end and its bridge
	calls   chan func()
}

// enter gives the namespace of a process. It is kept, so that one that ends meanwhile cannot be taken for another.
func (d *Doer) enter(pid int) (*inside, error) {
	if d.in != nil && d.in.pid == pid {
		return d.in, nil
	}
	if d.in != nil {
		d.in.close()
		d.in = nil
	}
	path := "/proc/" + strconv.Itoa(pid) + "/ns/net"
	ns, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	in := &inside{pid: pid, ns: ns, devices: map[string]int32{}, cables: map[string][2]string{}, calls: make(chan func())}
	began := make(chan error, 1)
	thread.Aside(func() {
		err := os.NewSyscallError("setns", unix.Setns(ns, unix.CLONE_NEWNET))
		if err == nil {
			in.s, err = netlink.Open()
		}
		if began <- err; err != nil {
			return
		}
		for call := range in.calls {
			call()
		}
	})
	if err := <-began; err != nil {
		unix.Close(ns)
		return nil, fmt.Errorf("network namespace of process %d: %w", pid, hint(err, ""))
	}
	d.in = in
	return in, nil
}

func (in *inside) close() {
	close(in.calls)
	in.s.Close()
	unix.Close(in.ns)
}

// do runs f on the thread that is in the namespace.
func (in *inside) do(f func() error) (err error) {
	done := make(chan struct{})
	in.calls <- func() {
		defer close(done)
		err = f()
	}
	<-done
	return err
}

// index finds a device of the namespace.
func (in *inside) index(name string) (int32, error) {
	if i, ok := in.devices[name]; ok {
		return i, nil
	}
	l, err := in.s.Link(name)
	if err != nil {
		return 0, fmt.Errorf("device %s of the container: %w", name, hint(err, ""))
	}
	in.devices[name] = l.Index
	return l.Index, nil
}

// inWorld is nil in a network world: this process is in a user namespace, which owns its network namespace.
func inWorld() error {
	const getUserNS = 0xb701 // NS_GET_USERNS: ioctl_nsfs(2)
	var own, owner unix.Stat_t
	if err := unix.Stat("/proc/self/ns/user", &own); err != nil {
		return &os.PathError{Op: "stat", Path: "/proc/self/ns/user", Err: err}
	}
	ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/proc/thread-self/ns/net", Err: err}
	}
	defer unix.Close(ns)
	fd, err := unix.IoctlRetInt(ns, getUserNS)
	if err == nil {
		defer unix.Close(fd)
		err = unix.Fstat(fd, &owner)
	}
	if errors.Is(err, unix.EPERM) || err == nil && owner.Ino != own.Ino {
		return errors.New("this process is in no network world: its user namespace does not own its network namespace")
	}
	return os.NewSyscallError("ioctl", err)
}

// setForwarding changes what is not so already.
func setForwarding(op *plan.SetForwarding) error {
	if op.V4 {
		if err := setSysctl("net/ipv4/ip_forward", "1"); err != nil {
			return err
		}
	}
	if !op.V6 || sysctlIs("net/ipv6/conf/all/forwarding", "1") {
		return nil
	}
	// A host that forwards takes no router's word unless it is told to, and would lose its own way out.
	dir, err := os.Open("/proc/sys/net/ipv6/conf")
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("net.ipv6.conf.all.forwarding: %w", errNoIPv6)
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if accept := "net/ipv6/conf/" + name + "/accept_ra"; name != "all" && sysctlIs(accept, "1") {
			if err := setSysctl(accept, "2"); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return setSysctl("net/ipv6/conf/all/forwarding", "1")
}

// NotForwarding says which packets that op is about the host does not pass on; empty where it passes on all.
func NotForwarding(op *plan.SetForwarding) string {
	const so = " is not 1: the machine passes nothing on between containers and others"
	switch {
	case op.V4 && !sysctlIs("net/ipv4/ip_forward", "1"):
		return "net.ipv4.ip_forward" + so
	case op.V6 && !sysctlIs("net/ipv6/conf/all/forwarding", "1"):
		return "net.ipv6.conf.all.forwarding" + so
	}
	return ""
}

// setSysctl writes a file below /proc/sys where it has another value. That of the calling thread's namespaces is meant.
func setSysctl(path, value string) error {
	if sysctlIs(path, value) {
		return nil
	}
	f, err := os.OpenFile("/proc/sys/"+path, os.O_WRONLY, 0)
	if err != nil {
		return hint(err, "")
	}
	_, err = f.WriteString(value)
	if e := f.Close(); err == nil {
		err = e
	}
	return hint(err, "")
}

func sysctlIs(path, value string) bool {
	fd, err := unix.Open("/proc/sys/"+path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var buf [32]byte
	n, err := unix.Read(fd, buf[:])
	return err == nil && n == len(value)+1 && string(buf[:n-1]) == value
}

// deviceSysctl writes in the container's namespace.
func (d *Doer) deviceSysctl(op *plan.DeviceSysctl, pid int) error {
	in, err := d.enter(pid)
	if err != nil {
		return err
	}
	err = in.do(func() error { return setSysctl(op.Path(), op.Value) })
	if op.Optional && errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// A hinted error says what the reader can do, once.
type hinted struct {
	error
	way string
}

func (h *hinted) Error() string { return h.error.Error() + ": " + h.way }
func (h *hinted) Unwrap() error { return h.error }

// hint adds to the kernel's answer what the reader can do. kind is what was to be made, if anything.
func hint(err error, kind string) error {
	switch {
	case err == nil || errors.As(err, new(*hinted)):
		return err
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) && kind == "":
		return &hinted{err, "that takes CAP_NET_ADMIN in the network namespace: run it as root, in a container with --cap-add NET_ADMIN, or with --network none"}
	case errors.Is(err, unix.EROFS): // of /proc/sys, the one file system here
		return &hinted{err, "/proc/sys is read-only here, as in a unit of systemd with ProtectKernelTunables=, or in a container without --privileged: have it be writable"}
	case kind != "" && errors.Is(err, unix.EOPNOTSUPP):
		return &hinted{err, fmt.Sprintf("the kernel knows no %s: load it by modprobe %[1]s, or take another driver, or --network none", kind)}
	case errors.Is(err, unix.EXFULL):
		return &hinted{err, "a bridge has at most 1023 ports: connect it to another network"}
	}
	return err
}
