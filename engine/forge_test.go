package engine

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// forger tries to have sockets send from an address that is not the container's, and says what it is told.
func forger([]string) int {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		for _, o := range [][2]int{{unix.IPPROTO_IPV6, unix.IPV6_FREEBIND}, {unix.IPPROTO_IP, unix.IP_FREEBIND}} {
			if family == unix.AF_INET && o[0] == unix.IPPROTO_IPV6 {
				continue
			}
			if err := unix.SetsockoptInt(fd, o[0], o[1], 1); err != unix.ENOPROTOOPT {
				fmt.Printf("family %d, level %d: %v\n", family, o[0], err)
			}
			// The kernel reads 32 bits of both; without a filter it would find no value.
			for _, high := range [][2]uintptr{{1 << 32, 0}, {0, 1 << 32}, {1 << 40, 1 << 63}} {
				if _, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(o[0])|high[0], uintptr(o[1])|high[1], 0, 4, 0); e != unix.ENOPROTOOPT {
					fmt.Printf("family %d, level %d, high bits %x: %v\n", family, o[0], high, e)
				}
			}
		}
		// All else goes on, options of the same numbers on other levels among it.
		for _, o := range [][2]int{{unix.SOL_SOCKET, unix.SO_REUSEADDR}, {unix.SOL_SOCKET, unix.SO_REUSEPORT}, {unix.IPPROTO_IP, unix.IP_RECVTTL}} {
			if err := unix.SetsockoptInt(fd, o[0], o[1], 1); err != nil {
				fmt.Printf("family %d, level %d, option %d: %v\n", family, o[0], o[1], err)
			}
		}
		var to unix.Sockaddr = &unix.SockaddrInet4{Port: 1000, Addr: netip.MustParseAddr("192.0.2.77").As4()}
		if family == unix.AF_INET6 {
			to = &unix.SockaddrInet6{Port: 1000, Addr: netip.MustParseAddr("2001:db8::77").As16()}
		}
		if err := unix.Bind(fd, to); err == nil {
			fmt.Printf("family %d: it has another's address\n", family)
		}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	// A kernel that has not got it says that it knows none of that name.
	for _, name := range []string{"tls", "espintcp", "nosuch"} {
		if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_ULP, name); err != unix.ENOPROTOOPT {
			fmt.Printf("ulp %s: %v\n", name, err)
		}
	}
	if _, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), 1<<32|unix.IPPROTO_TCP, 1<<40|unix.TCP_ULP, 0, 4, 0); e != unix.ENOPROTOOPT {
		fmt.Printf("ulp, high bits: %v\n", e)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		fmt.Printf("TCP_NODELAY: %v\n", err)
	}
	fmt.Println("tried")
	return 0
}

// TestForgedSender: a container without CAP_NET_RAW and CAP_NET_ADMIN sends from its own addresses only, over IPv6 too, where binding a socket to another's is an option that everybody has.
func TestForgedSender(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	for _, level := range []string{"", "level=strict", "seccomp=debug", "seccomp=i386"} {
		c := Config{Rootfs: root, Command: []string{"/forger"}, Mounts: []Mount{{Type: "bind", Source: nstest.Exe, Dest: "/forger", Options: []string{"rbind"}, Flag: "-v"}}}
		if level != "" {
			c.SecurityOpt = []string{level}
		}
		if out, code, err := inside(t, e, c); err != nil || code != 0 || out != "tried\n" {
			t.Errorf("%s: %v, code %d: %s", level, err, code, out)
		}
	}
	// Who may send whatever it likes has the option.
	c := Config{Rootfs: root, Command: []string{"/forger"}, CapAdd: []string{"NET_RAW"}, Mounts: []Mount{{Type: "bind", Source: nstest.Exe, Dest: "/forger", Options: []string{"rbind"}, Flag: "-v"}}}
	if out, _, err := inside(t, e, c); err != nil || out == "tried\n" || strings.Contains(out, "ulp") || strings.Contains(out, "NODELAY") {
		t.Errorf("with NET_RAW: %v: %s", err, out)
	}
}
