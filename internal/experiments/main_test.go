package experiments

import (
	"os"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	os.Exit(nstest.Main(m, nstest.Options{Build: []string{"./cmd/kakuri", "./cmd/kakuri-runtime", "./cmd/kakuri-uplink"}}))
}

// loopbackUp starts the loopback of the tests' network namespace, which a machine has up.
func loopbackUp(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
}
