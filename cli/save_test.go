package cli

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// What cannot be written is told by the name that was asked for: a user knows no other file.
func TestOutputNamed(t *testing.T) {
	nstest.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	for name, want := range map[string]error{dir + "/out.tar": syscall.ENOSPC, "/proc/self/out.tar": syscall.ENOENT} {
		err := writeOutput(IO{}, name, "save", func(w io.Writer) error {
			_, err := w.Write(make([]byte, 1<<20))
			return err
		})
		if e := (*os.PathError)(nil); !errors.As(err, &e) || e.Path != name || !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	err := writeOutput(IO{}, dir+"/taken", "save", func(io.Writer) error { return os.Mkdir(dir+"/taken", 0o755) })
	if err == nil || strings.Contains(err.Error(), tempOutput) || !strings.Contains(err.Error(), dir+"/taken") {
		t.Errorf("its name is taken meanwhile: %v", err)
	}
	put := func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err }
	if err := errors.Join(os.WriteFile(dir+"/file", []byte("old"), 0o600),
		os.Symlink("file", dir+"/link"), os.Symlink("none", dir+"/dangling"), os.Symlink("/dev/null", dir+"/null")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "dangling"} {
		err := writeOutput(IO{}, dir+"/"+name, "save", put)
		if err == nil || !strings.Contains(err.Error(), "cannot write to a symbolic link directly") {
			t.Errorf("%s: %v", name, err)
		}
		if st, err := os.Lstat(dir + "/" + name); err != nil || st.Mode().Type() != os.ModeSymlink {
			t.Errorf("%s is no link any more: %v %v", name, st, err)
		}
	}
	if err := writeOutput(IO{}, dir+"/null", "save", put); err != nil {
		t.Error(err)
	}
	if err := writeOutput(IO{}, dir+"/nowhere/out.tar", "save", nil); err == nil || !strings.HasPrefix(err.Error(), "invalid output path: ") {
		t.Error(err)
	}
}

// TestOpenSource: import reads stdin, a file, or what a server has.
func TestOpenSource(t *testing.T) {
	nstest.Loopback(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") }))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &cobra.Command{}
	c.SetContext(t.Context())
	for name, want := range map[string]string{"-": "typed", file: "kept", server.URL: "served"} {
		in, err := openSource(c, IO{In: strings.NewReader("typed")}, name)
		if err != nil {
			t.Error(err)
			continue
		}
		if got, err := io.ReadAll(in); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		in.Close()
	}
}
