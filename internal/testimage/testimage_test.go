package testimage

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/kakuri/kakuri/internal/nstest"
)

func TestMain(m *testing.M) {
	os.Exit(nstest.Main(m, nstest.Options{Prepare: Prepare(Debian, Nginx, Redis, Postgres, Big)}))
}

// A directory of the cache is found again, by another process too.
func TestKey(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range []string{Debian, Nginx, Redis, Postgres, Big} {
		a, err1 := key(name)
		b, err2 := key(name)
		if a != b || len(a) != 16 || seen[a] || err1 != nil || err2 != nil {
			t.Errorf("%s: %s %s %v %v", name, a, b, err1, err2)
		}
		seen[a] = true
	}
}

// tree reads what a container of img would see: names, and the contents of those that are asked for.
func tree(t *testing.T, img v1.Image, want ...string) (names map[string]tar.Header, texts map[string]string) {
	t.Helper()
	names, texts = map[string]tar.Header{}, map[string]string{}
	r := mutate.Extract(img)
	defer r.Close()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return names, texts
		} else if err != nil {
			t.Fatal(err)
		}
		p := strings.Trim(h.Name, "/")
		names[p] = *h
		for _, w := range want {
			if p == w {
				text, err := io.ReadAll(tr)
				if err != nil {
					t.Fatal(err)
				}
				texts[p] = string(text)
			}
		}
	}
}

func TestBusybox(t *testing.T) {
	names, texts := tree(t, Get(t, Busybox), "etc/passwd")
	if names["bin/busybox"].Mode != 0o755 || names["tmp"].Mode != 0o1777 || !strings.HasPrefix(texts["etc/passwd"], "root:x:0:0:") {
		t.Errorf("%v %q", names["bin/busybox"], texts)
	}
}

