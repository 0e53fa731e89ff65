package reach

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/internal/wait"
)

// patience is how long a test waits for an answer: one on this machine takes less than a
// millisecond, and a SYN that was dropped is sent again after a second.
const patience = 1500 * time.Millisecond

// quiet is how long a program has to read what was sent to it by UDP, and not to say anything.
const quiet = 500 * time.Millisecond

// settled is how long who took a connection has to find nobody to pass it on to, and to give it up.
const settled = 250 * time.Millisecond

// socketTo makes a socket for what is sent to an address.
func socketTo(to netip.AddrPort, kind, protocol int) (fd int, sa unix.Sockaddr, err error) {
	family := unix.AF_INET6
	sa = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	if to.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	fd, err = unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	return fd, sa, err
}

// try connects to an address by TCP or SCTP from the network namespace of the calling thread,
// and closes at once.
func try(to netip.AddrPort, protocol int) Result {
	fd, sa, err := socketTo(to, unix.SOCK_STREAM, protocol)
	if err != nil {
		return Failed
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, sa)
	if err == unix.EINPROGRESS {
		err = answered(fd, time.Now().Add(patience))
	}
	if err == nil && reset(fd) {
		return Reset
	}
	return resultOf(err)
}

// reset waits a little for a connection to be given up by who took it. Who has nothing to say keeps it, and who has says it.
func reset(fd int) bool {
	n, err := wait.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, settled)
	if err != nil || n == 0 {
		return false
	}
	_, _, err = unix.Recvfrom(fd, make([]byte, 1), unix.MSG_PEEK)
	return err == unix.ECONNRESET
}

// tryUDP sends an address one byte, a newline, from the network namespace of the calling thread. An answer tells, and so does the kernel's
// that nobody is there (ICMP). Where neither comes, read tells how many datagrams the programs there have read: it went up
// by this one, if it stood still before.
func tryUDP(to netip.AddrPort, read func() uint64) Result {
	fd, sa, err := socketTo(to, unix.SOCK_DGRAM, 0)
	if err != nil {
		return Failed
	}
	defer unix.Close(fd)
	if err = unix.Connect(fd, sa); err != nil {
		return resultOf(err)
	}
	before := read()
	poll := func(limit time.Duration) bool {
		n, _ := wait.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, limit)
		return n > 0
	}
	poll(quiet / 10)
	busy := read() != before // others send as well
	if _, err := unix.Write(fd, []byte("\n")); err != nil {
		return resultOf(err)
	}
	var heard time.Time
	for until := time.Now().Add(patience); time.Now().Before(until); {
		if poll(20 * time.Millisecond) {
			var b [1]byte
			if _, err := unix.Read(fd, b[:]); err != nil {
				return resultOf(err)
			}
			return Answered
		}
		switch {
		case busy || read() == before:
		case heard.IsZero():
			heard = time.Now()
		case time.Since(heard) > quiet:
			return Arrived
		}
	}
	return NoAnswer
}

// datagrams is how many of UDP the programs in the network namespace of a process have read: proc_pid_net(5), snmp.
func datagrams(pid int) (n uint64) {
	v4, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/snmp", pid))
	for line := range strings.Lines(string(v4)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Udp:" && f[1] != "InDatagrams" {
			v, _ := strconv.ParseUint(f[1], 10, 64)
			n += v
		}
	}
	v6, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/snmp6", pid))
	for line := range strings.Lines(string(v6)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "Udp6InDatagrams" {
			v, _ := strconv.ParseUint(f[1], 10, 64)
			n += v
		}
	}
	return n
}

// resultOf is what the kernel's answer says.
func resultOf(err error) Result {
	switch err {
	case nil:
		return Connected
	case unix.ECONNREFUSED:
		return Refused
	case unix.ECONNRESET: // it was there: who refuses it says the other
		return Reset
	case unix.ETIMEDOUT:
		return NoAnswer
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EADDRNOTAVAIL, unix.EHOSTDOWN:
		return Unreachable
	case unix.EPERM, unix.EACCES:
		return NotAllowed
	}
	return Failed
}

// answered waits until the connection is made or has failed.
func answered(fd int, until time.Time) error {
	n, err := wait.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, max(time.Until(until), 0))
	switch {
	case err != nil:
		return err
	case n == 0:
		return unix.ETIMEDOUT
	}
	e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if e != 0 {
		return unix.Errno(e)
	}
	return nil
}
