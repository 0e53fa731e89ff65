package monitor

import (
	"errors"
	"testing"

	"github.com/kakuri/kakuri/internal/seqpacket"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A monitor of an older version passes over what it does not know, descriptors and all, and hangs up when its client has no more to say.
func TestExecOfOldMonitor(t *testing.T) {
	ours, other, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(other.Fd()))
	other.Close()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := seqpacket.New(fd)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer theirs.Close()
		for buf := make([]byte, 100); ; {
			_, fds, err := seqpacket.Receive(theirs, buf, 1)
			if err != nil {
				return
			}
			for _, fd := range fds {
				unix.Close(fd)
			}
		}
	}()
	c := &Client{conn: ours}
	defer c.Close()
	if _, err := c.Exec(Exec{ID: "x"}, &specs.Process{Args: []string{"true"}}); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}
