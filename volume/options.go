package volume

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// checkOptions judges the options of the driver local, which are those of Docker's.
func checkOptions(o map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(o)) {
		switch key {
		case "type", "device", "o":
		case "size":
			return errors.New("quota size requested but no quota support: a tmpfs has it in o, as o=size=100m")
		default:
			return fmt.Errorf("invalid option: %q: there are type, device and o", key)
		}
	}
	if len(o) == 0 {
		return nil
	}
	if o["device"] == "" {
		return errors.New(`missing required option: "device"`)
	}
	if o["type"] == "" && !isBind(o) {
		return errors.New(`missing required option: "type"`)
	}
	if _, err := parse(o["o"]); err != nil {
		return err
	}
	return nil
}

func isBind(o map[string]string) bool {
	return slices.ContainsFunc(strings.Split(o["o"], ","), func(s string) bool { return s == "bind" || s == "rbind" })
}

// mountOptions are the words of mount(8) that are flags, and the rest.
type mountOptions struct {
	flags     uintptr
	recursive bool
	data      []string
}

// flagOf is what a word of mount(8) sets, or with clear takes away.
func flagOf(word string) (flag uintptr, clear, ok bool) {
	switch word {
	case "defaults", "":
		return 0, false, true
	case "ro":
		return unix.MS_RDONLY, false, true
	case "rw":
		return unix.MS_RDONLY, true, true
	case "nosuid":
		return unix.MS_NOSUID, false, true
	case "suid":
		return unix.MS_NOSUID, true, true
	case "nodev":
		return unix.MS_NODEV, false, true
	case "dev":
		return unix.MS_NODEV, true, true
	case "noexec":
		return unix.MS_NOEXEC, false, true
	case "exec":
		return unix.MS_NOEXEC, true, true
	case "sync":
		return unix.MS_SYNCHRONOUS, false, true
	case "async":
		return unix.MS_SYNCHRONOUS, true, true
	case "dirsync":
		return unix.MS_DIRSYNC, false, true
	case "noatime":
		return unix.MS_NOATIME, false, true
	case "atime":
		return unix.MS_NOATIME, true, true
	case "nodiratime":
		return unix.MS_NODIRATIME, false, true
	case "diratime":
		return unix.MS_NODIRATIME, true, true
	case "relatime":
		return unix.MS_RELATIME, false, true
	case "norelatime":
		return unix.MS_RELATIME, true, true
	case "strictatime":
		return unix.MS_STRICTATIME, false, true
	case "lazytime":
		return unix.MS_LAZYTIME, false, true
	case "bind", "rbind":
		return unix.MS_BIND, false, true
	}
	return 0, false, false
}

func parse(o string) (m mountOptions, err error) {
	for word := range strings.SplitSeq(o, ",") {
		flag, clear, ok := flagOf(word)
		switch {
		case word == "remount" || word == "move":
			return m, fmt.Errorf("option o: %s is no option of a new mount", word)
		case !ok:
			m.data = append(m.data, word)
		case clear:
			m.flags &^= flag
		default:
			m.flags |= flag
		}
		m.recursive = m.recursive || word == "rbind"
	}
	return m, nil
}

// A Source is the directory that a container gets for a volume.
type Source struct {
	Path    string
	Options []string // of the bind mount, in runtime-spec's words, beside those that are asked for
}

// Source returns what is mounted for the volume. A volume with a file system of its own has to
// be attached before a container starts.
func (v Volume) Source() (Source, error) {
	if !isBind(v.Options) {
		return Source{Path: v.Dir()}, nil
	}
	m, err := parse(v.Options["o"])
	if err != nil {
		return Source{}, err
	}
	s := Source{Path: v.Options["device"]}
	if !strings.HasPrefix(s.Path, "/") {
		return s, fmt.Errorf("volume %s: device %q is no absolute path", v.Name, s.Path)
	}
	for word := range strings.SplitSeq(v.Options["o"], ",") {
		if _, _, ok := flagOf(word); ok && word != "" && word != "defaults" && word != "bind" && word != "rbind" {
			s.Options = append(s.Options, word)
		}
	}
	if m.recursive {
		s.Options = append(s.Options, "rbind")
	}
	return s, nil
}

// Mounts reports whether the volume is a file system that [Volume.Attach] mounts.
func (v Volume) Mounts() bool { return len(v.Options) > 0 && !isBind(v.Options) }

// Attach mounts the volume's own file system at its directory, unless it is there. It needs
// privileges.
func (v Volume) Attach() error {
	if !v.Mounts() {
		return nil
	}
	unlock, err := v.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if on, err := v.attached(); on || err != nil {
		return err
	}
	m, err := parse(v.Options["o"])
	if err != nil {
		return err
	}
	data, err := resolved(m.data)
	if err != nil {
		return fmt.Errorf("volume %s: %w", v.Name, err)
	}
	if err := unix.Mount(v.Options["device"], v.Dir(), v.Options["type"], m.flags, data); err != nil {
		hint := ""
		if err == unix.EPERM {
			hint = ": mounting a file system needs root"
		}
		return fmt.Errorf("volume %s: mount of %s, type %s, options %q: %w%s", v.Name, v.Options["device"], v.Options["type"], v.Options["o"], err, hint)
	}
	// What the directory was shared with is not to see it.
	return unix.Mount("", v.Dir(), "", unix.MS_PRIVATE, "")
}

// detach unmounts what [Volume.Attach] has mounted. Files that somebody still has open stay until they are closed.
func (v Volume) detach() error {
	if on, err := v.attached(); !on || err != nil {
		return err
	}
	return unix.Unmount(v.Dir(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
}

// DetachUnused unmounts what [Volume.Attach] has mounted if unused says so. Nobody attaches the volume meanwhile.
func (v Volume) DetachUnused(unused func() bool) error {
	unlock, err := v.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if !unused() {
		return nil
	}
	return v.detach()
}

// attached reports whether something is mounted on the volume's directory.
func (v Volume) attached() (bool, error) {
	var dir, above unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, v.Dir(), unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MNT_ID, &dir); err != nil {
		return false, &os.PathError{Op: "statx", Path: v.Dir(), Err: err}
	}
	if err := unix.Statx(unix.AT_FDCWD, v.dir, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MNT_ID, &above); err != nil {
		return false, &os.PathError{Op: "statx", Path: v.dir, Err: err}
	}
	return dir.Mnt_id != above.Mnt_id, nil
}

// resolved puts addresses for names in addr=, of which the kernel's NFS knows none.
func resolved(data []string) (string, error) {
	list := slices.Clone(data)
	for i, word := range list {
		name, ok := strings.CutPrefix(word, "addr=")
		if !ok || net.ParseIP(name) != nil {
			continue
		}
		addr, err := net.ResolveIPAddr("ip", name)
		if err != nil {
			return "", fmt.Errorf("option addr: %w", err)
		}
		list[i] = "addr=" + addr.String()
	}
	return strings.Join(list, ","), nil
}
