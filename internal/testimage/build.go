package testimage

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// cook follows a recipe, in the directory work.
func cook(r recipe, work string) (v1.Image, error) {
	root := filepath.Join(work, "root")
	if r.Base == "" {
		return cookBase(r, root, work)
	}
	base, err := place(r.Base)
	if err != nil {
		return nil, err
	}
	img, err := open(base)
	if err != nil {
		return nil, err
	}
	if err := link(base, filepath.Join(work, "layout")); err != nil {
		return nil, err
	}
	tree := filepath.Join(base, "root")
	if err := run(exec.Command("cp", "-a", tree, root)); err != nil {
		return nil, err
	}
	if err := install(r, root); err != nil {
		return nil, err
	}
	packages, err := treeLayer(root, tree, filepath.Join(work, "packages.tar.gz"))
	if err != nil {
		return nil, err
	}
	files, err := filesLayer(r.Files)
	if err != nil {
		return nil, err
	}
	return configured(img, r,
		mutate.Addendum{Layer: packages, History: v1.History{CreatedBy: "apt-get install " + strings.Join(r.Packages, " ")}},
		mutate.Addendum{Layer: files, History: v1.History{CreatedBy: "COPY /"}})
}

// cookBase makes the image that the others stand on. Its tree is kept beside the layout, for them.
func cookBase(r recipe, root, work string) (v1.Image, error) {
	cached, err := debs()
	if err != nil {
		return nil, err
	}
	mirror, err := mirror()
	if err != nil {
		return nil, err
	}
	args := []string{"-m", "--propagation", "private", "debootstrap", "--variant=minbase", "--cache-dir=" + cached, suite, root}
	if mirror != "" {
		args = append(args, mirror)
	}
	if err := online(func() error {
		os.RemoveAll(root)
		return run(exec.Command("unshare", args...))
	}); err != nil {
		return nil, err
	}
	if err := run(exec.Command("chroot", root, "sh", "-c", tidy)); err != nil {
		return nil, err
	}
	layer, err := treeLayer(root, "", filepath.Join(work, "base.tar.gz"))
	if err != nil {
		return nil, err
	}
	kept := filepath.Join(work, "layout")
	if err := os.MkdirAll(kept, 0o755); err != nil {
		return nil, err
	}
	if err := os.Rename(root, filepath.Join(kept, "root")); err != nil {
		return nil, err
	}
	return configured(empty.Image, r, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: "debootstrap --variant=minbase " + suite}})
}

// tidy leaves what a package manager needs, and no more.
const tidy = `rm -rf /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/lib/apt/lists/* /var/log/*.log /var/log/apt /var/cache/ldconfig/aux-cache /debootstrap
: >/etc/resolv.conf; rm -f /etc/hostname`

// install has apt install a recipe's packages below root, with no daemon started.
func install(r recipe, root string) error {
	cached, err := debs()
	if err != nil {
		return err
	}
	script := `set -e
cd "$1"
mount -t proc proc proc
mount --bind "$2" var/cache/apt/archives
cat /etc/resolv.conf >etc/resolv.conf
printf '#!/bin/sh\nexit 101\n' >usr/sbin/policy-rc.d; chmod 755 usr/sbin/policy-rc.d
# A cluster that the package makes would be in the image.
mkdir -p etc/postgresql-common; echo 'create_main_cluster = false' >etc/postgresql-common/createcluster.conf
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
chroot . apt-get -q -o Acquire::Retries=3 -o APT::Sandbox::User=root update
chroot . apt-get -q -y -o Acquire::Retries=3 -o APT::Sandbox::User=root -o APT::Keep-Downloaded-Packages=true install --no-install-recommends $3
umount proc var/cache/apt/archives
rm usr/sbin/policy-rc.d
chroot . sh -c "$4"
chroot . sh -c "$5"
`
	return online(func() error {
		c := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c", script, "install", root, cached, strings.Join(r.Packages, " "), r.Shell, tidy)
		return run(c)
	})
}

// debs is a directory of packages that were fetched once.
func debs() (string, error) {
	dir, err := cache()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "debs")
	return dir, os.MkdirAll(filepath.Join(dir, "partial"), 0o755)
}

// mirror is the archive that this machine's apt takes Debian from; empty where it is of
// another release, for debootstrap's own.
func mirror() (string, error) {
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Component: main").Output()
	if err != nil {
		return "", fmt.Errorf("the archive of this machine: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == suite {
			return f[1], nil
		}
	}
	return "", nil
}

// online does what needs the archive, and once more when it fails: a mirror may be away for a moment.
func online(do func() error) error {
	err := do()
	for _, wait := range []time.Duration{5 * time.Second, 30 * time.Second} {
		if err == nil {
			return nil
		}
		fmt.Fprintf(os.Stderr, "testimage: once more in %v: %v\n", wait, err)
		time.Sleep(wait)
		err = do()
	}
	return err
}

// link gives a new layout the layers of the one below it, without a copy.
func link(from, to string) error {
	const blobs = "blobs/sha256"
	if err := os.MkdirAll(filepath.Join(to, blobs), 0o755); err != nil {
		return err
	}
	list, err := os.ReadDir(filepath.Join(from, blobs))
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := os.Link(filepath.Join(from, blobs, e.Name()), filepath.Join(to, blobs, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// configured puts layers on base, with the recipe's configuration.
func configured(base v1.Image, r recipe, layers ...mutate.Addendum) (v1.Image, error) {
	created := v1.Time{Time: time.Unix(1767225600, 0).UTC()}
	for i := range layers {
		layers[i].History.Created = created
	}
	img, err := mutate.Append(base, layers...)
	if err != nil {
		return nil, err
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cf = cf.DeepCopy()
	cf.Architecture, cf.OS, cf.Config, cf.Created = runtime.GOARCH, "linux", r.Config, created
	return mutate.ConfigFile(img, cf)
}
