package testimage

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// Registry serves images, by their names without a host ("library/nginx:1"), until the test ends. It is go-containerregistry's registry,
// which keeps all in memory. The address is HOST:PORT of the loopback, plain HTTP.
func Registry(t testing.TB, images map[string]v1.Image) string {
	t.Helper()
	Loopback(t)
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "http://")
	Push(t, host, images)
	return host
}

// DebianRegistry does as [Registry], with the registry of Debian's package docker-registry. A test without it is skipped.
func DebianRegistry(t testing.TB, images map[string]v1.Image) string {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("needs docker-registry (Debian: package docker-registry)")
	}
	Loopback(t)
	dir := nstest.Dir(t)
	host := freePort(t)
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/data}, delete: {enabled: true}}\nhttp: {addr: %s}\n", dir, host)
	if err := os.WriteFile(dir+"/config.yml", []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	words, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer words.Close()
	c := exec.Command(program, "serve", dir+"/config.yml")
	c.Stdout, c.Stderr = words, words
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	if err := answers("http://" + host + "/v2/"); err != nil {
		said, _ := os.ReadFile(words.Name())
		t.Fatalf("docker-registry: %v\n%s", err, said)
	}
	Push(t, host, images)
	return host
}

// Push writes images to a registry.
func Push(t testing.TB, host string, images map[string]v1.Image) {
	t.Helper()
	for ref, img := range images {
		to, err := name.ParseReference(host+"/"+ref, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(to, img); err != nil {
			t.Fatalf("push %s: %v", ref, err)
		}
	}
}

// answers waits, for half a minute, until a server takes requests.
func answers(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			http.DefaultClient.CloseIdleConnections()
			return resp.Body.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
		time.Sleep(20 * time.Millisecond) // nothing tells that a port is listened at
	}
}

// freePort finds an address that nobody listens at. The namespace is the test's own: nobody takes it meanwhile.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Loopback has the loopback interface up, which in a new network namespace it is not.
func Loopback(t testing.TB) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		t.Fatal(err)
	}
	if ifr.Uint16()&unix.IFF_UP != 0 {
		return
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		t.Fatalf("the loopback interface cannot be brought up: %v", err)
	}
}

// DockerArchive writes an image as docker save does, under the reference given, and returns the file.
func DockerArchive(t testing.TB, ref string, img v1.Image) string {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(nstest.Dir(t), "docker.tar")
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		t.Fatal(err)
	}
	return file
}

// OCIArchive writes an image as a tar of an OCI image layout, under the reference given, and returns the file.
func OCIArchive(t testing.TB, ref string, img v1.Image) string {
	t.Helper()
	dir := nstest.Dir(t)
	p, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": ref})); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "oci.tar")
	if err := pack(string(p), file); err != nil {
		t.Fatal(err)
	}
	return file
}

// pack makes a tar of a directory.
func pack(dir, file string) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	if err := w.AddFS(os.DirFS(dir).(fs.ReadLinkFS)); err != nil {
		return err
	}
	return errors.Join(w.Close(), out.Close())
}
