package image

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/internal/testimage"
)

// need skips a test without other people's programs.
func need(t testing.TB, programs ...string) {
	t.Helper()
	nstest.Root(t)
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s", p)
		}
	}
}

// tool runs one of them, away from the user's files, and gives what it prints.
func tool(t testing.TB, line string, args ...any) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	line = fmt.Sprintf(line, args...)
	// These write to /var/tmp whatever they are told.
	c := exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "private", "sh", "-c", "mount -t tmpfs -o mode=1777 tmpfs /var/tmp && { "+line+"\n}")
	home := filepath.Join("/tmp", "home-"+strings.ReplaceAll(t.Name(), "/", "-"))
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	c.Env = append(os.Environ(), "HOME="+home, "TMPDIR="+home, "XDG_RUNTIME_DIR="+home, "STORAGE_DRIVER=vfs", "BUILDAH_ISOLATION=chroot", "CONTAINERS_REGISTRIES_CONF=/dev/null")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// sample is a store with an image of a busybox, as it comes from a registry.
func sample(t testing.TB, kind string, docker bool) (*Store, Image) {
	t.Helper()
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs busybox (Debian: package busybox-static)")
	}
	f := newFixture()
	f.tags["latest"] = f.image(Host(), kind, docker, tarOf(map[string]string{"bin/busybox": string(program)}), tarOf(map[string]string{"etc/motd": "hello\n"}))
	k := serve(t, f)
	s := newStore(t, &Settings{KeepBlobs: true})
	copyTo(t, s, k.host+"/busybox", "localhost/sample:1", PullOptions{})
	if _, err := s.Remove(t.Context(), k.host+"/busybox", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	img, err := s.Get("localhost/sample:1", Platform{})
	if err != nil {
		t.Fatal(err)
	}
	return s, img
}

