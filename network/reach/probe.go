package reach

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for an answer: one on this machine takes less than a
// millisecond, and a SYN that was dropped is sent again after a second.
const patience = 1500 * time.Millisecond

// try connects to an address by TCP from the network namespace of the calling thread,
// and closes at once. Other protocols have no answer that tells.
func try(to netip.AddrPort) Result {
	fam := unix.AF_INET6
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	if to.Addr().Is4() {
		fam, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	fd, err := unix.Socket(fam, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Failed
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, sa)
	if err == unix.EINPROGRESS {
		err = answered(fd, time.Now().Add(patience))
	}
	switch err {
	case nil:
		return Connected
	case unix.ECONNREFUSED, unix.ECONNRESET:
		return Refused
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
	for {
		left := max(time.Until(until).Milliseconds(), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(left))
		switch {
		case err == unix.EINTR:
			continue
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
}
