package engine

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/namespace"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
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

// workDirs and lockFiles are what others may not open on the host, and what installing
// packages needs: those are empty, these are not there.
func workDirs() []string {
	return []string{"/var/cache/apt/archives/partial", "/var/cache/ldconfig", "/var/lib/apt/lists/partial"}
}

func lockFiles() []string {
	return []string{
		"/etc/.pwd.lock", "/var/cache/apt/archives/lock", "/var/lib/apt/lists/lock", "/var/lib/dpkg/lock", "/var/lib/dpkg/lock-frontend",
		"/var/lib/dpkg/triggers/Lock",
	}
}

// privatePaths are data of engines and servers, secrets, and memory written to
// disk: not there in "host".
func privatePaths() []string {
	return []string{
		"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd",
		"/etc/ssh/ssh_host_dsa_key", "/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_rsa_key",
		"/etc/ssl/private", "/etc/pki/tls/private", "/etc/letsencrypt", "/etc/krb5.keytab",
		"/etc/NetworkManager/system-connections", "/etc/wireguard", "/etc/openvpn", "/etc/ipsec.secrets", "/etc/ipsec.d/private",
		"/etc/wpa_supplicant", "/etc/ppp/chap-secrets", "/etc/ppp/pap-secrets", "/etc/cups/ssl", "/etc/mysql/debian.cnf",
		"/etc/shadow~", "/etc/gshadow~", "/etc/shadow.bak", "/etc/ssh/ssh_host_ed448_key", "/etc/ssl/server.key", "/etc/sudoers", "/etc/sudoers.d",
		"/etc/pki/private", "/etc/pki/entitlement", "/etc/ipa/nssdb", "/etc/luks", "/etc/cryptsetup-keys.d", "/etc/credstore", "/etc/credstore.encrypted",
		"/etc/netplan", "/etc/iscsi", "/etc/cni/net.d", "/etc/corosync/authkey", "/etc/snmp", "/etc/freeradius", "/etc/exim4/passwd.client",
		"/etc/dovecot/private", "/etc/nginx/ssl", "/etc/haproxy", "/etc/grafana", "/etc/apt/auth.conf", "/etc/apt/auth.conf.d", "/etc/containers/auth.json",
		"/etc/openldap", "/etc/ldap.secret", "/etc/nslcd.conf", "/etc/bind/rndc.key", "/etc/rndc.key", "/etc/ceph", "/etc/swanctl/private",
		"/etc/strongswan", "/etc/vault.d", "/etc/consul.d", "/etc/gitlab", "/etc/rsyncd.secrets", "/etc/fstab",
		"/etc/cloud/cloud.cfg.d", "/etc/machine-id", "/etc/munge", "/etc/nut", "/etc/tinc", "/etc/msmtprc", "/etc/fetchmailrc", "/etc/pgbouncer", "/etc/redis", "/etc/keepalived",
		"/boot/grub/grub.cfg", "/boot/grub/user.cfg", "/boot/grub2/grub.cfg", "/boot/grub2/user.cfg", "/boot/loader/random-seed", "/boot/efi/loader/random-seed",
		"/var/cache/debconf/passwords.dat", "/var/cache/private", "/var/cache/samba", "/var/cache/krb5rcache", "/var/kerberos", "/var/db", "/var/opt",
		"/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret", "/var/lib/cloud", "/var/lib/sudo", "/var/lib/iwd", "/var/lib/bluetooth",
		"/var/lib/ceph", "/var/lib/influxdb", "/var/lib/grafana", "/var/lib/jenkins", "/var/lib/gitlab-runner", "/var/lib/vault", "/var/lib/consul",
		"/var/lib/tor", "/var/lib/krb5kdc", "/var/lib/ldap", "/var/lib/dhcp", "/var/lib/fail2ban", "/var/lib/snapd", "/var/lib/waagent", "/var/lib/pgsql",
		"/var/lib/elasticsearch", "/var/lib/rabbitmq", "/var/lib/acme", "/var/lib/caddy", "/usr/etc/shadow",
		"/etc/docker/key.json", "/etc/kubernetes", "/etc/rancher", "/etc/sssd", "/etc/samba/private", "/etc/postfix/sasl",
		"/var/lib/containerd", "/var/lib/containers", "/var/lib/docker", "/var/lib/kakuri", "/var/lib/kubelet", "/var/lib/rancher",
		"/var/lib/etcd", "/var/lib/incus", "/var/lib/libvirt", "/var/lib/lxc", "/var/lib/lxd", "/var/lib/machines", "/var/lib/buildkit",
		"/var/lib/postgresql", "/var/lib/mysql", "/var/lib/redis", "/var/lib/mongodb", "/var/lib/sss", "/var/lib/samba",
		"/var/lib/systemd/coredump", "/var/lib/NetworkManager", "/var/lib/private", "/var/lib/AccountsService", "/var/crash",
		"/var/lib/k0s", "/var/lib/crio", "/var/lib/k3s", "/var/lib/mariadb", "/var/lib/couchdb", "/var/lib/cassandra", "/var/lib/minio", "/var/lib/prometheus", "/var/lib/wireguard",
		"/var/lib/tailscale", "/var/lib/zerotier-one", "/var/lib/dbus/machine-id", "/var/lib/systemd/pstore", "/var/lib/fwupd", "/var/lib/tpm2-tss",
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
	mounts, err := hostMounts()
	if err != nil {
		return err
	}
	if b.host.Privileged() {
		if (!all || b.opts.IDMapRoot) && b.source("/").top.Type == overlayType {
			return fmt.Errorf("image %s is a view of /, which is an overlay here, as in a container or a live system: the kernel makes no such view of one; run another image, or --rootfs DIR", b.run.Image)
		}
		root.Views = rootViews(mounts, all)
	} else if err := rootlessViews(root, mounts, all); err != nil {
		return err
	}
	b.opts.Root, b.spec.Root.Path = root, "rootfs" // where hooks find it, and nobody else looks
	root.Public = !all && b.host.Privileged()
	if m := b.spec.Linux.UIDMappings; root.Public && len(m) > 0 && m[0].Size <= plan.Nobody {
		return fmt.Errorf("--userns %s: the image host is shown as the id %d may read it, so it needs %d ids: take host:all, or a larger size", b.run.UserNS, plan.Nobody, plan.Nobody+1)
	}
	for _, dir := range freshDirs() {
		why := "image host: empty, not the host's"
		if !all {
			b.hide(dir, why)
		}
		b.bare(plan.RootDir{Path: dir, Mount: true}, dir, why)
	}
	if all {
		return nil
	}
	return b.hidePrivate()
}

// hidePrivate has the image "host" not show what is somebody's, and have what installing packages needs of it empty.
func (b *builder) hidePrivate() error {
	for _, dir := range privateDirs() {
		b.empty(dir, "image host: people's data is not shown")
	}
	if err := b.hideStrangers(); err != nil {
		return err
	}
	for _, p := range privatePaths() {
		b.hide(p, "image host: secrets and others' data are not shown")
	}
	for _, dir := range workDirs() {
		b.empty(dir, "image host: closed to others, and needed to install packages")
	}
	for _, p := range lockFiles() {
		b.hide(p, "image host: closed to others, and needed to install packages")
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
			b.hide(p, "image host: not of the operating system")
		}
	}
	return nil
}

