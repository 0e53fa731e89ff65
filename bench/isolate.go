package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// stateMounts says which directories of the machine kakuri keeps its state in, and what the
// run puts over them: a directory below the job's. What lies below run is a tmpfs, as /run is on an
// ordinary machine, and the peers' state (--root) lies there too, so that none
// of them pays for a slow disk what another does not.
var stateMounts = [...]struct{ machine, ours string }{
	{"/run/kakuri", "run/kakuri"},
	{"/var/lib/kakuri", "lib/kakuri"},
}

// makeMountpoints makes the machine's directories that stateMounts covers, as far as they
// are missing. undo removes those it made, unless somebody else has begun to use them.
func makeMountpoints(mounts [len(stateMounts)]struct{ machine, ours string }) (undo func(), err error) {
	var made []string
	undo = func() {
		for _, dir := range made {
			os.Remove(dir) // fails, rightly, when it is not empty
		}
	}
	for _, m := range mounts {
		err := os.Mkdir(m.machine, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return undo, err
		}
		made = append(made, m.machine)
	}
	return undo, nil
}

// checkPrivate refuses to go on where a mount could reach the machine. outside is the
// link of the mount namespace that the bench was started in.
func checkPrivate(outside string) error {
	here, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return err
	}
	if here == outside || outside == "" {
		return errors.New("not in a mount namespace of its own; this is the inner process, start the bench without arguments")
	}
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		if optional, _, _ := strings.Cut(line, " - "); strings.Contains(optional, " shared:") {
			return fmt.Errorf("mount is shared with the machine: %s", strings.TrimSpace(line))
		}
	}
	return nil
}

// workshop is what the rows work with.
type workshop struct {
	job
	Cgroups        cgroups
	Bundle         string // runc spec's config.json
	SeccompBundle  string // the same and a profile
	HeldBundle     string // the same, with a program that stays
	True, Look     string // where both bundles lie, with a true that ends at once and with one that stays
	State          string // directory on a tmpfs, for the runtimes' --root
	HybridReplaced bool
}

func (w workshop) binary(name string) binary {
	for _, b := range w.Binaries {
		if b.Name == name {
			return b
		}
	}
	return binary{Name: name, Err: "not built"}
}

// prepare mounts the state directories, arranges the view of cgroups, and writes the bundles.
func prepare(j job) (workshop, error) {
	w := workshop{
		job:           j,
		True:          filepath.Join(j.Dir, "true"),
		Look:          filepath.Join(j.Dir, "look"),
		Bundle:        filepath.Join(j.Dir, "true", "plain"),
		SeccompBundle: filepath.Join(j.Dir, "true", "seccomp"),
		HeldBundle:    filepath.Join(j.Dir, "held"),
		State:         filepath.Join(j.Dir, "run"),
	}
	if err := w.mountState(); err != nil {
		return w, err
	}
	if j.Options.Cgroup2 {
		if err := onlyCgroup2(); err != nil {
			return w, err
		}
	}
	var err error
	if w.Cgroups, err = readCgroups(); err != nil {
		return w, err
	}
	if w.Cgroups.hybridControllers() {
		if err := replaceHybrid(filepath.Join(j.Dir, "cgroup"), w.Cgroups); err != nil {
			return w, err
		}
		w.HybridReplaced = true
		if w.Cgroups, err = readCgroups(); err != nil {
			return w, err
		}
	}
	return w, errors.Join(
		writeBundle(w.Bundle, w.Cgroups.V2, false),
		writeBundle(w.SeccompBundle, w.Cgroups.V2, true),
		writeBundle(filepath.Join(w.Look, "plain"), w.Cgroups.V2, false, stayCommand()...),
		writeBundle(filepath.Join(w.Look, "seccomp"), w.Cgroups.V2, true, stayCommand()...),
		writeBundle(w.HeldBundle, w.Cgroups.V2, true, "sleep", "1000000"),
		becomeReaper(),
	)
}

func (w workshop) mountState() error {
	if err := os.MkdirAll(w.State, 0o711); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", w.State, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=711"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", w.State, err)
	}
	for _, m := range stateMounts {
		ours := filepath.Join(w.Dir, m.ours)
		if err := os.MkdirAll(ours, 0o711); err != nil {
			return err
		}
		if err := syscall.Mount(ours, m.machine, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s on %s: %w", ours, m.machine, err)
		}
	}
	return nil
}

