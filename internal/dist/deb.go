package main

import (
	"archive/tar"
	"bytes"
	"crypto/md5"
	"fmt"
	"slices"
	"strings"
	"time"
)

// control is what dpkg has to know of the package: deb-control(5).
func control(version, arch string) string {
	return fmt.Sprintf(`Package: kakuri
Version: %s
Architecture: %s
Maintainer: %s
Section: admin
Priority: optional
Recommends: uidmap
Suggests: criu, fuse-overlayfs, bash-completion
Homepage: https://github.com/kakuri/kakuri
Description: container engine that shows how containers work
 kakuri runs containers with Docker's words, without a daemon, and shows each as
 the list of kernel operations that it is. kakuri-runtime is an OCI runtime.
 Both are static programs.
`, version, arch, maintainer)
}

const maintainer = "The kakuri authors <kakuri@users.noreply.github.com>"

// debian are the files as a Debian package has them: with its license by the name that each Debian has it under, a changelog of the form that Debian's
// programs read, and what its lintian(1) is told of.
func debian(files []File, version string, when time.Time) ([]File, error) {
	changes, err := zipped(fmt.Appendf(nil, "kakuri (%s) unstable; urgency=medium\n\n  * CHANGELOG.md has what is new.\n\n -- %s  %s\n", version, maintainer, when.Format(time.RFC1123Z)))
	if err != nil {
		return nil, err
	}
	const doc = "usr/share/doc/kakuri/"
	list := slices.DeleteFunc(slices.Clone(files), func(f File) bool { return f.Name == doc+"LICENSE" })
	return append(list, File{doc + "changelog.gz", 0o644, changes}, File{doc + "copyright", 0o644, fmt.Appendf(nil, `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: kakuri
Source: https://github.com/kakuri/kakuri
Comment: The programs have code of others in them, whose terms are in
 /usr/share/doc/kakuri/THIRD-PARTY-NOTICES.

Files: *
Copyright: %d The kakuri authors
License: Apache-2.0
 On Debian systems the text of the Apache License, version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
`, when.Year())}, File{"usr/share/lintian/overrides/kakuri", 0o644, []byte(`# They have to run in any root file system, and with any C library or none.
kakuri: statically-linked-binary *
# Units are enabled where there is a systemctl; nothing of debhelper is needed for that.
kakuri: maintainer-script-calls-systemctl *
# It is among the names that the image host hides or shows; kakuri does not read it.
kakuri: uses-dpkg-database-directly *
`)}), nil
}

// scripts are run by dpkg. They tell systemd, where it runs, of the units, and AppArmor of the profile, where the kernel wants one for user namespaces: a
// parser of before that does not know what it says.
func scripts(files []File) []File {
	names := strings.Join(unitNames(files), " ")
	if names == "" {
		return nil
	}
	script := strings.NewReplacer("UNITS", names, "SHIPPED", "/"+profile, "PROFILE", "/etc/apparmor.d/kakuri", "WANTED", "[ -e /proc/sys/kernel/apparmor_restrict_unprivileged_userns ]").Replace
	const reload = `if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
`
	return []File{
		{"postinst", 0o755, []byte(script(`#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
if WANTED && [ -x "$(command -v apparmor_parser)" ]; then
	cp SHIPPED PROFILE
	apparmor_parser --replace --write-cache PROFILE || true
fi
if [ -x "$(command -v systemctl)" ]; then
	systemctl enable UNITS || true
fi
` + reload))},
		{"prerm", 0o755, []byte(script(`#!/bin/sh
set -e
[ "$1" = remove ] || exit 0
if [ -x "$(command -v systemctl)" ]; then
	systemctl disable UNITS || true
fi
if [ -e PROFILE ]; then
	apparmor_parser --remove PROFILE || true
	rm -f PROFILE
fi
`))},
		{"postrm", 0o755, []byte("#!/bin/sh\nset -e\n" + reload)},
	}
}

// Deb makes a package of the files, and of the scripts that are run around them.
func Deb(control string, scripts, files []File, when time.Time) ([]byte, error) {
	var sums strings.Builder
	size := 0
	for _, f := range files {
		fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(f.Data), f.Name)
		size += (len(f.Data) + 1023) / 1024
	}
	head, rest, _ := strings.Cut(control, "Homepage:")
	control = fmt.Sprintf("%sInstalled-Size: %d\nHomepage:%s", head, size, rest)
	meta := append([]File{{"control", 0o644, []byte(control)}, {"md5sums", 0o644, []byte(sums.String())}}, scripts...)
	first, err := tarred("./", meta, when)
	if err != nil {
		return nil, err
	}
	second, err := tarred("./", files, when)
	if err != nil {
		return nil, err
	}
	b := bytes.NewBufferString("!<arch>\n")
	for _, m := range []File{{"debian-binary", 0, []byte("2.0\n")}, {"control.tar.gz", 0, first}, {"data.tar.gz", 0, second}} {
		fmt.Fprintf(b, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.Name, when.Unix(), 0, 0, 0o100644, len(m.Data))
		b.Write(m.Data)
		if len(m.Data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes(), nil
}

// Tarball has the files without usr/, below a directory of the name given.
func Tarball(name string, files []File, when time.Time) ([]byte, error) {
	list := slices.Clone(files)
	for i := range list {
		list[i].Name = strings.TrimPrefix(list[i].Name, "usr/")
		// zsh looks below /usr/local, and elsewhere, in this directory alone: the other one is Debian's for packages.
		list[i].Name = strings.Replace(list[i].Name, "/zsh/vendor-completions/", "/zsh/site-functions/", 1)
	}
	return tarred(name+"/", list, when)
}

// tarred makes a zipped tar of files, and of the directories above them, that root owns.
func tarred(prefix string, files []File, when time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	made := map[string]bool{}
	for _, f := range files {
		f.Name = prefix + f.Name
		for i, c := range f.Name {
			if c != '/' || made[f.Name[:i]] {
				continue
			}
			made[f.Name[:i]] = true
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: f.Name[:i+1], Mode: 0o755, ModTime: when, Uname: "root", Gname: "root"}); err != nil {
				return nil, err
			}
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Mode: f.Mode, Size: int64(len(f.Data)), ModTime: when, Uname: "root", Gname: "root"}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return zipped(b.Bytes())
}