// hide has the views not show a path of the host, and returns where it really is: a
// link stays, and what it leads to is hidden. It is empty for a path that is not
// there, or that the caller cannot reach.
func (b *builder) hide(p, why string) string {
	if !exists(p) {
		return ""
	}
	real := files.RealPath(p)
	if real == "" || real == "/" {
		return ""
	}
	b.opts.Root.Hidden = append(b.opts.Root.Hidden, plan.RootHidden{Path: real, Reason: why})
	b.above(real)
	return real
}

// above notes what the host's directories above p look like: a layer that hides p
// has them, too.
func (b *builder) above(p string) {
	r := b.opts.Root
	for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
		if slices.ContainsFunc(r.Above, func(d plan.RootDir) bool { return d.Path == dir }) {
			return
		}
		if d, ok := b.like(dir); ok {
			r.Above = append(r.Above, d)
		}
	}
}

// like is a directory with the mode and the owner of the host's.
func (b *builder) like(dir string) (plan.RootDir, bool) {
	var st unix.Stat_t
	if unix.Lstat(dir, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return plan.RootDir{}, false
	}
	d := plan.RootDir{Path: dir, Mode: st.Mode & 0o7777}
	if b.host.Privileged() && (!b.hasUserNS() || st.Uid < 65536 && st.Gid < 65536) {
		d.UID, d.GID = st.Uid, st.Gid
	}
	return d, true
}

// empty shows an empty directory in the place of the host's, where there is one.
func (b *builder) empty(dir, why string) {
	if real := b.hide(dir, why); real != "" {
		d, _ := b.like(real)
		b.bare(d, dir, why)
	}
}