// cgroups is how the machine has its cgroups mounted.
type cgroups struct {
	V2          bool     // /sys/fs/cgroup is cgroup2 and nothing else
	Hierarchies []string // names below /sys/fs/cgroup of the v1 mounts, in the kernel's order
	Controllers string   // of a V2
	Unified     bool     // a cgroup2 mount beside them, the hybrid mode of systemd
}

const cgroupRoot = "/sys/fs/cgroup"

func readCgroups() (cgroups, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return cgroups{}, err
	}
	c := parseCgroups(string(data))
	if c.V2 {
		c.Controllers = firstLine(readText(cgroupRoot + "/cgroup.controllers"))
	}
	if !c.V2 && len(c.Hierarchies) == 0 {
		return c, errors.New("no cgroups are mounted below " + cgroupRoot)
	}
	return c, nil
}

// parseCgroups reads mountinfo: proc_pid_mountinfo(5).
func parseCgroups(mountinfo string) cgroups {
	var c cgroups
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if len(fields) < 5 {
			continue
		}
		where, kind := fields[4], strings.SplitN(after, " ", 2)[0]
		name, below := strings.CutPrefix(where, cgroupRoot+"/")
		switch {
		case kind == "cgroup2" && where == cgroupRoot:
			c.V2 = true
		case kind == "cgroup2" && below:
			c.Unified = true
		case kind == "cgroup" && below && !slices.Contains(c.Hierarchies, name):
			c.Hierarchies = append(c.Hierarchies, name)
		}
	}
	return c
}

// hybridControllers says whether the cgroup2 mount of a hybrid host has controllers. crun
// refuses such a host ("cgroups in hybrid mode not supported").
func (c cgroups) hybridControllers() bool {
	data, err := os.ReadFile(filepath.Join(cgroupRoot, "unified", "cgroup.controllers"))
	return err == nil && c.Unified && !c.V2 && strings.TrimSpace(string(data)) != ""
}

// onlyCgroup2 mounts version 2 at the place of all hierarchies, in this mount namespace.
func onlyCgroup2() error {
	if err := syscall.Unmount(cgroupRoot, syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("umount %s: %w", cgroupRoot, err)
	}
	if err := syscall.Mount("cgroup2", cgroupRoot, "cgroup2", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount cgroup2 on %s: %w", cgroupRoot, err)
	}
	return nil
}

// replaceHybrid puts a view without the cgroup2 mount in the place of /sys/fs/cgroup, in
// this mount namespace. Unmounting the one mount would not do: crun then makes its
// directories in the machine's tmpfs beneath it, and they stay.
func replaceHybrid(dir string, c cgroups) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, "mode=755"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	for _, name := range c.Hierarchies {
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(filepath.Join(cgroupRoot, name), to, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind cgroup %s: %w", name, err)
		}
	}
	if err := copyLinks(cgroupRoot, dir); err != nil {
		return err
	}
	if err := syscall.Unmount(cgroupRoot, syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("umount %s: %w", cgroupRoot, err)
	}
	if err := syscall.Mount(dir, cgroupRoot, "", syscall.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to %s: %w", dir, cgroupRoot, err)
	}
	return nil
}

// copyLinks copies the symlinks of a directory: cpu beside cpu,cpuacct.
func copyLinks(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type() != fs.ModeSymlink {
			continue
		}
		target, err := os.Readlink(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		if err := os.Symlink(target, filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// becomeReaper makes orphans of the timed commands children of the bench, so that
// it sees them: PR_SET_CHILD_SUBREAPER, prctl(2).
func becomeReaper() error {
	const setChildSubreaper = 36
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); errno != 0 {
		return fmt.Errorf("prctl PR_SET_CHILD_SUBREAPER: %w", errno)
	}
	return nil
}

// cgroupDirs lists the cgroups that have part in their name, deepest last.
func cgroupDirs(part string) []string {
	var found []string
	filepath.WalkDir(cgroupRoot, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), part) {
			found = append(found, path)
		}
		return nil // a cgroup that goes away while it is walked is no fault
	})
	slices.Sort(found)
	return found
}

// removeCgroups removes the cgroups that carry this run's prefix and says which there were.
func removeCgroups(prefix string) []string {
	found := cgroupDirs(prefix)
	for _, path := range slices.Backward(found) {
		os.Remove(path)
	}
	return found
}
