package launch

import (
	"syscall"
	"unsafe"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/plan"
)

const (
	pathMax  = 4096
	maxLinks = 40 // on the way of one path, as the kernel has it

	// maxTries bounds how often openat2(2) is called once more after EAGAIN: when anything on the
	// machine was mounted or renamed while it went up a "..". It is far less likely each time.
	maxTries = 1 << 16
)

// A walk is the memory of a [plan.RowMake]: what is made of a path, a name at a time.
type walk struct {
	left [2 * pathMax]byte // what is left of the path, at the end; a link's text is put before it
	done [pathMax]byte     // the path that dir was reached by, without links
	link [pathMax]byte     // a link's text
	how  [3]uint64         // struct open_how of openat2(2)

	base, parent, dir uintptr
	to                uintptr // where the name under way leads
	at, n             uintptr // where left begins, how long done is
	name, size        uintptr // the name under way: where in left, and its length
	last              bool    // nothing comes after it
	linked            bool    // it is there, and may be a link
	links             int
}

// It has to fit in what the plan gives it.
const _ = plan.WalkSize - unsafe.Sizeof(walk{})

// childMake makes what is missing of path below base: see [plan.RowMake]. What parent holds is
// the first skip bytes of it. Names are looked up one at a time in the directory before, without
// following links; a link is read, and its text walked in its place, from base if it begins
// with a slash. Only ".." is looked up from base, where the kernel lets nothing lead out.
//
// What it calls calls little in turn: how deep a stack that cannot grow may become is looked at when a program is linked, and what
// is built for fuzzing has larger frames.
//
//go:nosplit
//go:norace
func childMake(base, parent uintptr, path unsafe.Pointer, skip, flags uintptr, w *walk) uintptr {
	w.base, w.parent, w.dir, w.links = base, parent, parent, 0
	e := childBegin(w, path, skip)
	for e == 0 && childName(w) {
		name := unsafe.Add(unsafe.Pointer(&w.left), w.name)
		w.to, w.linked = w.dir, false
		switch {
		case w.size == 1 && *childAt(name, 0) == '.':
		case w.size == 2 && *childAt(name, 0) == '.' && *childAt(name, 1) == '.':
			e = childUp(w, name)
		default:
			e = childStep(w, name, flags)
		}
		if w.linked {
			e = childLink(w, name, flags)
		}
		childGo(w, w.to)
	}
	childGo(w, base)
	return e
}

//go:nosplit
//go:norace
func childAt(p unsafe.Pointer, i uintptr) *byte { return (*byte)(unsafe.Add(p, i)) }

// childBegin puts the path where it is walked.
//
//go:nosplit
//go:norace
func childBegin(w *walk, path unsafe.Pointer, skip uintptr) uintptr {
	size := uintptr(0)
	for *childAt(path, size) != 0 {
		size++
	}
	if size >= pathMax {
		return uintptr(syscall.ENAMETOOLONG)
	}
	for i := uintptr(0); i < skip; i++ {
		*childAt(unsafe.Pointer(&w.done), i) = *childAt(path, i)
	}
	w.n = skip
	w.at = unsafe.Sizeof(w.left) - 1 - (size - skip)
	for i := uintptr(0); i <= size-skip; i++ {
		*childAt(unsafe.Pointer(&w.left), w.at+i) = *childAt(path, skip+i)
	}
	return 0
}

// childName takes the next name off what is left, and ends it with a zero; false when there is none.
//
//go:nosplit
//go:norace
func childName(w *walk) bool {
	left := unsafe.Pointer(&w.left)
	at := w.at
	for *childAt(left, at) == '/' {
		at++
	}
	end := at
	for *childAt(left, end) != '/' && *childAt(left, end) != 0 {
		end++
	}
	rest := end
	for *childAt(left, rest) == '/' {
		rest++
	}
	w.last = *childAt(left, rest) == 0
	*childAt(left, end) = 0
	w.name, w.size, w.at = at, end-at, rest
	return end > at
}

// childGo goes on to another directory.
//
//go:nosplit
//go:norace
func childGo(w *walk, dir uintptr) {
	if w.dir != w.base && w.dir != w.parent && w.dir != dir {
		syscall.RawSyscall6(sysClose, w.dir, 0, 0, 0, 0, 0)
	}
	w.dir = dir
}

