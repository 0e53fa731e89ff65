package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// An archive is one suite of Debian for one architecture, read by apt with lists,
// cache and package status of its own.
type archive struct {
	arch string
	dir  string // of apt's state
	args []string
}

// openArchive prepares dir for a suite and fetches its lists.
func openArchive(o options, suite string) (*archive, error) {
	a := &archive{arch: o.Arch, dir: filepath.Join(o.Cache, "apt", suite+"-"+o.Arch)}
	for _, d := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	line, err := source(o.Mirror, suite)
	if err != nil {
		return nil, err
	}
	for name, text := range map[string]string{"sources.list": line, "status": ""} {
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	for _, opt := range []string{
		"Dir::Etc::sourcelist=" + a.dir + "/sources.list", "Dir::Etc::sourceparts=-",
		"Dir::State=" + a.dir + "/state", "Dir::State::status=" + a.dir + "/status", "Dir::Cache=" + a.dir + "/cache",
		"APT::Architecture=" + a.arch, "APT::Architectures=" + a.arch,
		"Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false", "Acquire::Languages=none",
		// The user _apt need not reach the cache directory.
		"APT::Sandbox::User=root", "Debug::NoLocking=true",
		"Acquire::Retries=3", "Acquire::http::Timeout=30", "Acquire::https::Timeout=30",
	} {
		a.args = append(a.args, "-o", opt)
	}
	return a, online(func() error {
		_, err := output("apt-get", append(a.args, "--error-on=any", "-q", "update")...)
		return err
	})
}

// online does what needs the archive, and does it again when it fails: a mirror may be away for a moment.
func online(do func() error) error {
	err := do()
	for _, wait := range waits() {
		if err == nil {
			return nil
		}
		fmt.Printf("once more in %v: %v\n", wait, err)
		time.Sleep(wait)
		err = do()
	}
	if err != nil {
		return fmt.Errorf("the archive of Debian cannot be had, or not this of it (another mirror: -mirror URL): %w", err)
	}
	return nil
}

func waits() []time.Duration { return []time.Duration{5 * time.Second, 30 * time.Second} }

// source gives the line of sources.list for a suite: of the machine's own Debian
// archive, which may be a mirror.
func source(mirror, suite string) (string, error) {
	if mirror == "" {
		out, err := output("apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(COMPONENT) $(RELEASE)", "Created-By: Packages")
		if err != nil {
			return "", err
		}
		if mirror = debianOf(string(out)); mirror == "" {
			return "", errors.New("apt's sources hold no archive of Debian's (apt-get update may be due): name one with -mirror")
		}
	}
	signed := ""
	if ring := "/usr/share/keyrings/debian-archive-keyring.gpg"; fileExists(ring) {
		signed = "[signed-by=" + ring + "] "
	}
	return fmt.Sprintf("deb %s%s %s main\n", signed, mirror, suite), nil
}

// debianOf finds Debian's archive in the index targets of apt. The archive of security
// updates has suites of the same origin, but only those named RELEASE-security.
func debianOf(targets string) string {
	for line := range strings.Lines(targets) {
		f := strings.Fields(line)
		if len(f) == 4 && f[1] == "Debian" && f[2] == "main" && !strings.Contains(f[3], "-") && !strings.Contains(f[3], "/") {
			return f[0]
		}
	}
	return ""
}

// depends lists what a package depends on, first alternatives only.
func (a *archive) depends(pkg string) ([]string, error) {
	out, err := output("apt-cache", append(a.args, "depends", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", pkg)...)
	if err != nil {
		return nil, err
	}
	return firstDepends(string(out)), nil
}

func firstDepends(text string) []string {
	var list []string
	alternative := false
	for line := range strings.Lines(text) {
		kind, name, found := strings.Cut(strings.TrimSpace(line), "epends: ")
		if !found {
			continue
		}
		if !alternative {
			list = append(list, strings.Trim(name, "<>"))
		}
		alternative = strings.HasPrefix(kind, "|")
	}
	return list
}

// download puts packages into dir, and no dependency of theirs.
func (a *archive) download(dir string, pkgs ...string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return online(func() error {
		c := exec.Command("apt-get", append(slices.Concat(a.args, []string{"-q", "download"}), pkgs...)...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get download: %w: %s", err, out)
		}
		return nil
	})
}

// gather downloads packages with all that they depend on, and gives the files.
func (a *archive) gather(pkgs ...string) ([]string, error) {
	archives := filepath.Join(a.dir, "cache/archives")
	if err := errors.Join(os.RemoveAll(archives), os.MkdirAll(archives+"/partial", 0o755)); err != nil {
		return nil, err
	}
	err := online(func() error {
		_, err := output("apt-get", append(slices.Concat(a.args, []string{"-q", "-y", "--no-install-recommends", "--download-only", "install"}), pkgs...)...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return filepath.Glob(archives + "/*.deb")
}

// unpack lays a package's files below dir. Owners and modes are kept as far as this
// user may; a directory that is a link already (/bin) stays one.
func unpack(deb, dir string) error {
	src := exec.Command("dpkg-deb", "--fsys-tarfile", deb)
	pipe, err := src.StdoutPipe()
	if err != nil {
		return err
	}
	var errs strings.Builder
	dst := exec.Command("tar", "-x", "--keep-directory-symlink", "--preserve-permissions", "-C", dir)
	src.Stderr, dst.Stderr, dst.Stdin = &errs, &errs, pipe
	if err := src.Start(); err != nil {
		return err
	}
	if err := errors.Join(dst.Run(), src.Wait()); err != nil {
		return fmt.Errorf("unpack %s: %w: %s", filepath.Base(deb), err, errs.String())
	}
	return nil
}

func fileExists(p string) bool {
	_, err := os.Stat(p)
	return err == nil
}

// fresh makes what dir is to hold by fill, in a directory beside it that takes its name
// in the end, so that dir is whole or not there. What is there already stays, unless update.
func fresh(dir string, update bool, fill func(dir string) error) error {
	if fileExists(dir) && !update {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := fill(tmp); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}
