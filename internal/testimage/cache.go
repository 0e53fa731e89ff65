package testimage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"golang.org/x/sys/unix"
)

// Names of images.
const (
	Busybox  = "busybox"  // one layer of 2 MB; sh is its command
	Debian   = "debian"   // what debootstrap calls minbase; bash is its command
	Nginx    = "nginx"    // serves a page on port 80, or ${PORT}; stops by SIGQUIT
	Redis    = "redis"    // starts as root and steps down to redis; volume /data, with a health check
	Postgres = "postgres" // starts as root, makes a cluster at first, steps down to postgres; stops by SIGINT
	Big      = "big"      // 5 layers, 26,000 files, 700 MB of made-up data over busybox
	Deep     = "deep"     // 100 layers over busybox: see [DeepLayers]
	Flat     = "flat"     // what Deep has, in one layer
)

// Prepare returns a function for [nstest.Options].Prepare, which builds the images named as far as
// they are not there yet. Where debootstrap or root is missing it builds none that needs it: [Get] skips then.
func Prepare(names ...string) func() error {
	return func() error {
		for _, name := range names {
			if missing(name) != "" {
				continue
			}
			if err := ensure(name); err != nil {
				return fmt.Errorf("image %s for the tests: %w", name, err)
			}
		}
		return nil
	}
}

// Get opens an image. A test whose image cannot be made on this machine is skipped.
func Get(t testing.TB, name string) v1.Image {
	t.Helper()
	if reason := missing(name); reason != "" {
		t.Skip(reason)
	}
	if !onTheSpot(name) {
		Layout(t, name) // says what to do when it is not there
	}
	img, err := Open(name)
	if err != nil {
		t.Fatalf("image %s: %v", name, err)
	}
	return img
}

// Open opens an image, and builds it where it is not there yet.
func Open(name string) (v1.Image, error) {
	if reason := missing(name); reason != "" {
		return nil, errors.New(reason)
	}
	if !onTheSpot(name) {
		if err := ensure(name); err != nil {
			return nil, err
		}
		dir, err := place(name)
		if err != nil {
			return nil, err
		}
		return open(dir)
	}
	img, err := busybox()
	if err == nil && name != Busybox {
		img, err = deep(img)
	}
	if err == nil && name == Flat {
		img, err = flat(img)
	}
	return img, err
}

// onTheSpot reports whether an image takes no longer than to look for it.
func onTheSpot(name string) bool { return name == Busybox || name == Deep || name == Flat }

// Layout returns the directory of an image that is kept: an OCI image layout with this image only. It is not
// to be written to.
func Layout(t testing.TB, name string) string {
	t.Helper()
	if reason := missing(name); reason != "" {
		t.Skip(reason)
	}
	dir, err := place(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("image %s: %v: the package's TestMain has to name it in testimage.Prepare", name, err)
	}
	return dir
}

// missing says why an image cannot be made here; empty when it can.
func missing(name string) string {
	if onTheSpot(name) || name == Big {
		if _, err := exec.LookPath("busybox"); err != nil {
			return "needs busybox (Debian: package busybox-static)"
		}
		return ""
	}
	if _, err := exec.LookPath("debootstrap"); err != nil {
		return "needs debootstrap (Debian: package debootstrap)"
	}
	if dir, err := place(name); err == nil {
		if _, err := os.Stat(dir); err == nil {
			return ""
		}
	}
	if os.Geteuid() != 0 {
		return "needs root: debootstrap"
	}
	return ""
}

// cache is the directory of what is kept.
func cache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("a place for what is kept: %w", err)
	}
	return filepath.Join(dir, "kakuri-testimage"), nil
}

// place is where an image is kept: its name, and a hash of all that it is made of.
func place(name string) (string, error) {
	dir, err := cache()
	if err != nil {
		return "", err
	}
	key, err := key(name)
	return filepath.Join(dir, name+"-"+key), err
}

func key(name string) (string, error) {
	h := sha256.New()
	if name == Big {
		fmt.Fprintf(h, "%d %+v", bigVersion, bigLayers())
	} else {
		for name != "" {
			r, ok := recipes()[name]
			if !ok {
				return "", fmt.Errorf("there is no image %q to make", name)
			}
			text, err := json.Marshal(r)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(h, "%d %s %s\n", recipeVersion, suite, text)
			name = r.Base
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// ensure builds an image that is not there yet. Another process that builds is waited for.
func ensure(name string) error {
	if onTheSpot(name) {
		return nil
	}
	dir, err := place(name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(filepath.Dir(dir), "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	return build(name)
}

// build builds an image, and what it is based on, with the lock held.
func build(name string) error {
	dir, err := place(name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if r := recipes()[name]; r.Base != "" {
		if err := build(r.Base); err != nil {
			return err
		}
	}
	sweep(filepath.Dir(dir))
	work, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	var img v1.Image
	if name == Big {
		img, err = big(work)
	} else {
		img, err = cook(recipes()[name], work)
	}
	if err != nil {
		return err
	}
	return keep(img, filepath.Join(work, "layout"), dir)
}

// sweep removes what killed processes left. The lock is held: nobody else works there.
func sweep(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, "new-*"))
	for _, p := range left {
		os.RemoveAll(p)
	}
}

// keep writes img as a layout, and gives it its name when it is whole.
func keep(img v1.Image, work, dir string) error {
	p, err := layout.Write(work, empty.Index)
	if err != nil {
		return err
	}
	if err := p.AppendImage(img); err != nil {
		return err
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return err
	}
	return os.Rename(work, dir)
}

// open reads the one image of a layout.
func open(dir string) (v1.Image, error) {
	p, err := layout.FromPath(dir)
	if err != nil {
		return nil, err
	}
	index, err := p.ImageIndex()
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(m.Manifests) != 1 {
		return nil, fmt.Errorf("%s: %d images, want one", dir, len(m.Manifests))
	}
	return p.Image(m.Manifests[0].Digest)
}

// run starts a program, and gives its words when it fails.
func run(c *exec.Cmd) error {
	out, err := c.CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, strings.Join(lines[max(0, len(lines)-30):], "\n"))
	}
	return nil
}