// saveTo writes an archive into a file.
func saveTo(t testing.TB, s *Store, format string, refs ...string) string {
	t.Helper()
	name := filepath.Join(nstest.Dir(t), format+".tar")
	if err := os.WriteFile(name, saved(t, s, SaveOptions{Format: format}, refs...), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// loadFrom loads an archive that somebody else wrote, and checks that it is the image.
func loadFrom(t testing.TB, file string, want Image, ref string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := newStore(t, nil)
	list, err := s.Load(t.Context(), f, LoadOptions{})
	if err != nil || len(list) != 1 {
		t.Fatalf("%s: %v %v", file, list, err)
	}
	got := list[0].Image
	if fmt.Sprint(got.Chain()) != fmt.Sprint(want.Chain()) || len(s.missing(got)) > 0 {
		t.Errorf("%s: %v, want %v", file, got.Chain(), want.Chain())
	}
	if ref != "" {
		if _, err := s.Get(ref, Platform{}); err != nil {
			t.Errorf("%s: %v: %v", file, err, got.Names)
		}
	}
}

// TestSkopeo: skopeo reads what we save, and the store itself; we read what it writes.
func TestSkopeo(t *testing.T) {
	need(t, "skopeo")
	for _, kind := range []string{"gzip", "zstd"} {
		s, img := sample(t, kind, false)
		dir := nstest.Dir(t)
		const copy = "skopeo copy --insecure-policy "
		tool(t, copy+"docker-archive:%s oci:%s/from-docker:x", saveTo(t, s, DockerArchive, "localhost/sample:1"), dir)
		oci := saveTo(t, s, OCIArchive, "localhost/sample:1")
		if kind == "gzip" {
			if got := tool(t, "skopeo inspect --insecure-policy --raw oci-archive:%s | sha256sum", oci); !strings.HasPrefix(got, img.Manifest.Digest.Encoded()) {
				t.Errorf("%s, want %s", got, img.Manifest.Digest)
			}
			tool(t, copy+"oci-archive:%s dir:%s/dir", oci, dir)
			tool(t, copy+"oci-archive:%s docker-archive:%s/d.tar:localhost/their:2", oci, dir)
			tool(t, copy+"oci-archive:%s oci-archive:%s/o.tar:localhost/their:2", oci, dir)
			tool(t, copy+"oci-archive:%s oci:%s/layout:tag", oci, dir)
			loadFrom(t, dir+"/d.tar", img, "localhost/their:2")
			loadFrom(t, dir+"/o.tar", img, "localhost/their:2")
		}
		// The store itself, which has the blobs where settings say so: see sample.
		tool(t, copy+"oci:%s:localhost/sample:1 dir:%s/store", s.dir, dir)
		if got := tool(t, "skopeo inspect --insecure-policy --raw oci:%s:localhost/sample:1 | sha256sum", s.dir); !strings.HasPrefix(got, img.Manifest.Digest.Encoded()) {
			t.Errorf("%s, want %s", got, img.Manifest.Digest)
		}
	}
}

// TestUmoci: umoci unpacks what we save; we load the layout that it makes.
func TestUmoci(t *testing.T) {
	need(t, "umoci")
	s, _ := sample(t, "gzip", false)
	dir := nstest.Dir(t)
	if err := s.SaveDir(t.Context(), dir+"/layout", []string{"localhost/sample:1"}, SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	tool(t, "umoci unpack --image %s/layout:1 %s/bundle && test -s %s/bundle/rootfs/bin/busybox && grep -q hello %s/bundle/rootfs/etc/motd", dir, dir, dir, dir)
	tool(t, "echo more >%s/more && umoci insert --image %s/layout:1 --tag 2 %s/more /etc/more", dir, dir, dir)
	root, err := os.Open(dir + "/layout")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	to := newStore(t, nil)
	list, err := to.LoadDir(t.Context(), root, LoadOptions{})
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	for _, l := range list {
		if n := len(l.Image.Chain()); n != 2 && n != 3 || len(to.missing(l.Image)) > 0 {
			t.Errorf("%d layers", n)
		}
	}
}

// TestPodman: podman and buildah load what we save, and run it the same; we load what they save.
func TestPodman(t *testing.T) {
	for _, program := range []string{"podman", "buildah"} {
		t.Run(program, func(t *testing.T) {
			need(t, program)
			s, img := sample(t, "gzip", true)
			dir := nstest.Dir(t)
			conf := dir + "/containers.conf" // netavark, where it is installed, has its locks beside the networks, which are in /etc by themselves
			if err := os.WriteFile(conf, fmt.Appendf(nil, "[network]\nnetwork_config_dir = %q\n", dir+"/networks"), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("CONTAINERS_CONF", conf)
			p := fmt.Sprintf("%s --root %s/root --runroot %s/run --storage-driver vfs", program, dir, dir)
			for _, format := range []string{DockerArchive, OCIArchive} {
				file := saveTo(t, s, format, "localhost/sample:1")
				load := " pull " + format + ":"
				if program == "podman" {
					load = " load -i "
				}
				tool(t, "%s%s%s", p, load, file)
				id := strings.TrimSpace(tool(t, "%s images -q --no-trunc localhost/sample:1", p))
				if id != img.ID.String() {
					t.Errorf("%s: %s, want %s", format, id, img.ID)
				}
				theirs := fmt.Sprintf("%s/%s", dir, format)
				if program == "podman" {
					tool(t, "%s save --format %s -o %s localhost/sample:1", p, format, theirs)
				} else {
					tool(t, "%s push localhost/sample:1 %s:%s:localhost/sample:1", p, format, theirs)
				}
				loadFrom(t, theirs, img, "localhost/sample:1")
				tool(t, "%s rmi localhost/sample:1", p)
			}
		})
	}
}

// TestDocker: a daemon of Docker's loads what we save, several images with layers in common too; we load what it saves.
func TestDocker(t *testing.T) {
	need(t, "dockerd", "docker")
	s, img := sample(t, "gzip", true)
	if err := s.Tag(t.Context(), "localhost/sample:1", "localhost/sample:2"); err != nil {
		t.Fatal(err)
	}
	extra, err := s.Compose(t.Context(), &img, img.Config, NewLayer{CreatedBy: "nothing"}, "localhost/other:1")
	if err != nil {
		t.Fatal(err)
	}
	dir := nstest.Dir(t)
	// In a mount namespace, which takes what it mounts away.
	c := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`for d in /run /var/tmp /var/lib /etc/docker; do [ ! -d $d ] || mount -t tmpfs -o mode=755 tmpfs $d || exit; done; exec dockerd "$@"`, "dockerd", "--data-root", dir+"/root", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "-H", "unix://"+dir+"/sock",
		"--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false", "--storage-driver", "vfs")
	words, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer words.Close()
	c.Stdout, c.Stderr = words, words
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(os.Interrupt)
		timer := time.AfterFunc(time.Minute, func() { c.Process.Kill() })
		defer timer.Stop()
		_ = c.Wait()
	})
	docker := "docker -H unix://" + dir + "/sock"
	tool(t, "for i in $(seq 300); do %s version >/dev/null 2>&1 && exit 0; sleep 0.1; done; cat %s/log; exit 1", docker, dir)
	file := saveTo(t, s, DockerArchive, "localhost/sample", "localhost/other:1")
	out := tool(t, "%s load -i %s", docker, file)
	for _, name := range []string{"localhost/sample:1", "localhost/sample:2", "localhost/other:1"} {
		if !strings.Contains(out, "Loaded image: "+name) {
			t.Errorf("%s: %s", name, out)
		}
	}
	if got := tool(t, "%s images -q --no-trunc localhost/sample:2; %s images -q --no-trunc localhost/other:1", docker, docker); got != img.ID.String()+"\n"+extra.ID.String()+"\n" {
		t.Errorf("ids %s", got)
	}
	tool(t, "%s save -o %s/theirs.tar localhost/sample:1", docker, dir)
	loadFrom(t, dir+"/theirs.tar", img, "localhost/sample:1")
	tool(t, "%s save localhost/sample:1 | gzip -1 >%s/theirs.tgz", docker, dir)
	loadFrom(t, dir+"/theirs.tgz", img, "localhost/sample:1")
}

// TestDebianRegistry: the registry that most run, with TLS by a CA of its own and a password: login, push, pull, all platforms, a layer taken
// from another repository.
func TestDebianRegistry(t *testing.T) {
	need(t, "docker-registry")
	testimage.Loopback(t)
	dir := nstest.Dir(t)
	cert, key := certificate(t, dir)
	const hash = "$2a$04$xP59zHjjxViVA4tD/Lm.xOngnLBSshB3GzD3J/qD9awiy2aC4UEqe" // bcrypt of secret
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	config := fmt.Sprintf(`version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: %s/data}}
http: {addr: "%s", tls: {certificate: %s, key: %s}}
auth: {htpasswd: {realm: here, path: %s/users}}
`, dir, addr, cert, key, dir)
	for name, text := range map[string]string{"config.yml": config, "users": "user:" + hash + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var words bytes.Buffer
	c := exec.Command("docker-registry", "serve", dir+"/config.yml")
	c.Stdout, c.Stderr = &words, &words
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); _ = c.Wait() })
	nstest.Until(t, "the registry answers", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	_, port, _ := net.SplitHostPort(addr)
	host := "registry.example:" + port
	open := func() *Store {
		s := newStore(t, &Settings{Registries: map[string]Registry{host: {CA: cert}}})
		s.net.dial = func(address string) string {
			if strings.HasPrefix(address, "registry.example:") {
				return addr
			}
			return address
		}
		return s
	}
	f := newFixture()
	tars := layersOf(3)
	f.tags["latest"] = f.index(false, f.image(Host(), "gzip", false, tars...), f.image(other, "gzip", false, tars[1]))
	k := serve(t, f)
	s := open()
	copyTo(t, s, k.host+"/a", host+"/first:1", PullOptions{AllPlatforms: true})
	if _, err := s.Push(t.Context(), host+"/first:1", PushOptions{}); err == nil {
		t.Error("pushed without a password")
	}
	if _, err := s.Login(t.Context(), host, Credentials{Username: "user", Password: "wrong"}); err == nil {
		t.Error("a wrong password was taken")
	}
	if _, err := s.Login(t.Context(), host, Credentials{Username: "user", Password: secret}); err != nil {
		t.Fatal(err)
	}
	if d, err := s.Push(t.Context(), host+"/first:1", PushOptions{}); err != nil || d != f.tags["latest"].Digest {
		t.Fatal(d, err)
	}
	if err := s.Tag(t.Context(), host+"/first:1", host+"/team/second:1"); err != nil {
		t.Fatal(err)
	}
	var mounted int
	if _, err := s.Push(t.Context(), host+"/team/second:1", PushOptions{Progress: func(e Event) {
		if e.Status == "Mounted from first" {
			mounted++
		}
	}}); err != nil || mounted != 3 { // the layer of both platforms once
		t.Errorf("%d mounted, %v", mounted, err)
	}
	to := open()
	if _, err := to.Pull(t.Context(), host+"/team/second:1", PullOptions{}); err == nil {
		t.Error("pulled without a password")
	}
	given := &Credentials{Username: "user", Password: secret}
	img, err := to.Pull(t.Context(), host+"/team/second:1", PullOptions{Credentials: given})
	if err != nil || img.Target.Digest != f.tags["latest"].Digest || len(to.missing(img)) > 0 {
		t.Fatal(img.Target, err)
	}
	if tags, err := to.tags(t.Context(), host+"/first", given); err != nil || fmt.Sprint(tags) != "[1]" {
		t.Error(tags, err)
	}
	if _, err := to.Pull(t.Context(), host+"/first:none", PullOptions{Credentials: given}); err == nil || !strings.Contains(err.Error(), "manifest unknown") {
		t.Error(err)
	}
}

// certificate makes one for registry.example, signed by itself.
func certificate(t testing.TB, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "registry.example"}, DNSNames: []string{"registry.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
