package storage

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/opencontainers/go-digest"
)

// change is what a container does to the layers of changeLayers.
const change = `
echo more >>/a/changed; rm /a/removed; rm -r /gone; mkdir /gone; echo x >/gone/new; ln /gone/new /gone/other
rm -r /a/dir; echo file >/a/dir; rm /a/file; mkdir /a/file; touch /a/file/in; ln -s target /a/link
rm -r /over; mkdir -p /over/again; touch /untouched/gone; rm /untouched/gone; chown 7:8 /owned; mkdir -p /new/deep/er; touch "/new/odd
name"; mkfifo /new/fifo; mv /a/moved /new/moved; sed -i s/x/y/ /etc/passwd`

var changeLayers = []ent{
	"d a", "f a/changed text\n", "f a/removed x", "d a/dir", "f a/dir/in x", "f a/file x", "f a/same x", "f a/moved moved",
	"d gone", "f gone/old x", "d gone/sub", "f gone/sub/old x", "f owned x", "d over", "d over/again", "f over/again/hidden x", "d untouched", "f untouched/x x",
	full{Header: xattrHeader("attrs"), text: "x"},
}

func changed(t *testing.T, s *Store, userns bool) (*View, string) {
	chain := put(t, s, tarsOf(t, [][]ent{busybox(t), changeLayers}))
	id := "changed-" + map[bool]string{true: "own", false: "host"}[userns]
	v := view(t, s, chain, id)
	b := box{view: v, userns: userns, upper: Upper{ID: id}}
	b.run(t, change)
	t.Cleanup(func() {
		if err := s.RemoveUpper(id); err != nil {
			t.Error(err)
		}
	})
	return v, id
}

func TestDiff(t *testing.T) {
	boxes(t, func(t *testing.T, s *Store, userns bool) {
		v, id := changed(t, s, userns)
		list, err := v.Diff(t.Context(), id, []string{"/dev", "/proc"})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range list {
			got = append(got, strings.ReplaceAll(c.String(), "\n", `\n`))
		}
		same(t, "changes", got, strings.Split(`C /a
C /a/changed
C /a/dir
C /a/file
A /a/file/in
A /a/link
D /a/moved
D /a/removed
C /etc
C /etc/passwd
C /gone
A /gone/new
D /gone/old
A /gone/other
D /gone/sub
A /new
A /new/deep
A /new/deep/er
A /new/fifo
A /new/moved
A /new/odd\nname
C /over
C /over/again
D /over/again/hidden
C /owned`, "\n"))
	})
}

// TestDiffTar: what a container changed, as a layer above its image, is what the container showed.
func TestDiffTar(t *testing.T) {
	boxes(t, func(t *testing.T, s *Store, userns bool) {
		v, id := changed(t, s, userns)
		mounts := []string{"/dev", "/proc"}
		var diff bytes.Buffer
		if err := v.DiffTar(t.Context(), id, mounts, &diff); err != nil {
			t.Fatal(err)
		}
		want := shownLines(t, s, id, v.chain)
		committed := put(t, s, [][]byte{diff.Bytes()})
		cv := view(t, s, append(append([]digest.Digest{}, v.chain...), committed...), "committed")
		same(t, "committed", withoutTimes(lines(look(t, shownAt(t, cv)))), want)
	})
}

// TestDiffTarNothing: a container that has changed nothing makes an empty layer, whatever places for mounts were made in it. What is done to a directory of such places is kept.
func TestDiffTarNothing(t *testing.T) {
	boxes(t, func(t *testing.T, s *Store, userns bool) {
		chain := put(t, s, tarsOf(t, [][]ent{busybox(t), {"d etc", "d srv", "d srv/in"}}))
		for i, c := range []struct{ does, want string }{
			{"true", ""},
			{"touch /etc/hosts; ln -s /proc/mounts /etc/mtab; mkdir -p /srv/in/data", ""},
			{"touch /etc/hosts; chmod 700 /etc", "./ etc/"},
			{"touch /etc/hosts; chown 7:8 /", "./"},
			{"mkdir /srv/in/data; touch /srv/in/new", "./ srv/ srv/in/ srv/in/new"},
			{"rm -r /srv; mkdir -p /srv/in/data", "./ srv/ srv/.wh..wh..opq srv/in/|./ srv/ srv/.wh..wh..opq srv/in/ srv/in/.wh..wh..opq"}, // fuse-overlayfs marks both
			{"rm -r /srv/in; mkdir -p /srv/in/data", "./ srv/ srv/in/ srv/in/.wh..wh..opq"},
		} {
			id := fmt.Sprint("nothing-", userns, i)
			v := view(t, s, chain, id)
			box{view: v, userns: userns, upper: Upper{ID: id}}.run(t, c.does)
			var diff bytes.Buffer
			if err := v.DiffTar(t.Context(), id, []string{"/", "/dev", "/proc", "/etc/hosts", "/srv/in/data"}, &diff); err != nil {
				t.Fatal(err)
			}
			var got []string
			for r := tar.NewReader(&diff); ; {
				h, err := r.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, h.Name)
			}
			if got := strings.Join(got, " "); !slices.Contains(strings.Split(c.want, "|"), got) {
				t.Errorf("%s: the layer has %q, want %q", c.does, got, c.want)
			}
			if err := s.RemoveUpper(id); err != nil {
				t.Error(err)
			}
		}
	})
}

