package engine

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// deviceOf reads a device node of the host.
func deviceOf(p string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(p, &st); err != nil {
		return specs.LinuxDevice{}, err
	}
	d := specs.LinuxDevice{Path: p, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev))}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		d.Type = "c"
	case unix.S_IFBLK:
		d.Type = "b"
	default:
		return d, fmt.Errorf("%q: not a device node", p)
	}
	mode := os.FileMode(st.Mode & 0o777)
	uid, gid := st.Uid, st.Gid
	d.FileMode, d.UID, d.GID = &mode, &uid, &gid
	return d, nil
}

// nodes is a device as it is, and of a directory each device below it.
func (d Device) nodes() ([]Device, error) {
	if st, err := os.Stat(d.Host); err != nil || !st.IsDir() {
		return []Device{d}, nil // who reads it says what is wrong
	}
	dir := filepath.Clean(d.Host)
	found, err := hostDevices(dir + "/") // the directory may be a link
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%q: not a device node, and no directory with one", d.Host)
	}
	list := make([]Device, len(found))
	for i, f := range found {
		list[i] = d
		list[i].Host, list[i].Inside = f.Path, path.Join(d.Inside, strings.TrimPrefix(f.Path, dir))
	}
	return list, err
}

// hostDevices lists the devices below dir, but for those that a container has of
// its own: terminals, shared memory, queues, the console.
func hostDevices(dir string) ([]specs.LinuxDevice, error) {
	var list []specs.LinuxDevice
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // a node that went away meanwhile
		}
		if e.IsDir() {
			switch e.Name() {
			case "pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev":
				return filepath.SkipDir
			}
			return nil
		}
		if e.Type()&fs.ModeDevice == 0 || e.Name() == "console" || e.Name() == "ptmx" {
			return nil
		}
		d, err := deviceOf(p)
		if err == nil {
			list = append(list, d)
		}
		return nil
	})
	return list, err
}
