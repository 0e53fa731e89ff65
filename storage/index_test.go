package storage

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/storage/erofs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// put stores layers, and gives their chain.
func put(t testing.TB, s *Store, layers [][]byte) []digest.Digest {
	t.Helper()
	var chain []digest.Digest
	for _, b := range layers {
		l, err := s.Put(t.Context(), bytes.NewReader(b), "")
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, l.DiffID)
	}
	return chain
}

func tarsOf(t testing.TB, layers [][]ent) [][]byte {
	var list [][]byte
	for _, entries := range layers {
		list = append(list, layer(t, entries...))
	}
	return list
}

// indexed makes an index, and opens it with its tars.
func indexed(t testing.TB, s *Store, chain []digest.Digest) (*os.File, []*os.File) {
	t.Helper()
	if err := s.index(t.Context(), chainID(chain), chain); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(s.indexPath(chainID(chain)))
	if err != nil {
		t.Fatal(err)
	}
	tars, err := s.tars(chain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); closeAll(tars) })
	return f, tars
}

func readers(files []*os.File) (list []io.ReaderAt) {
	for _, f := range files {
		list = append(list, f)
	}
	return list
}

// withoutRoot leaves the line of the root out.
func withoutRoot(list []string) []string {
	return slices.DeleteFunc(list, func(l string) bool { return strings.HasPrefix(l, `d "" `) })
}

func TestIndex(t *testing.T) {
	for _, test := range shownCases() {
		t.Run(test.name, func(t *testing.T) {
			s := open(t)
			chain := put(t, s, tarsOf(t, test.layers))
			f, tars := indexed(t, s, chain)
			img, err := erofs.Open(f, readers(tars))
			if err != nil {
				t.Fatal(err)
			}
			same(t, "our reader", withoutRoot(lines(lookImage(t, img))), test.want)
			if test.name != "names" { // which the library does not take when they are not UTF-8
				// It gives no set-user-ID and sticky bits.
				plain := strings.NewReplacer(`"suid" 6755`, `"suid" 755`, `"sticky" 1777`, `"sticky" 777`)
				same(t, "go-erofs", withoutRoot(lines(lookGo(t, f, readers(tars)))), strings.Split(plain.Replace(strings.Join(test.want, "\n")), "\n"))
			}
			if os.Geteuid() != 0 {
				return
			}
			nstest.NoLeaks(t)
			m, err := mountIndex(f, tars)
			if errors.Is(err, unix.ENOTBLK) {
				return // Linux before 6.12
			}
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(m)
			dir := t.TempDir()
			if err := unix.MoveMount(m, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
				t.Fatal(err)
			}
			defer unix.Unmount(dir, unix.MNT_DETACH)
			same(t, "the kernel", withoutRoot(lines(look(t, dir))), test.want)
		})
	}
}
