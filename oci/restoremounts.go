package oci

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/kakuri/kakuri/oci/criu"
	"golang.org/x/sys/unix"
)

// mounts are what CRIU is to bind where the image has a mount that is not CRIU's to make.
func (x *restoring) mounts() error {
	all, err := boundMounts(x.plan)
	if err != nil {
		return err
	}
	masks := false
	x.binds = slices.DeleteFunc(all, func(b boundMount) bool {
		another := b.mask && masks // the image has one name for them all
		masks = masks || b.mask
		return another
	})
	ours, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for i, b := range x.binds {
		key, source := b.dest, b.source
		if b.mask {
			key = nullDevice
		}
		if x.opts.Root != "" {
			source = x.sourceOf(i)
		}
		x.opts.ExtMounts = append(x.opts.ExtMounts, criu.ExtMount{Key: key, Name: source})
		if !b.recursive {
			continue
		}
		for _, rest := range below(ours, b.source) {
			x.opts.ExtMounts = append(x.opts.ExtMounts, criu.ExtMount{Key: b.dest + rest, Name: source + rest})
		}
	}
	return nil
}

// placesDir is where what CRIU is given is mounted: its root, and what that is to bind.
func (x *restoring) placesDir() string { return filepath.Join(x.c.dir, "criu") }

// makePlacesDir makes it, in a mount namespace of the calling thread. A tree that it is below, as / or /run, is copied without it, since it is
// unbindable: a bind would have all binds before it otherwise, and twice as many mounts with each.
func (x *restoring) makePlacesDir() error {
	dir := x.placesDir()
	if err := unix.Mkdir(dir, 0o700); err != nil {
		return &os.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=700"); err != nil {
		return &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	if err := unix.Mount("", dir, "", unix.MS_UNBINDABLE, ""); err != nil {
		return &os.PathError{Op: "make unbindable", Path: dir, Err: err}
	}
	return nil
}

// sourceOf is where CRIU finds the source of a mount.
func (x *restoring) sourceOf(i int) string {
	return filepath.Join(x.placesDir(), strconv.Itoa(i))
}

// makeSources mounts, in CRIU's mount namespace, what that is to bind, with the attributes that it is to have: the copy of a mount keeps
// them. CRIU sets them for the first mount of a file system alone, and takes it that those of the same source have them by that: a
// second one of what is to be read-only would be writable. Those of control groups are there by now.
func (x *restoring) makeSources() error {
	if x.opts.Root == "" {
		return nil
	}
	return x.onThread(func() error {
		dir := x.placesDir()
		at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: dir, Err: err}
		}
		defer unix.Close(at)
		for i, b := range x.binds {
			if err := makePlace(at, "/"+strconv.Itoa(i), b); err != nil {
				return fmt.Errorf("%s: %w", b.cause.String(), err)
			}
		}
		return nil
	})
}

// attachTree binds the source of a mount to the path below dir, or to dir itself for an empty one.
func attachTree(b boundMount, dir int, path string) error {
	how := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if b.recursive {
		how |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, b.source, how)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: b.source, Err: err}
	}
	defer unix.Close(tree)
	if err := setAttrs(tree, b); err != nil {
		return err
	}
	flags := unix.MOVE_MOUNT_F_EMPTY_PATH
	if path == "" {
		flags |= unix.MOVE_MOUNT_T_EMPTY_PATH
	}
	return os.NewSyscallError("move_mount", unix.MoveMount(tree, "", dir, path, flags))
}

// setAttrs gives a tree the attributes of a mount, as its creation does.
func setAttrs(tree int, b boundMount) error {
	set := func(flags uint, set, clear uint64) error {
		if set == 0 && clear == 0 {
			return nil
		}
		return unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_set: set, Attr_clr: clear})
	}
	clear, free := b.attrs.Clear, b.attrs.Clear
	if b.only {
		clear, free = b.attrs.Others()
	}
	err := set(0, b.attrs.Set, clear)
	if err == unix.EPERM && free != clear {
		err = set(0, b.attrs.Set, free)
	}
	if err == nil {
		err = set(unix.AT_RECURSIVE, b.attrs.RecSet, b.attrs.RecClear)
	}
	return os.NewSyscallError("mount_setattr", err)
}
