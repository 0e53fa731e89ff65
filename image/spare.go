package image

import (
	"errors"
	"fmt"
	"os"

	"github.com/kakuri/kakuri/internal/files"
	"golang.org/x/sys/unix"
)

// spare is the file that index.json was before, kept for the day when the disk has no room, or no inode, for a new one: images are removed then, and that takes a
// new index first. It has a place on the disk, and is overwritten and exchanged with index.json, so that this is whole at any moment there, too.
const spare = "spare"

// spareRoom is how many bytes more than it has the spare file takes: the next index may be longer, and still one of fewer images.
const spareRoom = 4096

// replaceIndex replaces index.json. The store's lock is held.
func (s *Store) replaceIndex(raw []byte) error {
	temp, err := s.written(raw, spareRoom)
	switch {
	case err == nil:
		defer os.Remove(temp)
		if err = s.exchange(temp); err == nil {
			s.keepSpare(temp, raw)
		}
	case (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)) && s.lessThanNow(raw):
		if e := s.writeSpare(raw); e == nil {
			err = s.exchange(s.path(spare))
		}
	}
	if err == nil {
		err = files.SyncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("images: index.json: %w", err)
	}
	return nil
}

// lessThanNow reports whether these bytes are no more than index.json has: nothing is added by them.
func (s *Store) lessThanNow(raw []byte) bool {
	st, err := os.Lstat(s.path("index.json"))
	return err == nil && int64(len(raw)) <= st.Size()
}

// exchange puts a file in the place of index.json, and that one in its place. Where there is no index.json, or the file system has no such exchange, the file is
// gone from its place.
func (s *Store) exchange(name string) error {
	err := unix.Renameat2(unix.AT_FDCWD, name, unix.AT_FDCWD, s.path("index.json"), unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = os.Rename(name, s.path("index.json"))
	}
	return err
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

// writeSpare overwrites the spare file. One of blocks that are there takes no further ones.
func (s *Store) writeSpare(raw []byte) error {
	f, err := os.OpenFile(s.path(spare), os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(raw, 0)
	if err == nil {
		err = f.Truncate(int64(len(raw)))
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