// bare adds a directory without content, with the mode that it has by its name.
func (b *builder) bare(d plan.RootDir, dir, why string) {
	switch {
	case dir == "/tmp" || dir == "/var/tmp" || dir == "/run/lock":
		d.Mode = 0o1777
	case slices.Contains(workDirs(), dir):
	case dir == "/root":
		d.Mode, d.UID, d.GID = 0o700, 0, 0
	default:
		d.Mode, d.UID, d.GID = 0o755, 0, 0
	}
	d.Reason = why
	b.opts.Root.Empty = append(b.opts.Root.Empty, d)
}

// A hostMount is a mount of the host: where, and whether it holds files of a disk
// and not of the kernel.
type hostMount struct {
	point string
	disk  bool
}

// file reports whether it is a single file. Only those that are shown are asked: another one may be of a server that does not answer.
func (m hostMount) file() bool {
	st, err := os.Lstat(m.point)
	return err == nil && !st.IsDir()
}

// hostMounts lists the host's mounts beside "/".
func hostMounts() ([]hostMount, error) {
	mounts, err := ownMounts()
	if err != nil {
		return nil, fmt.Errorf("the host's mounts: %w", err)
	}
	var list []hostMount
	for _, m := range mounts {
		if m.Point != "/" {
			list = append(list, hostMount{point: m.Point, disk: onDisk(m.Type)})
		}
	}
	return list, nil
}

// ownMounts lists the mounts of this process's namespace.
func ownMounts() ([]namespace.Mount, error) { return namespace.ReadMounts(nil, os.Getpid()) }

func onDisk(fstype string) bool {
	switch fstype {
	case "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "erofs", "squashfs", "overlay", "bcachefs", "virtiofs", "9p", "nfs4", "nfs", "vfat":
		return true
	}
	return false
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

// rootViews shows "/" as one overlay, and what is mounted below as further ones. There is none of a single file, such as a resolv.conf that is mounted: the one
// below it is seen.
func rootViews(mounts []hostMount, all bool) []plan.RootView {
	views := []plan.RootView{{Path: "/", Dest: "/"}}
	for _, m := range mounts {
		if m.disk && !hidden(m.point, all) && !m.file() && !slices.ContainsFunc(views, func(v plan.RootView) bool { return v.Path == m.point }) {
			views = append(views, plan.RootView{Path: m.point, Dest: m.point})
		}
	}
	return views
}

// rootlessViews fills an empty root with an overlay of each directory of "/". In a
// user namespace the kernel lets no overlay have a lower layer below which
// something is mounted, "/" first of all: such a directory is made anew, of
// overlays of the directories in it.
func rootlessViews(root *plan.Root, mounts []hostMount, all bool) error {
	list, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	v := &viewer{root: root, mounts: mounts, all: all}
	for _, e := range list {
		if p := "/" + e.Name(); !e.Type().IsRegular() && (all || e.Type()&os.ModeSymlink != 0 || slices.Contains(systemDirs(), e.Name())) {
			v.show(p, e)
		}
	}
	return nil
}

type viewer struct {
	root   *plan.Root
	mounts []hostMount
	all    bool
}

// covered reports whether something is mounted below dir.
func (v *viewer) covered(dir string) bool {
	return slices.ContainsFunc(v.mounts, func(m hostMount) bool { return strings.HasPrefix(m.point, dir+"/") })
}

// kernel reports whether p is the mount of a file system that is no disk's.
func (v *viewer) kernel(p string) bool {
	return slices.ContainsFunc(v.mounts, func(m hostMount) bool { return m.point == p && !m.disk })
}

// show adds a file of the host at its own place.
func (v *viewer) show(p string, e os.DirEntry) {
	switch {
	case hidden(p, v.all) || v.kernel(p):
	case e.Type()&os.ModeSymlink != 0:
		if target, err := os.Readlink(p); err == nil {
			v.root.Links = append(v.root.Links, plan.Symlink{Target: target, Path: p})
		}
	case e.IsDir() && readable(p):
		if !v.covered(p) {
			v.root.Views = append(v.root.Views, plan.RootView{Path: p, Dest: p})
			return
		}
		list, _ := os.ReadDir(p)
		for _, child := range list {
			v.show(path.Join(p, child.Name()), child)
		}
	case e.Type().IsRegular():
		v.root.Files = append(v.root.Files, p)
	}
}

func readable(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	f.Close()
	return true
}
