package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/hostile"
	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// unpack takes an archive in as it comes.
func unpack(dir *os.File, r io.Reader, o Options) error {
	in, _, err := Decompress(r, o.Limits)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = Apply(context.Background(), dir, in, o)
	return err
}

// TestHostileArchives: each of the corpus ends as it has to, as a layer and as a plain archive, and nothing
// outside of the root is touched. CVE-2014-9356, 2015-3627, 2021-29136, 2021-32760, 2025-11395 and their kin.
func TestHostileArchives(t *testing.T) {
	nstest.Root(t)
	canary := hostile.NewCanary(t)
	for _, a := range hostile.Archives(canary.Dir) {
		if a.Name == "million_files" { // as many as end in seconds
			a.Open = func() io.Reader { return hostile.Files(50000) }
		}
		for _, layer := range []bool{true, false} {
			if a.Big && !layer {
				continue // once is enough
			}
			t.Run(fmt.Sprintf("%s/layer=%v", a.Name, layer), func(t *testing.T) {
				verdict, tree := a.Plain, a.PlainHolds()
				if layer {
					verdict, tree = a.Layer, a.Tree
				}
				outer := nstest.Dir(t)
				dir := filepath.Join(outer, "root")
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				err := unpack(open(t, dir), a.Open(), Options{Layer: layer})
				if verdict == hostile.Taken && err != nil || verdict == hostile.Refused && err == nil {
					t.Errorf("%s, and has to be %s: %v", a.Why, verdict, err)
				}
				if err == nil {
					hostile.Holds(t, dir, tree)
				} else if strings.ContainsAny(err.Error(), "\n\x1b\x07") {
					t.Errorf("an error with control characters: %q", err)
				}
				canary.Check(t)
				if list, _ := os.ReadDir(outer); len(list) != 1 {
					t.Errorf("beside the root: %v", list)
				}
				noMarks(t, dir, layer && !strings.HasPrefix(a.Name, "xattr_"))
			})
		}
	}
}

// noMarks: no entry's attributes became orders to overlayfs, and no file is left that was to become another. own allows for marks of whiteouts.
func noMarks(t *testing.T, dir string, own bool) {
	t.Helper()
	filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(e.Name(), ".kakuri-") {
			t.Errorf("%s is left", p)
		}
		names := make([]byte, 64<<10)
		n, _ := unix.Llistxattr(p, names)
		for _, name := range strings.Split(string(names[:max(n, 0)]), "\x00") {
			if name != "" && !keptXattr(name) && !(own && name == opaqueXattr) {
				t.Errorf("%s has %s", p, name)
			}
		}
		return nil
	})
}

// TestCutArchives: an archive that ends anywhere is an error, or is taken up to there.
func TestCutArchives(t *testing.T) {
	nstest.Root(t)
	canary := hostile.NewCanary(t)
	refused := 0
	for _, b := range hostile.Cut() {
		if err := unpack(open(t, nstest.Dir(t)), bytes.NewReader(b), Options{}); err != nil {
			refused++
		}
		canary.Check(t)
	}
	if refused < 5 {
		t.Errorf("only %d of the cut archives were refused", refused)
	}
}

// TestHostileWithoutPrivileges: an ordinary user's store takes the same archives, but for nodes and owners.
func TestHostileWithoutPrivileges(t *testing.T) {
	nstest.Root(t)
	nstest.Inside(t, nstest.Place{User: nstest.User(t)}, func(t *testing.T) {
		canary := hostile.NewCanary(t)
		for _, a := range hostile.Archives(canary.Dir) {
			if a.Big {
				continue
			}
			dir := nstest.Dir(t)
			err := unpack(open(t, dir), a.Open(), Options{Layer: true, NoOwner: true, Devices: SkipDevices})
			if a.Layer == hostile.Taken && err != nil || a.Layer == hostile.Refused && err == nil {
				t.Errorf("%s: has to be %s: %v", a.Name, a.Layer, err)
			}
			if err == nil && !a.Nodes {
				hostile.Holds(t, dir, a.Tree)
			}
			canary.Check(t)
			opened(dir)
		}
	})
}

// opened has the owner of a tree come into all directories, to remove them.
func opened(dir string) {
	filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if e != nil && e.IsDir() {
			os.Chmod(p, 0o755)
		}
		return nil
	})
}

// TestMemory: archives of less than a megabyte that claim to be large take no memory to match (CVE-2025-58183, 2026-32288, 2022-2879).
func TestMemory(t *testing.T) {
	nstest.Root(t)
	for _, a := range hostile.Archives("/nowhere") {
		if !strings.HasPrefix(a.Name, "sparse_") && !strings.HasPrefix(a.Name, "pax_") {
			continue
		}
		before := resident(t)
		unpack(open(t, nstest.Dir(t)), a.Open(), Options{})
		if grown := resident(t) - before; grown > 64<<20 {
			t.Errorf("%s: %d more bytes are resident", a.Name, grown)
		}
	}
}

// TestKeepTypes: a copy does not turn a directory into a file, nor the reverse.
func TestKeepTypes(t *testing.T) {
	nstest.Root(t)
	dir := nstest.Dir(t)
	if err := os.MkdirAll(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var at *EntryError
	if err := unpack(open(t, dir), pack(t, tar.Header{Name: "d"}), Options{KeepTypes: true}); !errors.As(err, &at) || at.Name != "d" {
		t.Errorf("a file over a directory: %v", err)
	}
	if err := unpack(open(t, dir), pack(t, tar.Header{Name: "f/", Typeflag: tar.TypeDir}), Options{KeepTypes: true}); !errors.As(err, &at) {
		t.Errorf("a directory over a file: %v", err)
	}
	hostile.Holds(t, dir, map[string]string{"d": "d", "f": "-:"})
}

// FuzzApply: whatever the bytes are, nothing outside of the root is touched.
func FuzzApply(f *testing.F) {
	canary := hostile.NewCanary(f)
	for _, a := range hostile.Archives(canary.Dir) {
		if b, err := io.ReadAll(io.LimitReader(a.Open(), 64<<10)); err == nil && !a.Big && !a.Compressed {
			f.Add(b, true)
		}
	}
	for _, b := range hostile.Cut() {
		f.Add(b, false)
	}
	limits := Limits{Bytes: 1 << 20, Entries: 1000, Depth: 100}
	f.Fuzz(func(t *testing.T, b []byte, layer bool) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "root")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		unpack(open(t, dir), bytes.NewReader(b), Options{Layer: layer, Limits: limits, Devices: SkipDevices})
		canary.Check(t)
		if list, _ := os.ReadDir(outer); len(list) != 1 {
			t.Errorf("beside the root: %v", list)
		}
		noMarks(t, dir, layer)
		opened(dir)
	})
}