// childDone adds the name to the path that was walked.
//
//go:nosplit
//go:norace
func childDone(w *walk, name unsafe.Pointer) uintptr {
	if w.n+w.size+2 > pathMax {
		return uintptr(syscall.ENAMETOOLONG)
	}
	done := unsafe.Pointer(&w.done)
	if w.n > 0 {
		*childAt(done, w.n) = '/'
		w.n++
	}
	for i := uintptr(0); i <= w.size; i++ {
		*childAt(done, w.n+i) = *childAt(name, i)
	}
	w.n += w.size
	return 0
}

// childUp goes to the directory above, which the kernel finds from base: by the time of a
// lookup from dir, that could have been moved out of the root.
//
//go:nosplit
//go:norace
func childUp(w *walk, name unsafe.Pointer) uintptr {
	if e := childDone(w, name); e != 0 {
		return e
	}
	w.how[0] = abi.OPath | syscall.O_DIRECTORY | syscall.O_CLOEXEC
	w.how[1] = 0
	w.how[2] = abi.ResolveInRoot | abi.ResolveNoMagiclinks
	fd, e := uintptr(0), syscall.EAGAIN
	for tries := 0; e == syscall.EAGAIN && tries < maxTries; tries++ {
		fd, _, e = syscall.RawSyscall6(sysOpenat2, w.base, uintptr(unsafe.Pointer(&w.done)), uintptr(unsafe.Pointer(&w.how)), unsafe.Sizeof(w.how), 0, 0)
	}
	if e != 0 {
		return uintptr(e)
	}
	w.to = fd
	return 0
}

// childStep goes to the directory name, or makes it, or what is to be at the end of the path.
//
//go:nosplit
//go:norace
func childStep(w *walk, name unsafe.Pointer, flags uintptr) uintptr {
	const enter = abi.OPath | syscall.O_DIRECTORY | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	const create = syscall.O_WRONLY | syscall.O_CREAT | syscall.O_EXCL | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	file := w.last && flags&plan.MakeFile != 0
	fd, e := uintptr(0), syscall.ENOENT
	if file {
		if fd, _, e = syscall.RawSyscall6(sysOpenat, w.dir, uintptr(name), create, 0o644, 0, 0); e == 0 {
			syscall.RawSyscall6(sysClose, fd, 0, 0, 0, 0, 0)
		}
		if w.linked = e == syscall.EEXIST; w.linked {
			return 0
		}
		return uintptr(e)
	}
	if !w.last {
		fd, _, e = syscall.RawSyscall6(sysOpenat, w.dir, uintptr(name), enter, 0, 0, 0)
	}
	if e == syscall.ENOENT {
		_, _, e = syscall.RawSyscall6(sysMkdirat, w.dir, uintptr(name), 0o755, 0, 0, 0)
		if (e == 0 && w.last) || (e != 0 && e != syscall.EEXIST) {
			return uintptr(e)
		}
		fd, _, e = syscall.RawSyscall6(sysOpenat, w.dir, uintptr(name), enter, 0, 0, 0)
	}
	if w.linked = e == syscall.ENOTDIR || e == syscall.ELOOP; w.linked {
		return 0
	}
	if e != 0 {
		return uintptr(e)
	}
	w.to = fd
	return childDone(w, name)
}

// childLink puts a link's text before what is left of the path.
//
//go:nosplit
//go:norace
func childLink(w *walk, name unsafe.Pointer, flags uintptr) uintptr {
	link := unsafe.Pointer(&w.link)
	n, _, e := syscall.RawSyscall6(sysReadlinkat, w.dir, uintptr(name), uintptr(link), pathMax, 0, 0)
	switch {
	case e == syscall.EINVAL && w.last && flags&plan.MakeFile != 0:
		return 0 // a file that somebody has made meanwhile
	case e == syscall.EINVAL:
		return uintptr(syscall.ENOTDIR)
	case e != 0:
		return uintptr(e)
	case flags&plan.MakeStrict != 0 || w.links == maxLinks:
		return uintptr(syscall.ELOOP)
	case n >= pathMax || n+1 > w.at:
		return uintptr(syscall.ENAMETOOLONG)
	}
	w.links++
	w.at--
	*childAt(unsafe.Pointer(&w.left), w.at) = '/'
	w.at -= n
	for i := uintptr(0); i < n; i++ {
		*childAt(unsafe.Pointer(&w.left), w.at+i) = *childAt(link, i)
	}
	if *childAt(link, 0) == '/' {
		w.to, w.n = w.base, 0
	}
	return 0
}
