package engine

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
)

// The image "host" is a copy-on-write view of the machine's own root: the
// operating system, its programs and settings. Nothing written inside reaches
// the host's files. docs/host-image.md has the lists below for readers.

// freshDirs are empty and writable in every container of the host image: what
// belongs to running programs, not to the operating system.
func freshDirs() []string { return []string{"/run", "/run/lock", "/tmp", "/var/tmp"} }

// privateDirs hold people's data: empty in "host", shown in "host:all".
func privateDirs() []string {
	return []string{
		"/home", "/root", "/srv", "/mnt", "/media",
		"/var/backups", "/var/log", "/var/mail", "/var/spool", "/var/www",
	}
}

// privatePaths are data of engines and servers, secrets, and memory written to
// disk: masked in "host".
func privatePaths() []string {
	return []string{
		"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd",
		"/etc/ssh/ssh_host_dsa_key", "/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_rsa_key",
		"/etc/ssl/private", "/etc/pki/tls/private", "/etc/letsencrypt", "/etc/krb5.keytab",
		"/etc/NetworkManager/system-connections", "/etc/wireguard", "/etc/openvpn", "/etc/ipsec.secrets", "/etc/ipsec.d/private",
		"/etc/wpa_supplicant", "/etc/ppp/chap-secrets", "/etc/ppp/pap-secrets", "/etc/cups/ssl", "/etc/mysql/debian.cnf",
		"/etc/docker/key.json", "/etc/kubernetes", "/etc/rancher", "/etc/sssd", "/etc/samba/private", "/etc/postfix/sasl",
		"/var/lib/containerd", "/var/lib/containers", "/var/lib/docker", "/var/lib/kakuri", "/var/lib/kubelet", "/var/lib/rancher",
		"/var/lib/etcd", "/var/lib/incus", "/var/lib/libvirt", "/var/lib/lxc", "/var/lib/lxd", "/var/lib/machines", "/var/lib/buildkit",
		"/var/lib/postgresql", "/var/lib/mysql", "/var/lib/redis", "/var/lib/mongodb", "/var/lib/sss", "/var/lib/samba",
		"/var/lib/systemd/coredump", "/var/lib/NetworkManager", "/var/lib/private", "/var/lib/AccountsService", "/var/crash",
	}
}

// hostImage makes the root of a container with the image "host" or "host:all".
func (b *builder) hostImage() error {
	all := false
	switch b.run.Image {
	case "host", "host:latest":
	case "host:all":
		all = true
	default:
		return fmt.Errorf("image %q: this version has the images host and host:all (a view of this machine), and --rootfs DIR", b.run.Image)
	}
	reason := "image " + b.run.Image
	root := &plan.Root{Reason: reason}
	mounts, err := diskMounts()
	if err != nil {
		return err
	}
	if b.host.Privileged() {
		root.Views = rootViews(mounts, all)
	} else if root.Views, root.Links, err = rootlessViews("/", mounts, all); err != nil {
		return err
	}
	b.opts.Root = root
	for _, dir := range freshDirs() {
		b.empty(dir, "image host: empty, not the host's")
	}
	if all {
		return nil
	}
	for _, dir := range privateDirs() {
		if exists(dir) {
			b.empty(dir, "image host: people's data is not shown")
		}
	}
	if err := b.hideStrangers(); err != nil {
		return err
	}
	for _, p := range privatePaths() {
		if exists(p) {
			b.mask(p, "image host: secrets and others' data are not shown")
		}
	}
	return nil
}

// systemDirs are the directories of "/" that make up an operating system; others
// hold somebody's data, and are empty in "host".
func systemDirs() []string {
	return []string{"bin", "boot", "dev", "etc", "gnu", "lib", "lib32", "lib64", "libx32", "nix", "opt", "proc", "run", "sbin", "sys", "tmp", "usr", "var"}
}

// hideStrangers hides what lies in "/" and is not of the operating system.
func (b *builder) hideStrangers() error {
	list, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	for _, e := range list {
		p := "/" + e.Name()
		switch {
		case slices.Contains(systemDirs(), e.Name()) || slices.Contains(privateDirs(), p):
		case e.IsDir():
			b.empty(p, "image host: not of the operating system")
		case e.Type().IsRegular():
			b.mask(p, "image host: not of the operating system")
		}
	}
	return nil
}

// mask hides a path.
func (b *builder) mask(p, why string) {
	b.because(fmt.Sprintf("linux.maskedPaths[%d]", len(b.spec.Linux.MaskedPaths)), "%s", why)
	b.spec.Linux.MaskedPaths = append(b.spec.Linux.MaskedPaths, p)
}

// empty shows an empty directory in place of the host's.
func (b *builder) empty(dir, why string) {
	mode := uint32(0o755)
	switch dir {
	case "/tmp", "/var/tmp", "/run/lock":
		mode = 0o1777
	case "/root":
		mode = 0o700
	}
	b.opts.Root.Empty = append(b.opts.Root.Empty, plan.RootDir{Path: dir, Mode: mode, Reason: why})
}

// diskMounts lists the mount points, beside "/", that hold files of the
// operating system and not of the kernel.
func diskMounts() ([]string, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	mounts, err := namespace.ReadMounts(proc, os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("the host's mounts: %w", err)
	}
	var points []string
	for _, m := range mounts {
		switch m.Type {
		case "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "erofs", "squashfs", "overlay", "bcachefs", "virtiofs", "9p", "nfs4", "nfs":
			if m.Point != "/" && !slices.Contains(points, m.Point) {
				points = append(points, m.Point)
			}
		}
	}
	return points, nil
}

// hidden reports whether the host image shows nothing at p.
func hidden(p string, all bool) bool {
	under := func(dirs ...string) bool {
		return slices.ContainsFunc(dirs, func(d string) bool { return p == d || strings.HasPrefix(p, d+"/") })
	}
	if under("/proc", "/sys", "/dev") || under(freshDirs()...) {
		return true
	}
	top, _, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	return !all && (!slices.Contains(systemDirs(), top) || under(privateDirs()...) || under(privatePaths()...))
}

// rootViews shows "/" as one overlay, and what is mounted below as further ones.
func rootViews(mounts []string, all bool) []plan.RootView {
	views := []plan.RootView{{Path: "/", Dest: "/"}}
	for _, m := range mounts {
		if !hidden(m, all) {
			views = append(views, plan.RootView{Path: m, Dest: m})
		}
	}
	return views
}

// rootlessViews shows each directory of "/" as an overlay of its own: in a user
// namespace the kernel lets no overlay have "/" itself as its lower layer, since
// locked mounts lie below it.
func rootlessViews(root string, mounts []string, all bool) ([]plan.RootView, []plan.Symlink, error) {
	list, err := os.ReadDir(root)
	if err != nil {
		return nil, nil, err
	}
	var views []plan.RootView
	var links []plan.Symlink
	for _, e := range list {
		p := path.Join("/", e.Name())
		switch {
		case e.Type()&os.ModeSymlink != 0:
			if target, err := os.Readlink(path.Join(root, e.Name())); err == nil {
				links = append(links, plan.Symlink{Target: target, Path: p})
			}
		case e.IsDir() && (all || slices.Contains(systemDirs(), e.Name())) && !hidden(p, all) && readable(path.Join(root, e.Name())):
			views = append(views, plan.RootView{Path: p, Dest: p})
		}
	}
	for _, m := range mounts {
		if strings.Count(m, "/") > 1 && !hidden(m, all) && readable(m) {
			views = append(views, plan.RootView{Path: m, Dest: m})
		}
	}
	return views, links, nil
}

func readable(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	f.Close()
	return true
}
