package nstest

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Loopback takes the loopback device up of the network namespace that the calling thread is in, where it is not: of a new one it is down.
func Loopback(t testing.TB) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, lo)
	}
	if up := lo.Uint16()&unix.IFF_UP != 0; err == nil && !up {
		lo.SetUint16(unix.IFF_UP)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
	}
	if err != nil {
		t.Errorf("the loopback device: %v", err)
	}
}
