package storage

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/storage/erofs"
	"github.com/opencontainers/go-digest"
)

// A Problem is something in a store that should not be.
type Problem struct {
	Object string // what it is about, as in "index 3f9c2a112233"
	Text   string // what is wrong with it
	Mend   func() error
}

// Problems lists what should not be in the store: what is left of layers that are gone, and what containers have left
// behind that are no more. Damaged layers are for [Store.Check] to find, and layers that no image has for [Store.GC].
func (s *Store) Problems(alive func(id string) bool) ([]Problem, error) {
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
		names(files.List, s.path(layersDir), func(name string) {
			if hex, _, _ := strings.Cut(name, "."); !have[hex] {
				add("layer", hex, "something is left of it, and its tar is gone", collect)
			}
		}),
		names(files.List, s.path(dirsDir), func(name string) {
			if hex, _, _ := strings.Cut(name, "."); !have[hex] {
				add("layer", hex, "it is unpacked, and its tar is gone", collect)
			}
		}),
		names(files.List, s.path(indexesDir), func(name string) {
			if text := s.badIndex(name, have); text != "" {
				add("index", name, text, collect)
			}
			for _, e := range s.cut(name) {
				if !told[e.DiffID] {
					told[e.DiffID] = true
					add("layer", e.DiffID.Encoded(), e.Error(), func() error {
						return errors.New("kakuri image check --repair IMAGE fetches it from where an image with it came from")
					})
				}
			}
		}),
		names(files.ListOwn, s.path(ephemeral), func(id string) {
			if !alive(id) {
				add("container", id, "what it wrote is left, and it is no more", func() error { return s.SweepUppers(alive) })
			}
		}),
		names(files.ListOwn, s.runPath(usersDir), func(hex string) {
			err = errors.Join(err, names(files.ListOwn, s.runPath(usersDir, hex), func(id string) {
				if !alive(id) {
					add("container", id, "the image's mount is kept for it, and it is no more", func() error { return s.SweepUsers(alive) })
				}
			}))
		}),
	)
	return list, err
}

// names calls visit for the files of a directory, which need not be there, but for those that are being written.
func names(list func(string) ([]string, error), dir string, visit func(name string)) error {
	all, err := list(dir)
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
