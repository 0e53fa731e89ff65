package nstest

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// ResolvConf has the test's machine have a resolv.conf(5) of a text, to the test's end, which write makes another one.
func ResolvConf(t testing.TB, text string) (write func(text string)) {
	t.Helper()
	conf := filepath.Join(Dir(t), "resolv.conf")
	write = func(text string) {
		t.Helper()
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	const name = "/etc/resolv.conf" // or what it leads to: both calls follow links
	if err := unix.Mount(conf, name, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(name, unix.MNT_DETACH) })
	return write
}
