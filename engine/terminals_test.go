package engine

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// hoarder takes all pseudoterminals that it gets, says how many, and keeps them.
func hoarder([]string) int {
	n := 0
	for {
		if _, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err != nil {
			fmt.Printf("%d: %v\n", n, err)
			_, _ = unix.Read(0, make([]byte, 1))
			return 0
		}
		n++
	}
}

// TestHoardedTerminals: a container does not get all pseudoterminals that the machine has for containers, which it would keep from all others.
func TestHoardedTerminals(t *testing.T) {
	nstest.Root(t)
	e, root := open(t), nstest.RootFS(t)
	c := detached(t, e, Config{Name: "hoarder", Rootfs: root, Interactive: true, Command: []string{"/hoarder"},
		Mounts: []Mount{{Type: "bind", Source: nstest.Exe, Dest: "/hoarder", Options: []string{"rbind"}, Flag: "-v"}}})
	said := ""
	nstest.Until(t, "all of them", func() bool { said = logs(t, e, c.ID, LogOptions{}); return strings.HasSuffix(said, "\n") })
	if want := fmt.Sprintf("stdout %d: %v\n", maxTerminals, unix.ENOSPC); said != want {
		t.Errorf("%q, want %q", said, want)
	}
	want(t, e, Config{Rootfs: root, TTY: true, Command: []string{"sh", "-c", "test -t 1 && echo -n terminal"}}, "terminal")
	_, err := e.Exec(t.Context(), c.ID, ExecConfig{Command: []string{"true"}, TTY: true}, Streams{Out: os.Stderr})
	if err == nil || !strings.Contains(err.Error(), "no pseudoterminal is left") {
		t.Errorf("exec with a terminal: %v", err)
	}
}
