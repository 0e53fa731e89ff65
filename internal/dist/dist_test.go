package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"debug/buildinfo"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
)

// A build that is ended leaves neither files of its own nor half a package.
func TestDistEnds(t *testing.T) {
	tmp, to := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- dist(ctx, "../..", to, runtime.GOARCH) }()
	nstest.Until(t, "that it builds", func() bool {
		made, _ := filepath.Glob(filepath.Join(tmp, "kakuri-dist-*"))
		return len(made) > 0
	})
	stop()
	if err := <-ended; err == nil {
		t.Error("no error")
	}
	// The go command has a directory of its own, which it leaves where it is ended in its first moment.
	for _, of := range []string{tmp + "/kakuri-dist-*", to + "/*"} {
		if left, err := filepath.Glob(of); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
}

// dpkg reads the package, and what it installs is what the source has and runs; a
// second build gives the same bytes.
func TestDist(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	for _, dir := range dirs {
		if err := dist(t.Context(), "../..", dir, runtime.GOARCH); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(dirs[0])
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v; want a package and a tarball", files, err)
	}
	var deb, tarball string
	for _, f := range files {
		one, err := os.ReadFile(filepath.Join(dirs[0], f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if two, err := os.ReadFile(filepath.Join(dirs[1], f.Name())); err != nil || !bytes.Equal(one, two) {
			t.Errorf("%s: a second build differs, or is not there: %v", f.Name(), err)
		}
		if strings.HasSuffix(f.Name(), ".deb") {
			deb = filepath.Join(dirs[0], f.Name())
		} else {
			tarball = filepath.Join(dirs[0], f.Name())
		}
	}
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	if got := run("dpkg-deb", "--field", deb, "Package", "Architecture", "Version"); !regexp.MustCompile(`^Package: kakuri\nArchitecture: ` + runtime.GOARCH + `\nVersion: \d[0-9.~a-z]*\n$`).MatchString(got) {
		t.Errorf("fields: %q", got)
	}
	list := run("dpkg-deb", "--contents", deb)
	for _, want := range []string{
		`-rwxr-xr-x root/root +\d+ [-0-9: ]+ \./usr/bin/kakuri\n`, `-rwxr-xr-x root/root +\d+ [-0-9: ]+ \./usr/bin/kakuri-runtime\n`, `-rwxr-xr-x root/root +\d+ [-0-9: ]+ \./usr/bin/kakuri-uplink\n`,
		`\./usr/share/man/man1/kakuri-run\.1\.gz\n`, `\./usr/share/man/man8/kakuri-runtime\.8\.gz\n`, `\./usr/share/man/man8/kakuri-uplink\.8\.gz\n`, `\./usr/share/bash-completion/completions/kakuri\n`,
		`\./usr/share/zsh/vendor-completions/_kakuri\n`, `\./usr/share/fish/vendor_completions\.d/kakuri\.fish\n`, `\./usr/share/doc/kakuri/copyright\n`, `\./usr/share/doc/kakuri/changelog\.gz\n`,
		`\./usr/share/doc/kakuri/README\.ja\.md\n`, `\./usr/share/doc/kakuri/docs/networks\.md\n`, `-rwxr-xr-x root/root +\d+ [-0-9: ]+ \./usr/share/doc/kakuri/examples/two-networks\.sh\n`,
	} {
		if !regexp.MustCompile(want).MatchString(list) {
			t.Errorf("the package has no %s:\n%s", want, list)
		}
	}
	units, err := filepath.Glob("../../systemd/*/*.service")
	if err != nil || len(units) == 0 {
		t.Fatalf("no units: %v", err)
	}
	for _, u := range units {
		if !strings.Contains(list, " ./usr/lib/"+strings.TrimPrefix(u, "../../")+"\n") {
			t.Errorf("the package has no unit %s", u)
		}
	}
	root, unpacked := t.TempDir(), t.TempDir()
	run("dpkg-deb", "--raw-extract", deb, root)
	run("tar", "-xzf", tarball, "-C", unpacked, "--strip-components=1")
	sums := exec.Command("md5sum", "--check", "--quiet", "DEBIAN/md5sums")
	sums.Dir = root
	if out, err := sums.CombinedOutput(); err != nil {
		t.Errorf("md5sums: %v\n%s", err, out)
	}
	for _, program := range []string{filepath.Join(root, "usr/bin/kakuri"), filepath.Join(unpacked, "bin/kakuri")} {
		if out := run(program, "--version"); !strings.HasPrefix(out, "kakuri ") {
			t.Errorf("%s --version: %q", program, out)
		}
	}
	for _, name := range []string{"share/man/man1/kakuri.1.gz", "share/zsh/site-functions/_kakuri", "share/doc/kakuri/README.md", "share/doc/kakuri/CHANGELOG.md", "share/doc/kakuri/LICENSE", "share/kakuri/apparmor/kakuri", "lib/systemd/system/kakuri.service"} {
		if _, err := os.Stat(filepath.Join(unpacked, name)); err != nil {
			t.Errorf("the tarball has no %s: %v", name, err)
		}
	}
	others, err := os.ReadFile(filepath.Join(unpacked, "share/doc/kakuri/THIRD-PARTY-NOTICES"))
	if err != nil {
		t.Error(err)
	}
	for _, program := range programs {
		info, err := buildinfo.ReadFile(filepath.Join(unpacked, "bin", filepath.Base(program)))
		if err != nil || len(info.Deps) == 0 {
			t.Fatalf("%s links %+v, %v", program, info, err)
		}
		for _, m := range info.Deps {
			if !bytes.Contains(others, []byte("==\n"+m.Path+" "+m.Version+"\n--")) {
				t.Errorf("%s links %s, whose terms are not there", program, m.Path)
			}
		}
	}
	for _, u := range units { // either may be below /usr/local, too
		text, err := os.ReadFile(u)
		if err != nil || !strings.Contains(string(text), "\nExecStart=kakuri ") {
			t.Errorf("%s does not leave it to systemd where kakuri is: %v", u, err)
		}
	}
	for _, s := range []string{"postinst", "prerm", "postrm"} {
		script := filepath.Join(root, "DEBIAN", s)
		if _, err := os.Stat(script); err == nil {
			run("sh", "-n", script)
		} else if len(units) > 0 {
			t.Errorf("there are units, and no %s", s)
		}
	}
	run("bash", "-n", filepath.Join(root, "usr/share/bash-completion/completions/kakuri"))
}

// A package has Debian's forms of the license and of the changelog, in the place of the source's.
func TestDebian(t *testing.T) {
	list, err := debian([]File{{"usr/share/doc/kakuri/LICENSE", 0o644, nil}, {"usr/share/doc/kakuri/CHANGELOG.md", 0o644, nil}}, "1.0~dev", time.Unix(1e9, 0).UTC())
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range list {
		files[strings.TrimPrefix(f.Name, "usr/share/")] = string(f.Data)
	}
	if _, full := files["doc/kakuri/LICENSE"]; full || len(files) != 4 {
		t.Errorf("%d files: %v", len(files), files)
	}
	if text := files["doc/kakuri/copyright"]; !strings.HasPrefix(text, "Format: https://") || !strings.Contains(text, "\nCopyright: 2001 The") || !strings.Contains(text, "/usr/share/common-licenses/Apache-2.0") {
		t.Errorf("copyright: %q", text)
	}
	z, err := gzip.NewReader(strings.NewReader(files["doc/kakuri/changelog.gz"]))
	if err != nil {
		t.Fatal(err)
	}
	const want = "kakuri (1.0~dev) unstable; urgency=medium\n\n  * CHANGELOG.md has what is new.\n\n -- " + maintainer + "  Sun, 09 Sep 2001 01:46:40 +0000\n"
	if got, err := io.ReadAll(z); err != nil || string(got) != want {
		t.Errorf("changelog: %q, %v", got, err)
	}
}

// What the machine starts is enabled; a template of units cannot be.
func TestScripts(t *testing.T) {
	files := []File{
		{units + "a.service", 0o644, []byte("[Unit]\n[Install]\nWantedBy=multi-user.target\n")},
		{units + "b@.service", 0o644, []byte("[Unit]\n[Install]\n")},
		{units + "c.service", 0o644, []byte("[Unit]\n")},
		{"usr/bin/kakuri", 0o755, nil},
	}
	list := scripts(files)
	if len(list) != 3 || !strings.Contains(string(list[0].Data), "systemctl enable a.service ||") {
		t.Errorf("%+v", list)
	}
	if got := scripts(files[1:]); got != nil {
		t.Errorf("nothing to start: %+v", got)
	}
	data, err := Deb(control("1", "amd64"), list, files, time.Unix(1e9, 0))
	if err != nil || !bytes.HasPrefix(data, []byte("!<arch>\ndebian-binary   1000000000  0     0     100644  4         `\n2.0\ncontrol.tar.gz  ")) {
		t.Errorf("%.80q, %v", data, err)
	}
}

// TestTerms: of each module those at its top, and of the directories on the way to packages that are linked; one without any is an error.
func TestTerms(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a/LICENSE": "terms of a\n", "a/NOTICE.txt": "a notice\n", "a/license.go": "package a", "a/in/in/COPYING": "terms of in\n", "a/other/LICENSE": "of what is not linked\n",
		"b/README": "text", "c/Licence.md": "terms of c\n", "LICENSE": "above all",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	of := func(module, at string) linked {
		return linked{module + " v1", filepath.Join(dir, module), filepath.Join(dir, module, at)}
	}
	double, single := strings.Repeat("=", 78), strings.Repeat("-", 78)
	want := "\n" + double + "\na v1\n" + single + "\n\nterms of a\n" + single + "\n\na notice\n" + single + "\n\nterms of in\n\n" + double + "\nc v1\n" + single + "\n\nterms of c\n"
	got, err := terms([]linked{of("c", "."), of("a", "in/in"), of("a", "."), of("a", "in")})
	if _, text, _ := strings.Cut(string(got), "\n"); err != nil || text != want {
		t.Errorf("%v:\n%s", err, got)
	}
	if _, err := terms([]linked{of("a", "."), of("b", ".")}); err == nil || !strings.HasPrefix(err.Error(), "b v1: ") {
		t.Errorf("a module without terms: %v", err)
	}
}