// shownLines is what a container shows, by overlayfs.
func shownLines(t *testing.T, s *Store, id string, chain []digest.Digest) []string {
	t.Helper()
	dir, err := s.upperPath(id)
	if err != nil {
		t.Fatal(err)
	}
	return withoutTimes(lines(look(t, overlayOf(t, dir+"/upper", view(t, s, chain, "look")))))
}

// withoutTimes leaves times out, and places for mounts.
func withoutTimes(list []string) []string {
	var out []string
	for _, l := range list {
		var keep []string
		for _, w := range strings.Split(l, " ") {
			if !strings.HasPrefix(w, "20") || !strings.HasSuffix(w, "Z") {
				keep = append(keep, w)
			}
		}
		if !strings.Contains(l, `"dev"`) {
			out = append(out, strings.Join(keep, " "))
		}
	}
	return out
}

// Directories within each other cost a container a name each: what lists their paths does not keep them without end.
func TestDiffPaths(t *testing.T) {
	line := func(size int) []byte {
		data, err := json.Marshal(upperFile{Path: bytes.Repeat([]byte("x/"), size/2)})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for _, c := range []struct {
		lines, size int
		good        bool
	}{{8, 1 << 10, true}, {9, 1 << 10, false}, {1, 8<<10 + 2, false}} {
		one := line(c.size)
		var all []io.Reader
		for range c.lines {
			all = append(all, bytes.NewReader(one))
		}
		d := &differ{most: 8 << 10}
		if err := d.read(io.MultiReader(all...)); (err == nil) != c.good {
			t.Errorf("%d files with a path of %d bytes: %v", c.lines, c.size, err)
		}
		kept := 0
		for _, f := range d.files {
			kept += len(f.Path)
		}
		if kept > d.most {
			t.Errorf("%d bytes are kept", kept)
		}
	}
}

// TestDiffByNames: what fuse-overlayfs hides by names of files, where it can make neither devices nor attributes, is hidden in what a container has changed.
func TestDiffByNames(t *testing.T) {
	nstest.Root(t)
	s := open(t)
	chain := put(t, s, tarsOf(t, [][]ent{{"d a", "f a/one x", "f a/two x", "f a/.opq x", "d b", "f b/old x"}}))
	for _, served := range []bool{true, false} {
		v := view(t, s, chain, "")
		if served {
			v.fuse = "/usr/bin/fuse-overlayfs"
		}
		dir, err := v.NewUpper(Upper{ID: "c"})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a/.wh.one", "a/.wh..opq", "b/.wh..wh..opq", "b/.wh..opq", "b/new"} {
			name = filepath.Join(dir, "upper", name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, nil, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		list, err := v.Diff(t.Context(), "c", nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range list {
			got = append(got, c.String())
		}
		var layer bytes.Buffer
		err = v.DiffTar(t.Context(), "c", nil, &layer)
		if served {
			same(t, "changes", got, []string{"C /a", "D /a/.opq", "D /a/one", "C /b", "A /b/new", "D /b/old"})
			var names []string
			for r := tar.NewReader(&layer); ; {
				h, err := r.Next()
				if err != nil {
					break
				}
				names = append(names, h.Name)
			}
			if !slices.Equal(names, []string{"./", "a/", "a/.wh..opq", "a/.wh.one", "b/", "b/.wh..wh..opq", "b/new"}) || err != nil {
				t.Errorf("the layer has %q, %v", names, err)
			}
		} else if !slices.Contains(got, "A /a/.wh.one") || err == nil {
			t.Errorf("of the kernel's overlay they are files: %q, %v", got, err)
		}
		if err := s.RemoveUpper("c"); err != nil {
			t.Fatal(err)
		}
	}
}