func TestDeep(t *testing.T) {
	img := Get(t, Deep)
	layers, err := img.Layers()
	if err != nil || len(layers) != DeepLayers {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	names, texts := tree(t, img, "top", "layers/1")
	last := fmt.Sprint(DeepLayers - 1)
	if texts["top"] != last+"\n" || texts["layers/1"] != "1\n" {
		t.Errorf("%q", texts)
	}
	for p := range names {
		if strings.HasPrefix(p, "only/") && p != "only/"+last {
			t.Errorf("%s is still there", p)
		}
	}
}

func TestFlat(t *testing.T) {
	want, _ := tree(t, Get(t, Deep))
	img := Get(t, Flat)
	got, _ := tree(t, img)
	if layers, err := img.Layers(); err != nil || len(layers) != 1 || len(got) != len(want) {
		t.Errorf("%d layers, %v; %d names, want %d", len(layers), err, len(got), len(want))
	}
}

func TestBig(t *testing.T) {
	nstest.Root(t)
	img := Get(t, Big)
	layers, err := img.Layers()
	if err != nil || len(layers) != 5 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	names, _ := tree(t, img)
	files, bytes := 0, int64(0)
	for _, h := range names {
		if h.Typeflag == tar.TypeReg {
			files, bytes = files+1, bytes+h.Size
		}
	}
	if files < 26000 || files > 26200 || bytes < 690e6 || bytes > 710e6 {
		t.Errorf("%d files, %d bytes", files, bytes)
	}
}

// What is made of packages has the base's layer first, byte for byte, and what the recipe wants.
func TestPackages(t *testing.T) {
	nstest.Root(t)
	base, err := Get(t, Debian).Layers()
	if err != nil {
		t.Fatal(err)
	}
	first, err := base[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	for image, file := range map[string]string{
		Nginx: "usr/sbin/nginx", Redis: "usr/bin/redis-server", Postgres: "usr/lib/postgresql/15/bin/postgres",
	} {
		t.Run(image, func(t *testing.T) {
			img := Get(t, image)
			if err := validate.Image(img, validate.Fast); err != nil {
				t.Error(err)
			}
			layers, err := img.Layers()
			if err != nil {
				t.Fatal(err)
			}
			if d, err := layers[0].Digest(); err != nil || d != first {
				t.Errorf("the first layer is %v, %v, want %v of %s", d, err, first, Debian)
			}
			names, _ := tree(t, img)
			for _, p := range append([]string{file, "bin/sh", "etc/debian_version", "dev"}, strings.TrimPrefix(recipes()[image].Files[0].Path, "/")) {
				if _, ok := names[p]; !ok && !(p == "bin/sh" && names["bin"].Linkname == "usr/bin") {
					t.Errorf("%s is not there", p)
				}
			}
			for p := range names {
				if strings.HasPrefix(p, "dev/") || strings.HasPrefix(p, "proc/") || strings.HasSuffix(p, ".deb") || strings.HasPrefix(p, "var/lib/apt/lists/deb") || p == "usr/sbin/policy-rc.d" {
					t.Errorf("%s is there", p)
				}
			}
			cf, err := img.ConfigFile()
			if err != nil || len(cf.Config.Entrypoint) == 0 || len(cf.Config.ExposedPorts) != 1 || len(cf.History) != len(layers) {
				t.Errorf("%+v, %v", cf, err)
			}
		})
	}
}

// The layer of a tree over another holds the difference: what mutate.Extract makes of both is the tree.
func TestTreeLayer(t *testing.T) {
	nstest.Root(t)
	dir := nstest.Dir(t)
	err := run(exec.Command("sh", "-ec", `cd $0; mkdir -p a/d/e a/gone/f a/dev; echo 1 >a/one; echo 2 >a/d/two; ln a/d/two a/d/e/link; ln -s one a/sym; touch a/dev/null
cp -a a b; echo more >>b/one; rm b/sym; rm -r b/gone; echo 3 >b/d/three; ln b/d/three b/three; chmod 700 b/d; touch b/dev/zero`, dir))
	if err != nil {
		t.Fatal(err)
	}
	layer, err := treeLayer(dir+"/b", dir+"/a", dir+"/l")
	if err != nil {
		t.Fatal(err)
	}
	r, err := layer.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(tr)
		got[h.Name] = string(h.Typeflag) + h.Linkname + string(text)
	}
	want := map[string]string{".wh.sym": "0", ".wh.gone": "0", "one": "01\nmore\n", "d/": "5", "d/three": "03\n", "three": "1d/three"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Both registries give back what was pushed.
func TestRegistries(t *testing.T) {
	nstest.Root(t)
	for kind, serve := range map[string]func(testing.TB, map[string]v1.Image) string{"go": Registry, "debian": DebianRegistry} {
		t.Run(kind, func(t *testing.T) {
			img := Get(t, Busybox)
			host := serve(t, map[string]v1.Image{"some/busybox:1": img})
			ref, err := name.ParseReference(host+"/some/busybox:1", name.Insecure)
			if err != nil {
				t.Fatal(err)
			}
			got, err := remote.Image(ref)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(got); err != nil {
				t.Error(err)
			}
			d1, err1 := img.Digest()
			d2, err2 := got.Digest()
			if d1 != d2 || err1 != nil || err2 != nil {
				t.Errorf("%v %v, %v %v", d1, err1, d2, err2)
			}
		})
	}
}

// Others read the archives.
func TestArchives(t *testing.T) {
	nstest.Root(t)
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("needs skopeo (Debian: package skopeo)")
	}
	img := Get(t, Busybox)
	digest, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"docker-archive:" + DockerArchive(t, "localhost/busybox:1", img), "oci-archive:" + OCIArchive(t, "1", img)} {
		to := filepath.Join(nstest.Dir(t), "to")
		if err := run(exec.Command("skopeo", "--insecure-policy", "copy", "--tmpdir", filepath.Dir(to), from, "dir:"+to)); err != nil {
			t.Error(err)
			continue
		}
		manifest, err := os.ReadFile(to + "/manifest.json")
		if err != nil || !strings.Contains(string(manifest), digest.String()) {
			t.Errorf("%s: %v: the configuration %s is not in\n%s", from, err, digest, manifest)
		}
	}
}
