package storage

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/storage/erofs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// A Problem is something in a store that should not be.
type Problem struct {
	Object string // what it is about, as in "index 3f9c2a112233"
	Text   string // what is wrong with it
	Mend   func() error
}

// Problems lists what should not be in the store: what is left of layers that are gone. Damaged layers are for [Store.Check] to find, layers that no image has for
// [Store.GC], and what containers have left for [Store.SweepUppers] and [Store.SweepUsers].
func (s *Store) Problems() ([]Problem, error) {
	unlock, err := s.lock(unix.LOCK_EX) // what is being added is seen as a whole, or not at all
	if err != nil {
		return nil, err
	}
	defer unlock()
	layers, err := s.List()
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, l := range layers {
		have[l.DiffID.Encoded()] = true
	}
	collect := func() error {
		_, _, err := s.GC(func(digest.Digest) bool { return true })
		return err
	}
	var list []Problem
	told := map[digest.Digest]bool{}
	add := func(kind, name, text string, mend func() error) {
		list = append(list, Problem{kind + " " + name[:min(12, len(name))], text, mend})
	}
	err = errors.Join(
		names(s.path(layersDir), func(name string) {
			if hex, _, _ := strings.Cut(name, "."); !have[hex] {
				add("layer", hex, "something is left of it, and its tar is gone", collect)
			}
		}),
		names(s.path(dirsDir), func(name string) {
			if hex, _, _ := strings.Cut(name, "."); !have[hex] {
				add("layer", hex, "it is unpacked, and its tar is gone", collect)
			}
		}),
		names(s.path(indexesDir), func(name string) {
			if text := s.badIndex(name, have); text != "" {
				add("index", name, text, collect)
			}
			cut, _ := s.cut(name) // its error is told above
			for _, e := range cut {
				if !told[e.DiffID] {
					told[e.DiffID] = true
					add("layer", e.DiffID.Encoded(), e.Error(), func() error {
						return errors.New("kakuri image check --repair IMAGE fetches it from where an image with it came from")
					})
				}
			}
		}),
	)
	return list, err
}

// names calls visit for the files of a directory, which need not be there, but for those that are being written.
func names(dir string, visit func(name string)) error {
	all, err := files.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	slices.Sort(all)
	for _, name := range all {
		if !strings.HasPrefix(name, tempPrefix) {
			visit(name)
		}
	}
	return err
}

// badIndex says what is wrong with an index; nothing, where it is empty.
func (s *Store) badIndex(name string, have map[string]bool) string {
	f, err := files.Open(s.path(indexesDir, name))
	if errors.Is(err, fs.ErrNotExist) || files.Scarce(err) {
		return ""
	}
	var devices []erofs.Device
	if err == nil {
		defer f.Close()
		devices, err = erofs.Devices(f)
	}
	if err != nil {
		return "it cannot be read"
	}
	for _, d := range devices {
		if !have[d.Tag] {
			return "a layer of it is gone"
		}
	}
	return ""
}
