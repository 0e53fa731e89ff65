package image

import (
	"fmt"
	"os"

	"github.com/kakuri/kakuri/internal/files"
)

// spare is the file that index.json was before, kept for the day when the disk has no room, or no inode, for a new one: images are removed then, and that takes a
// new index first. It has a place on the disk, and is overwritten and exchanged with index.json, so that this is whole at any moment there, too.
const spare = "spare"

// spareRoom is how many bytes more than it has the spare file takes: the next index may be longer, and still one of fewer images.
const spareRoom = 4096

// replaceIndex replaces index.json. The store's lock is held. An error says that it has not, or else that it has, and the disk may not have it.
func (s *Store) replaceIndex(raw []byte) error {
	dir, err := os.Open(s.dir) // which may fail, so that goes first
	if err != nil {
		return fmt.Errorf("images: index.json: %w", err)
	}
	defer dir.Close()
	index := s.path("index.json")
	temp, err := s.written(raw, spareRoom)
	switch {
	case err == nil:
		defer os.Remove(temp)
		if err = files.Exchange(temp, index); err == nil {
			s.keepSpare(temp, raw)
		}
	case files.Full(err) && s.lessThanNow(raw):
		if files.Overwrite(s.path(spare), raw) == nil {
			err = files.Exchange(s.path(spare), index)
		}
	}
	if err != nil {
		return fmt.Errorf("images: index.json: %w", err)
	}
	// A file system that cannot write its directories down is one that the kernel shuts, so there is no way back to the old one either.
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("images: index.json is written, but may not be on the disk: %w", err)
	}
	return nil
}

// lessThanNow reports whether these bytes are no more than index.json has: nothing is added by them.
func (s *Store) lessThanNow(raw []byte) bool {
	st, err := os.Lstat(s.path("index.json"))
	return err == nil && int64(len(raw)) <= st.Size()
}

// keepSpare keeps what was index.json, or of the first one a copy. That it cannot is no error: there is none then.
func (s *Store) keepSpare(was string, raw []byte) {
	switch st, err := os.Lstat(was); {
	case err == nil && !st.Mode().IsRegular():
		os.RemoveAll(was) // somebody had put it there
		return
	case err != nil:
		if _, err := os.Lstat(s.path(spare)); err == nil {
			return
		}
		if was, err = s.written(raw, spareRoom); err != nil {
			return
		}
	}
	os.Rename(was, s.path(spare))
}
