package plan

import (
	"fmt"
	"path"
	"strings"

	"github.com/kakuri/kakuri/abi"
)

// Paths of a container are looked up below the fd of its root and never leave
// it: no symbolic link of an image leads outside, and no magic link is followed.
const inRoot = abi.ResolveInRoot | abi.ResolveNoMagiclinks

// components gives the parts of an absolute container path.
func components(p string) []string {
	p = strings.Trim(path.Clean("/"+p), "/")
	if p == "" {
		return nil
	}
	return strings.Split(p, "/")
}

// below is the path as openat2 takes it below the root's fd; "." is the root.
func below(p string) string {
	return path.Join(append([]string{"."}, components(p)...)...)
}

// lookup opens a path of the container without creating it.
func (a *Asm) lookup(p string, flags uint64, out Reg) *Row {
	return a.lookupBelow(RegRoot, p, flags, out)
}

func (a *Asm) lookupBelow(base Reg, p string, flags uint64, out Reg) *Row {
	return a.lookupAsIs(base, below(p), flags, out)
}

// lookupAsIs is lookupBelow for a path whose links before ".." and whose last slash count.
func (a *Asm) lookupAsIs(base Reg, p string, flags uint64, out Reg) *Row {
	how := a.openHow(abi.OPath|abi.OCloexec|flags, a.resolve)
	return a.call(abi.CallOpenat2, fd(base), a.str(p), how, num(24)).into(out)
}

// noFollow is the flag of open(2) for a path whose last part is meant itself where it is a link.
func (a *Asm) noFollow(link bool) uint64 {
	if link {
		return a.o.Nofollow
	}
	return 0
}

func linkWords(link bool) string {
	if link {
		return "link"
	}
	return ""
}

// directory opens a directory of the container into out, and makes it where it is
// missing. The first have components are known to be there.
func (a *Asm) directory(p string, have int, out Reg) { a.directoryBelow(RegRoot, p, have, out) }

func (a *Asm) directoryBelow(base Reg, p string, have int, out Reg) {
	a.directoryMode(base, p, have, out, nil)
}

// directoryMode is directoryBelow, and writes the mode of a directory that was there to mode, as octal digits.
func (a *Asm) directoryMode(base Reg, p string, have int, out Reg, mode *Mem) {
	look := a.lookupBelow(base, p, a.o.Directory, out)
	if len(components(p)) == 0 {
		return // the base itself, which nothing here could make
	}
	look.accept(abi.ENOENT)
	done := a.here() - 1
	if mode != nil {
		missing := done
		a.octal(out, mode)
		done = a.jump()
		a.skipAccept(missing)
	}
	a.missing(base, p, have, 0)
	a.lookupBelow(base, p, a.o.Directory, out)
	a.skipOK(done)
}

// missing makes a path that was not found.
func (a *Asm) missing(base Reg, p string, have int, flags uint64) {
	parts := components(p)
	parent, skip := base, 0
	if have = min(have, len(parts)-1); have > 0 {
		known := strings.Join(parts[:have], "/")
		parent, skip = a.tmp(), len(known)
		a.lookupBelow(base, known, a.o.Directory, parent)
	}
	a.makePath(base, parent, strings.Join(parts, "/"), skip, flags)
}

// file opens a file of the container into out, and makes an empty one where it
// is missing. A dangling link gets its target made, inside the root.
func (a *Asm) file(p string, out Reg) {
	a.lookup(p, 0, out).accept(abi.ENOENT)
	first := a.here() - 1
	a.missing(RegRoot, p, 0, MakeFile)
	a.lookup(p, 0, out)
	a.skipOK(first)
}

// likeTree opens the place for a tree: a directory for a directory, else a file.
func (a *Asm) likeTree(tree Reg, p string, out Reg) {
	dir := a.ifType(tree, abi.SIfdir)
	a.file(p, out)
	done := a.jump()
	a.skipOK(dir)
	a.directory(p, 0, out)
	a.skipOK(done)
}

