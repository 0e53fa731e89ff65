package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// rootSuite is the suite of Debian that the guest's programs come from.
const rootSuite = "bookworm"

// rootPackages are in the root, with all that they depend on: what the tests compare
// with, systemd for guests that have it as their first process, and what apt takes for granted.
// Python is what crun's suite alone is written in.
func rootPackages(o options) []string {
	packages := []string{
		"apparmor", "base-files", "base-passwd", "bash", "bats", "bsdextrautils", "bsdutils", "busybox-static", "bzip2", "coreutils", "criu", "dash", "dbus-user-session", "debianutils", "diffutils",
		"e2fsprogs", "findutils", "fuse-overlayfs", "gawk", "grep", "gzip", "hostname", "iproute2", "iptables", "iputils-ping", "jq", "kmod", "libc-bin", "libpam-systemd", "login", "mawk", "mount",
		"ncurses-base", "ncurses-bin", "nftables", "passt", "passwd", "procps", "psmisc", "secilc", "sed", "strace", "systemd", "systemd-sysv", "tar", "uidmap", "util-linux", "util-linux-extra", "xz-utils",
	}
	if o.Suite != "" && suiteOf(o.Suite) == "crun" {
		packages = append(packages, "python3")
	}
	return packages
}

// The account for what runs without root has the name, and its ids the place, that
// test.sh gives them on a machine.
const (
	userName = "kakuri-test"
	userID   = 999
	userHome = "/var/lib/kakuri-test"
	idRange  = userName + ":1410065408:65536\n"
)

// rootDirs are what a script of base-files makes.
func rootDirs() []string { return []string{"media", "mnt", "opt", "srv"} }

// rootFiles are what the packages' own scripts would have made, had they run.
func rootFiles() [][2]string {
	return [][2]string{
		{"etc/hostname", "guest\n"},
		{"etc/resolv.conf", ""}, // a machine without a network, which tests mount their own on
		{"etc/hosts", "127.0.0.1 localhost guest\n"},
		{"etc/machine-id", ""},
		{"etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"},
		{"etc/pam.d/common-account", "account required pam_permit.so\n"},
		{"etc/pam.d/common-auth", "auth required pam_permit.so\n"},
		{"etc/pam.d/common-password", "password required pam_permit.so\n"},
		{"etc/pam.d/common-session", "session required pam_permit.so\nsession optional pam_systemd.so\n"},
		{"etc/pam.d/common-session-noninteractive", "session required pam_permit.so\nsession optional pam_systemd.so\n"},
		{"etc/shadow", "root:*:20000:0:99999:7:::\n"},
		{"etc/subgid", idRange},
		{"etc/subuid", idRange},
	}
}

// accounts are added to those of base-passwd, whose passwords are elsewhere.
const (
	shadowed   = ":x:"
	morePasswd = "messagebus:x:100:100::/nonexistent:/usr/sbin/nologin\nkakuri-test:x:999:999::" + userHome + ":/bin/sh\n"
	moreGroup  = "messagebus:x:100:\nkakuri-test:x:999:\n"
)

// rootImage makes the guest's root where the cache has none that is made like this,
// and gives the image's path.
func rootImage(o options) (string, error) {
	recipe := sha256.Sum256(fmt.Append(nil, rootSuite, rootPackages(o), rootDirs(), rootFiles(), morePasswd, moreGroup, shadowed))
	dir := filepath.Join(o.Cache, fmt.Sprintf("root-%s-%x", o.Arch, recipe[:4]))
	image := filepath.Join(dir, "root.img")
	return image, fresh(dir, o.Update, func(dir string) error {
		fmt.Printf("making the guest's root of %s for %s\n", rootSuite, o.Arch)
		a, err := openArchive(o, rootSuite)
		if err != nil {
			return err
		}
		debs, err := a.gather(rootPackages(o)...)
		if err != nil {
			return err
		}
		tree := filepath.Join(dir, "tree")
		if err := furnish(tree, o.Arch, debs); err != nil {
			return err
		}
		if err := ext4(filepath.Join(dir, "root.img"), tree, 3<<30); err != nil {
			return err
		}
		return os.RemoveAll(tree)
	})
}

// furnish lays packages and files below tree.
func furnish(tree, arch string, debs []string) error {
	dirs := []string{"bin", "sbin", "lib"}
	if arch == "amd64" {
		dirs = append(dirs, "lib64")
	}
	for _, d := range rootDirs() {
		if err := os.MkdirAll(filepath.Join(tree, d), 0o755); err != nil {
			return err
		}
	}
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(tree, "usr", d), 0o755); err != nil {
			return err
		}
		if err := os.Symlink("usr/"+d, filepath.Join(tree, d)); err != nil {
			return err
		}
	}
	for _, deb := range debs {
		if err := unpack(deb, tree); err != nil {
			return err
		}
	}
	files := rootFiles()
	for _, f := range [][2]string{{"passwd", morePasswd}, {"group", moreGroup}} {
		master, err := os.ReadFile(filepath.Join(tree, "usr/share/base-passwd", f[0]+".master"))
		if err != nil {
			return err
		}
		files = append(files, [2]string{"etc/" + f[0], strings.ReplaceAll(string(master), ":*:", shadowed) + f[1]})
	}
	for _, f := range files {
		p := filepath.Join(tree, f[0])
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, []byte(f[1]), 0o644); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(tree, "etc/shadow"), 0o600); err != nil {
		return err
	}
	// dpkg's alternatives are links that its scripts make.
	return os.Symlink("mawk", filepath.Join(tree, "usr/bin/awk"))
}

// ext4 makes an image of a tree. All files of a user without root become root's: of his
// own, mkfs sees them so in a user namespace.
func ext4(image, tree string, size int64) error {
	if err := os.WriteFile(image, nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(image, size); err != nil {
		return err
	}
	c := exec.Command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", image)
	if tree != "" {
		c.Args = slices.Insert(c.Args, 1, "-d", tree)
	}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		c.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: uid, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: gid, Size: 1}},
		}
	}
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	return nil
}
