package launch_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/storage/erofs"
	"golang.org/x/sys/unix"
)

// indexed makes a file that stands for a tar, an index of it, and a directory to mount it on, on a file
// system that EROFS takes files of, as tmpfs is none.
func indexed(t testing.TB) (op *plan.MountIndex, works bool) {
	t.Helper()
	dir := nstest.Dir(t)
	if err := unix.Mount("ramfs", dir, "ramfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	op = &plan.MountIndex{Index: filepath.Join(dir, "index"), Tars: []string{filepath.Join(dir, "tar")}, At: filepath.Join(dir, "at")}
	content := make([]byte, 1024)
	copy(content[512:], "content\n") // as a tar has it, behind a header
	f, err := os.Create(op.Index)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root := &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Children: map[string]*erofs.Inode{"file": {Mode: unix.S_IFREG | 0o644, Size: 8, Device: 1, Offset: 512}}}
	err = errors.Join(erofs.NewWriter(f, []erofs.Device{{Size: int64(len(content))}}).Finish(root, [16]byte{}), os.WriteFile(op.Tars[0], content, 0o600), os.Mkdir(op.At, 0o755))
	if err != nil {
		t.Fatal(err)
	}
	// Linux before 6.12 cannot mount files, or a kernel is without erofs.
	err = launch.Do(plan.Plan{Steps: []plan.Step{rt(op), rt(&plan.Unmount{At: op.At})}})
	if err != nil && !errors.Is(err, unix.ENOTBLK) && !errors.Is(err, unix.ENODEV) {
		t.Fatal(err)
	}
	return op, err == nil
}

// indexSteps mount an index, or say that this kernel cannot.
func indexSteps(then func(op *plan.MountIndex) []plan.Step) func(testing.TB) []plan.Step {
	return func(t testing.TB) []plan.Step {
		op, works := indexed(t)
		steps := []plan.Step{clone(abi.NSMount), in(&plan.Propagation{Path: "/", Mode: "private", Recursive: true})}
		if !works {
			return append(steps, sh("echo cannot"))
		}
		return append(append(steps, in(op)), then(op)...)
	}
}

func imageCases() []opCase {
	says := func(want string) func(t *testing.T, steps []plan.Step) {
		return func(t *testing.T, steps []plan.Step) {
			if res := must(t, steps...); res.out != want && res.out != "cannot\n" {
				t.Errorf("%q, want %q", res.out, want)
			}
		}
	}
	return []opCase{
		{"mount index", indexSteps(func(op *plan.MountIndex) []plan.Step {
			return []plan.Step{sh(fmt.Sprintf("cat %s/file; grep -c ' %s ro,nosuid,nodev' /proc/self/mountinfo", op.At, op.At))}
		}), says("content\n1\n")},
		{"umount", indexSteps(func(op *plan.MountIndex) []plan.Step {
			// Once more is no error.
			return []plan.Step{in(&plan.Unmount{At: op.At}), in(&plan.Unmount{At: op.At}), sh("ls " + op.At + " | wc -l")}
		}), says("0\n")},
		{"image root", func(t testing.TB) []plan.Step { return imageSteps(t, nil) }, func(t *testing.T, _ []plan.Step) {
			for _, names := range [][]string{nil, many(127)} {
				steps := imageSteps(t, names)
				res := must(t, steps...)
				if want := "host\nnew\nhost\n0\n"; res.out != want {
					t.Errorf("%d layers: %q, want %q", len(names), res.out, want)
				}
			}
		}},
	}
}

// many are names of layers: all but the last of them are empty.
func many(n int) []string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("%064x", i))
	}
	return names
}

// imageSteps make a root of one directory, or of several with the one that has all at the end, and one on disk that
// takes the writes.
func imageSteps(t testing.TB, names []string) []plan.Step {
	lower, upper := nstest.RootFS(t), nstest.Dir(t)
	if len(names) > 0 {
		dirs := nstest.Dir(t)
		for _, n := range names[:len(names)-1] {
			if err := os.Mkdir(filepath.Join(dirs, n), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		last := filepath.Join(dirs, names[len(names)-1])
		if err := os.CopyFS(last, os.DirFS(lower)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(last, "bin/busybox"), 0o755); err != nil {
			t.Fatal(err)
		}
		lower = dirs
	}
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(upper, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(upper, "upper/name"), []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return []plan.Step{
		clone(abi.NSMount), in(&plan.Umask{}), in(&plan.Propagation{Path: "/", Mode: "private", Recursive: true}),
		in(&plan.OpenTree{Path: lower, Out: free}), in(&plan.OpenTree{Path: upper, Out: free2}), in(&plan.Scratch{Size: "1m"}),
		in(&plan.ImageRoot{Lower: free, LowerPath: lower, Names: names, Upper: free2, UpperPath: upper}),
		in(&plan.Mount{Type: "proc", Source: "proc", Dest: "/proc"}), in(&plan.PivotRoot{Scratch: true}),
		sh("cat /name; echo new >/etc/passwd; cat /etc/passwd /name; grep -c '" + upper + "\\|" + lower + "' /proc/self/mountinfo"),
	}
}
