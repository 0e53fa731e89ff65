package oci

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/oci/criu"
	"github.com/kakuri/kakuri/plan"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// An image has its processes' rights and namespaces, and CRIU gives them back, whatever config.json says. What is here refuses an image by which the container would be
// less apart from the machine than its config.json promises, which is what the caller, and verify, go by.

// imageFiles refuses an image with files that CRIU would wait for, a FIFO's other end, or take from elsewhere, through a link. It goes on with the images that
// this one is the change of, each of which is a link in the one after it.
func imageFiles(dir *os.File) error {
	var seen []unix.Stat_t
	for at := dir; ; {
		next, err := imageFilesIn(at, &seen)
		if at != dir {
			at.Close()
		}
		if err != nil || next == nil {
			return err
		}
		at = next
	}
}

// imageFilesIn is imageFiles of one directory, and opens the one before it, nil where there is none.
func imageFilesIn(dir *os.File, seen *[]unix.Stat_t) (before *os.File, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if slices.ContainsFunc(*seen, func(s unix.Stat_t) bool { return s.Dev == st.Dev && s.Ino == st.Ino }) {
		return nil, fmt.Errorf("--image-path: %s: the image is a change of itself", dir.Name())
	}
	*seen = append(*seen, st)
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("--image-path: %w", err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".img") {
			continue
		}
		if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, fmt.Errorf("--image-path: %w", &os.PathError{Op: "stat", Path: dir.Name() + "/" + name, Err: err})
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil, fmt.Errorf("--image-path: %s/%s: it is no regular file: CRIU would wait for it, or take it from elsewhere", dir.Name(), name)
		}
	}
	const parent = "parent"
	fd, err := unix.Openat(int(dir.Fd()), parent, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--image-path: the image before it: %w", &os.PathError{Op: "open", Path: dir.Name() + "/" + parent, Err: err})
	}
	return os.NewFile(uintptr(fd), dir.Name()+"/"+parent), nil
}

// sameRights refuses an image of which a process may do what config.json takes from it.
func (x *restoring) sameRights() error {
	threads, err := criu.Threads(x.image.dir)
	if err != nil {
		return fmt.Errorf("--image-path: %w: is it the image of a container?", err)
	}
	for _, s := range x.plan.Steps {
		var refuses func(criu.Thread) string
		switch op := s.Op.(type) {
		case *plan.NoNewPrivs:
			refuses = func(t criu.Thread) string {
				if t.NoNewPrivs {
					return ""
				}
				return "may gain privileges, which no_new_privs would refuse"
			}
		case *plan.Seccomp:
			other := func(t criu.Thread) bool {
				return !slices.ContainsFunc(t.Filters, func(f []byte) bool { return bytes.Equal(f, op.Filter) })
			}
			refuses = func(t criu.Thread) string {
				if len(t.Filters) == 0 {
					return "has no filter of seccomp"
				}
				return ""
			}
			if slices.ContainsFunc(threads, other) {
				// As that of another runtime is, or of another version of this one, for the same linux.seccomp.
				x.c.runtime.warn(s.Cause.String() + ": the image has another filter of seccomp, and that is what holds")
			}
		}
		if caps, ok := s.Check.(*plan.CapsCheck); ok {
			given := caps.Bounding | caps.Permitted | caps.Effective | caps.Inheritable | caps.Ambient
			refuses = func(t criu.Thread) string {
				if more := abi.CapSet(t.Capabilities) &^ given; more != 0 {
					return "has more capabilities: " + more.String()
				}
				return ""
			}
		}
		if refuses == nil {
			continue
		}
		for _, t := range threads {
			if why := refuses(t); why != "" {
				return fmt.Errorf("%s: in the image process %d %s", s.Cause.String(), t.PID, why)
			}
		}
	}
	return nil
}

// sameNamespaces refuses a process that is in another namespace than config.json says, of those kinds.
func (x *restoring) sameNamespaces(pid int, kinds ...specs.LinuxNamespaceType) error {
	for _, kind := range kinds {
		name := nsName(kind)
		of := func(pid string) (unix.Stat_t, error) { return statNS("/proc/" + pid + "/ns/" + name) }
		theirs, err1 := of(strconv.Itoa(pid))
		ours, err2 := of("self")
		if errors.Is(err2, unix.ENOENT) {
			continue // the kernel has none of them
		}
		// CRIU has a mount namespace of its own, which is not the container's.
		makers, err3 := of(strconv.Itoa(x.image.session.PID()))
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		why := ""
		i := slices.IndexFunc(namespaces(x.spec), func(n specs.LinuxNamespace) bool { return n.Type == kind })
		switch {
		case i < 0:
			if !sameNS(theirs, ours) {
				why = "config.json has none, for that of the machine, and the image has its own"
			}
		case namespaces(x.spec)[i].Path == "":
			switch {
			case !sameNS(theirs, ours) && !sameNS(theirs, makers):
			case kind == specs.CgroupNamespace && x.opts.Cgroups == criu.CgroupIgnore:
				x.c.runtime.warn("--manage-cgroups-mode ignore: CRIU makes no cgroup namespace then: the container is in the machine's")
			default:
				why = "config.json has a new one, and the image has none of its own"
			}
		default:
			joined, err := statNS(namespaces(x.spec)[i].Path)
			if err != nil {
				return err
			}
			if !sameNS(theirs, joined) {
				why = "config.json joins " + namespaces(x.spec)[i].Path + ", and the image has another one"
			}
		}
		if why != "" {
			return fmt.Errorf("linux.namespaces: %s: %s", kind, why)
		}
	}
	return nil
}

func sameNS(a, b unix.Stat_t) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

func statNS(path string) (st unix.Stat_t, err error) {
	if err := unix.Stat(path, &st); err != nil {
		return st, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st, nil
}

// nsName is what /proc/PID/ns calls a kind of namespaces.
func nsName(kind specs.LinuxNamespaceType) string {
	switch kind {
	case specs.MountNamespace:
		return "mnt"
	case specs.NetworkNamespace:
		return "net"
	}
	return string(kind)
}
