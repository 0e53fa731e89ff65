package testimage

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// applets are the names that busybox has in the images.
const applets = "[ ash awk base64 basename cat chmod chown chroot cmp cp cut date dd df dirname dmesg du echo env expr false find " +
	"grep head hostname httpd id kill ln ls mkdir mkfifo mknod mktemp mount mv nc ps pwd readlink rm rmdir sed seq setsid sh sha256sum " +
	"sleep sort stat stty sync tail tar tee test timeout touch tr true tty umount uname uniq usleep wc wget which xargs yes"

// busybox makes the smallest of the images, in memory.
func busybox() (v1.Image, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var entries []tar.Header
	var texts []string
	add := func(h tar.Header, text string) {
		h.Size = int64(len(text))
		entries, texts = append(entries, h), append(texts, text)
	}
	for _, d := range []string{"bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var", "var/tmp"} {
		add(tar.Header{Name: d + "/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	}
	add(tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, "")
	add(tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755}, string(program))
	for name := range strings.FieldsSeq(applets) {
		add(tar.Header{Name: "bin/" + name, Typeflag: tar.TypeLink, Linkname: "bin/busybox", Mode: 0o755}, "")
	}
	add(tar.Header{Name: "usr/bin/env", Typeflag: tar.TypeSymlink, Linkname: "../../bin/env", Mode: 0o777}, "")
	add(tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644}, "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n")
	add(tar.Header{Name: "etc/group", Typeflag: tar.TypeReg, Mode: 0o644}, "root:x:0:\ndaemon:x:1:\ntty:x:5:\nwheel:x:10:root\nwww-data:x:33:\nnogroup:x:65534:\n")
	layer, err := layerOf(entries, texts)
	if err != nil {
		return nil, err
	}
	return configured(empty.Image, recipe{Config: v1.Config{Env: []string{searchPath}, Cmd: []string{"sh"}}},
		mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: "ADD busybox /"}})
}

// DeepLayers is how many layers [Deep] has. Layer N of them, counted from 1 for the one above busybox's, has a file
// /layers/N, writes N into /top, makes /only/N and removes /only/N-1: so /top holds the number
// of the last, and /only has one name.
const DeepLayers = 100

func deep(base v1.Image) (v1.Image, error) {
	var layers []mutate.Addendum
	for n := 1; n < DeepLayers; n++ {
		text := fmt.Sprintln(n)
		entries := []tar.Header{
			{Name: fmt.Sprint("layers/", n), Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))},
			{Name: "top", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))},
			{Name: fmt.Sprint("only/", n), Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))},
		}
		if n > 1 {
			entries = append(entries, tar.Header{Name: fmt.Sprint("only/.wh.", n-1), Typeflag: tar.TypeReg, Mode: 0o644})
		}
		layer, err := layerOf(entries, []string{text, text, text})
		if err != nil {
			return nil, err
		}
		layers = append(layers, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: fmt.Sprint("layer ", n)}})
	}
	return configured(base, recipe{Config: v1.Config{Env: []string{searchPath}, Cmd: []string{"sh"}}}, layers...)
}

// flat puts all layers of an image into one.
func flat(img v1.Image) (v1.Image, error) {
	r := mutate.Extract(img)
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }, tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	return configured(empty.Image, recipe{Config: v1.Config{Env: []string{searchPath}, Cmd: []string{"sh"}}}, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: "all in one"}})
}

// bigVersion changes with the code that makes Big.
const bigVersion = 1

// A bulk is a layer of made-up files.
type bulk struct {
	Files int
	Bytes int64
}

// bigLayers lists the layers of [Big] above busybox's: in all 26,000 files and 700 MB, as an application's image has
// on a distribution's. Most files are small, and a few hold most of the bytes.
func bigLayers() []bulk {
	return []bulk{{9000, 180e6}, {7000, 220e6}, {6000, 160e6}, {4000, 138e6}}
}

func big(work string) (v1.Image, error) {
	base, err := busybox()
	if err != nil {
		return nil, err
	}
	var layers []mutate.Addendum
	for n, b := range bigLayers() {
		layer, err := b.layer(uint64(n+1), filepath.Join(work, fmt.Sprint(n, ".tar.gz")))
		if err != nil {
			return nil, err
		}
		layers = append(layers, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: fmt.Sprint("made-up files ", n+1)}})
	}
	return configured(base, recipe{Config: v1.Config{Env: []string{searchPath}, Cmd: []string{"sh"}}}, layers...)
}

// layer writes the files of b into a compressed tar. Of each file half can be compressed.
func (b bulk) layer(seed uint64, file string) (v1.Layer, error) {
	out, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	buffered := bufio.NewWriterSize(out, 1<<20)
	z, err := gzip.NewWriterLevel(buffered, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(z)
	random := rand.NewChaCha8([32]byte{byte(seed)})
	dice := rand.New(random)
	const few = 100 // files that share what the small ones leave
	left := b.Bytes
	for i := range b.Files {
		size := int64(dice.ExpFloat64() * 6000)
		if more := b.Files - i; more <= few {
			size = left / int64(more)
		}
		left -= size
		h := &tar.Header{Name: fmt.Sprintf("srv/%d/%03d/%05d", seed, i/50, i), Typeflag: tar.TypeReg, Mode: 0o644, Size: size, ModTime: time.Unix(1767225600, 0)}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := io.CopyN(w, random, size/2); err != nil {
			return nil, err
		}
		if _, err := io.CopyN(w, zeros{}, size-size/2); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(w.Close(), z.Close(), buffered.Flush(), out.Close()); err != nil {
		return nil, err
	}
	return tarball.LayerFromFile(file)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
