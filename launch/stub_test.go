package launch

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// TestStubInFile: a stub that is not in memory is on a file system of its own, or, an ordinary user's, in a directory.
func TestStubInFile(t *testing.T) {
	for name, place := range map[string]nstest.Place{"root": {Flags: unix.CLONE_NEWNS}, "user": {User: nstest.User(t)}} {
		t.Run(name, func(t *testing.T) {
			nstest.Root(t)
			nstest.Inside(t, place, func(t *testing.T) {
				nstest.NoLeaks(t)
				inFile(t)
				t.Setenv("XDG_RUNTIME_DIR", "/proc") // where no file can be made
				inFile(t)
			})
		})
	}
}

// inFile has the stub in a file, whole and not to be written to by the descriptor that it is executed by.
func inFile(t *testing.T) {
	t.Helper()
	image := stubImage(&plan.Stub{})
	fd, ok := stubInFile("", image)
	if !ok {
		t.Fatal("there is no place for a file")
	}
	f := os.NewFile(uintptr(fd), "stub")
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || st.Flags&unix.ST_NOEXEC != 0 {
		t.Errorf("flags %#x, %v", st.Flags, err)
	}
	if got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20)); err != nil || !bytes.Equal(got, image) {
		t.Errorf("%d bytes of %d, %v", len(got), len(image), err)
	}
	if _, err := unix.Write(fd, []byte("x")); err != unix.EBADF {
		t.Errorf("a write: %v", err)
	}
}