// lookupIn opens a path in the mount that below holds, at the first component of
// the path: another container that shares the root file system may move that
// component away meanwhile, and a path from the root would find nothing to hide.
func (a *Asm) lookupIn(below Reg, p string, out Reg) *Row {
	parts := components(p)
	if below == RegNone || len(parts) < 2 {
		return a.lookup(p, 0, out)
	}
	a.resolve = abi.ResolveBeneath | abi.ResolveNoSymlinks | abi.ResolveNoMagiclinks
	return a.lookupBelow(below, strings.Join(parts[1:], "/"), 0, out)
}

// Symlink makes a symbolic link in the container; what is there stays.
type Symlink struct {
	Target, Path string
	Have         int  // leading components of Path that are known to be there
	Replace      bool // a link that is there is replaced, and anything else is an error
}

// Name implements [Op].
func (*Symlink) Name() string { return "symlink" }

// String implements [Op].
func (s *Symlink) String() string { return fmt.Sprintf("symlink %s to %s", s.Path, s.Target) }

func (s *Symlink) lower(a *Asm) {
	dir, name := path.Split(path.Clean("/" + s.Path))
	parent := a.tmp()
	a.directory(dir, s.Have, parent)
	if s.Replace {
		there := a.tmp()
		a.call(abi.CallOpenat, fd(parent), a.str(name), num(abi.OPath|abi.OCloexec|a.o.Nofollow), num(0)).into(there).accept(abi.ENOENT)
		free := a.here() - 1
		link := a.ifType(there, abi.SIflnk)
		a.fail(abi.CallSymlinkat, abi.EEXIST)
		a.skipOK(link)
		a.call(abi.CallUnlinkat, fd(parent), a.str(name), num(0))
		a.skipAccept(free)
		a.call(abi.CallSymlinkat, a.str(s.Target), fd(parent), a.str(name))
		return
	}
	a.call(abi.CallSymlinkat, a.str(s.Target), fd(parent), a.str(name)).accept(abi.EEXIST)
}

// Mtab makes /etc/mtab a link to the table of mounts, which programs of old look for there, where an image has none. Where its /etc is not to be
// written to, it stays without.
type Mtab struct {
	Have int // as of Symlink
}

// Name implements [Op].
func (*Mtab) Name() string { return "mtab" }

// String implements [Op].
func (*Mtab) String() string { return "symlink /etc/mtab to " + MtabTarget }

// MtabTarget is where [Mtab] leads.
const MtabTarget = "/proc/mounts"

func (m *Mtab) lower(a *Asm) {
	parent := a.tmp()
	a.directory("/etc", m.Have, parent)
	a.call(abi.CallSymlinkat, a.str(MtabTarget), fd(parent), a.str("mtab")).accept(abi.EEXIST, abi.EACCES, abi.EROFS)
}

// Dockerenv makes the empty file /.dockerenv, by which programs tell that they are in a container. Where the root is not to be written to, it stays without.
type Dockerenv struct{}

// Name implements [Op].
func (*Dockerenv) Name() string { return "dockerenv" }

// String implements [Op].
func (*Dockerenv) String() string { return "make " + DockerenvPath }

// DockerenvPath is where [Dockerenv] makes its file.
const DockerenvPath = "/.dockerenv"

func (*Dockerenv) lower(a *Asm) {
	a.call(abi.CallMknodat, fd(RegRoot), a.str(strings.TrimPrefix(DockerenvPath, "/")), num(abi.SIfreg|0o755), num(0)).accept(abi.EEXIST, abi.EACCES, abi.EROFS)
}

// Workdir makes the process's working directory where the image lacks it.
type Workdir struct{ Path string }

// Name implements [Op].
func (*Workdir) Name() string { return "mkdir" }

// String implements [Op].
func (w *Workdir) String() string { return "mkdir " + w.Path }

func (w *Workdir) lower(a *Asm) { a.directory(w.Path, 0, a.tmp()) }
