package namespace

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// A Mount is one line of /proc/PID/mountinfo, see proc_pid_mountinfo(5). Paths are
// unescaped, and as untrusted as who mounted them.
type Mount struct {
	ID, Parent   int
	Major, Minor uint32 // of the file system's device, st_dev of the files in it
	Root         string // what of the file system is here: "/", or "net:[4026532008]" of nsfs
	Point        string // where it is, from the process's root directory
	Options      string // of this mount: "rw,nosuid,nodev"
	Type         string // "ext4", "fuse.sshfs"
	Source       string // "/dev/sda1", or what else the file system calls it
	Super        string // options of the file system

	// Propagation, see mount_namespaces(7), "Shared subtrees": the peer groups, 0 for none.
	Shared        int // events go to and come from this group
	Master        int // events come from this group
	PropagateFrom int // the nearest group below the process's root from which events come
	Unbindable    bool
}

// Propagation returns the mount's type of propagation: "private", "shared", "slave",
// "slave,shared" or "unbindable".
func (m Mount) Propagation() string {
	switch {
	case m.Unbindable:
		return "unbindable"
	case m.Master != 0 && m.Shared != 0:
		return "slave,shared"
	case m.Master != 0:
		return "slave"
	case m.Shared != 0:
		return "shared"
	}
	return "private"
}

// Has tells whether option is among the mount's own options: "ro", "nosuid".
func (m Mount) Has(option string) bool {
	return slices.Contains(strings.Split(m.Options, ","), option)
}

// ReadMounts returns the mounts that the process pid sees, in the kernel's order.
// The error is fs.ErrNotExist when the process is gone, fs.ErrPermission when it is
// another user's. A process that has ended and waits for its parent has no mounts: EINVAL.
func ReadMounts(proc *os.File, pid int) ([]Mount, error) {
	return readFile(proc, pid, "mountinfo", ParseMounts)
}

// ParseMounts parses a mountinfo file. Optional fields that it does not know are skipped,
// as the kernel asks of its readers.
func ParseMounts(data []byte) ([]Mount, error) {
	var mounts []Mount
	err := lines(data, func(line []byte) error {
		m, err := parseMount(string(line))
		if err != nil {
			return fmt.Errorf("mount %q: %w", line, err)
		}
		mounts = append(mounts, m)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return mounts, nil
}

// parseMount takes a line apart at its single blanks: six fixed fields, optional ones, a
// hyphen, three fixed ones. An empty source is an empty field, and the last one may have
// blanks, since not every file system escapes its options.
func parseMount(line string) (m Mount, err error) {
	head, tail, ok := strings.Cut(line, " - ")
	f, g := strings.Split(head, " "), strings.SplitN(tail, " ", 3)
	if !ok || len(f) < 6 || len(g) < 3 {
		return m, errors.New("too few fields")
	}
	device, minor, _ := strings.Cut(f[2], ":")
	var n [4]int
	for i, s := range [...]string{f[0], f[1], device, minor} {
		if n[i], err = integer(s); err != nil {
			return m, err
		}
	}
	m = Mount{
		ID: n[0], Parent: n[1], Major: uint32(n[2]), Minor: uint32(n[3]),
		Root: abi.UnescapeMount(f[3]), Point: abi.UnescapeMount(f[4]), Options: f[5],
		Type: abi.UnescapeMount(g[0]), Source: abi.UnescapeMount(g[1]), Super: g[2],
	}
	for _, option := range f[6:] {
		if err := m.optional(option); err != nil {
			return m, err
		}
	}
	return m, nil
}

// optional takes one field such as "shared:23".
func (m *Mount) optional(field string) (err error) {
	tag, value, _ := strings.Cut(field, ":")
	switch tag {
	case "shared":
		m.Shared, err = integer(value)
	case "master":
		m.Master, err = integer(value)
	case "propagate_from":
		m.PropagateFrom, err = integer(value)
	case "unbindable":
		m.Unbindable = true
	}
	return err
}
