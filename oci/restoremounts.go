package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/oci/criu"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// mounts are what CRIU is to bind where the image has a mount that is not CRIU's to make.
func (x *restoring) mounts() error {
	all, err := boundMounts(x.plan)
	if err != nil {
		return err
	}
	ours, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	masks := false
	for _, b := range all {
		if b.mask && masks {
			continue // the image has one name for them all
		}
		masks = masks || b.mask
		x.binds = append(x.binds, b)
		if !b.recursive {
			continue
		}
		for _, rest := range below(ours, b.source) {
			x.binds = append(x.binds, b.below(rest))
		}
	}
	return nil
}

// below is what a recursive bind takes along at a place below it.
func (b boundMount) below(rest string) boundMount {
	return boundMount{source: strings.TrimSuffix(b.source, "/") + rest, dest: b.dest + rest, along: true, attrs: plan.Attrs{RecSet: b.attrs.RecSet, RecClear: b.attrs.RecClear}, cause: b.cause}
}

// key is what the image calls a mount.
func (b boundMount) key() string {
	if b.mask {
		return nullDevice
	}
	return b.dest
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

// makeSources mounts, in CRIU's mount namespace, what that is to bind, with the attributes that it is to have: the copy of a mount keeps
// them. CRIU sets them for the first mount of a file system alone, and takes it that those of the same source have them by that: a
// second one of what is to be read-only would be writable. Those of control groups are there by now.
func (x *restoring) makeSources() error {
	if x.opts.Root == "" {
		for _, b := range x.binds {
			x.opts.ExtMounts = append(x.opts.ExtMounts, criu.ExtMount{Key: b.key(), Name: b.source})
		}
		return nil
	}
	return x.onThread(func() error {
		dir := x.placesDir()
		at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: dir, Err: err}
		}
		defer unix.Close(at)
		mounts, err := readMounts("/proc/thread-self/mountinfo")
		if err != nil {
			return err
		}
		for i, b := range x.binds {
			rest, err := attachSource(b, at, strconv.Itoa(i), mounts)
			if b.along && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)) {
				continue // another mount hides it, in the container, too, or it is gone
			}
			if err != nil {
				return fmt.Errorf("%s: %w", b.cause.String(), err)
			}
			x.opts.ExtMounts = append(x.opts.ExtMounts, criu.ExtMount{Key: b.key(), Name: filepath.Join(dir, strconv.Itoa(i), rest)})
		}
		return nil
	})
}

// attachSource binds the mount that a source is on to a name in dir, made for it, and says what of that the source is. It is the whole mount, since CRIU has
// the sharing of several of the container's mounts from one source, and the kernel copies it only to what lies below the root of
// where it comes from.
func attachSource(b boundMount, dir int, name string, mounts []mountPoint) (rest string, err error) {
	source, err := unix.Open(b.source, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: b.source, Err: err}
	}
	defer unix.Close(source)
	const clone = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	tree := -1
	if whole, in, ok := mountAround(source, mounts); ok {
		tree, err = unix.OpenTree(whole, "", clone|unix.AT_EMPTY_PATH)
		unix.Close(whole)
		rest = in
	}
	// Who is in a user namespace may not uncover what other mounts hide.
	if tree < 0 {
		tree, err = unix.OpenTree(source, "", clone|unix.AT_EMPTY_PATH)
		rest = ""
	}
	if err != nil {
		return "", &os.PathError{Op: "open_tree", Path: b.source, Err: err}
	}
	defer unix.Close(tree)
	if err := setAttrs(tree, b); err != nil {
		return "", err
	}
	if err := share(tree); err != nil {
		return "", err
	}
	if err = unix.Mkdirat(dir, name, 0o700); err == nil {
		err = moveTree(tree, dir, name)
	}
	if err == unix.ENOTDIR || err == unix.EINVAL { // the source is no directory; to ask it would be to ask a server, of some mounts
		if err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err == nil {
			if err = makeFile(dir, name); err == nil {
				err = moveTree(tree, dir, name)
			}
		}
	}
	if err != nil {
		return "", &os.PathError{Op: "make the place of a mount", Path: name, Err: err}
	}
	return rest, nil
}

// mountAround opens the root of the mount that a file is on, and says where below it that is.
func mountAround(file int, mounts []mountPoint) (root int, rest string, ok bool) {
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(file))
	if err != nil {
		return -1, "", false
	}
	id := listedID(file)
	i := slices.IndexFunc(mounts, func(m mountPoint) bool { return m.id == id })
	if i < 0 || !within(path, mounts[i].path) {
		return -1, "", false
	}
	root, err = unix.Open(mounts[i].path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", false
	}
	if listedID(root) != id { // another one hides it
		unix.Close(root)
		return -1, "", false
	}
	return root, strings.TrimPrefix(path, mounts[i].path), true
}

// listedID is the id that mountinfo has for the mount that a file is on, empty when it cannot be read.
func listedID(fd int) string {
	data, err := files.Read("/proc/thread-self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return ""
	}
	return mountIn(data)
}

// share has others receive what is mounted below a mount. One that received from the host when it was dumped has CRIU look for that at its source, which does not
// go on with one that nothing comes from, as on a machine that shares nothing. When CRIU's mount namespace ends the container's mount receives
// from where the source did, or from nowhere.
func share(tree int) error {
	return os.NewSyscallError("mount_setattr MS_SHARED", unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_SHARED}))
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
	return os.NewSyscallError("move_mount", moveTree(tree, dir, path))
}

// moveTree attaches a tree to the path below dir, or to dir itself for an empty one.
func moveTree(tree, dir int, path string) error {
	flags := unix.MOVE_MOUNT_F_EMPTY_PATH
	if path == "" {
		flags |= unix.MOVE_MOUNT_T_EMPTY_PATH
	}
	return unix.MoveMount(tree, "", dir, path, flags)
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
