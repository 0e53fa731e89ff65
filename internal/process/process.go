package process

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/internal/wait"
)

// A Witness is a process that another command may find again: its pid and the time it began at.
type Witness struct {
	PID   int    `json:"pid"`
	Begun uint64 `json:"begun"`
}

// A Process is one, surely that one: the descriptors of /proc/PID and
// of the process are taken, and it is looked whether it is still the same.
type Process struct {
	pid   int
	dir   int // /proc/PID
	pidfd int
	begun uint64
}

// Alive reports whether the process runs.
func (w Witness) Alive() bool {
	p := w.Open()
	if p == nil {
		return false
	}
	p.Close()
	return true
}

// Open returns the process when it runs, else nil. The caller closes it.
func (w Witness) Open() *Process {
	if w.PID == 0 {
		return nil
	}
	p := Open(w.PID)
	if p != nil && p.begun != w.Begun {
		p.Close()
		return nil
	}
	return p
}

// Open opens a process, nil when there is none or it has ended.
func Open(pid int) *Process {
	dir, err := unix.Open("/proc/"+strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	p := &Process{pid: pid, dir: dir, pidfd: -1}
	if p.pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
		p.Close()
		return nil
	}
	// The directory is that of one process for good, and so is the pidfd. Had the first one ended in
	// between, its directory were empty now.
	var alive bool
	if p.begun, alive = p.stat(); !alive {
		p.Close()
		return nil
	}
	return p
}

// Alive reports whether the process runs still.
func (p *Process) Alive() bool {
	_, alive := p.stat()
	return alive
}

// stat reads when the process began, and whether it is still one: it is, until the last of its threads has ended, though the first is a zombie from its own end on.
func (p *Process) stat() (begun uint64, alive bool) {
	f := p.fields("stat")
	if f == nil || f[0][0] == 'X' || f[0][0] == 'Z' && threads(f) == "1" {
		return 0, false
	}
	begun, err := strconv.ParseUint(string(f[19]), 10, 64)
	return begun, err == nil
}

// Ending reports whether the process has ended, or does nothing but end: of its namespaces some are gone then, and its pid namespace takes nobody.
func (p *Process) Ending() bool {
	f := p.fields("stat")
	switch {
	case f == nil:
		return true
	case !exiting(f):
		return false
	case threads(f) == "1" || p.killed():
		return true
	}
	// The first thread has ended before others, which end too, or go on.
	list, _ := p.tids()
	return !slices.ContainsFunc(list, func(tid string) bool {
		f := p.fields("task/" + tid + "/stat")
		return f != nil && !exiting(f)
	})
}

// tids are the numbers of the process's threads.
func (p *Process) tids() ([]string, error) {
	fd, err := unix.Openat(p.dir, "task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(fd), "task")
	defer dir.Close()
	return dir.Readdirnames(-1)
}

// Left reports whether the process has let go of all that it had, memory, files and namespaces, and is still there. A moment of that is in each end. The first process
// of a pid namespace stays so until all others there are waited for, each by its parent, which may be outside and wait for none (zap_pid_ns_processes of the kernel).
func (p *Process) Left() bool {
	if !p.Ending() {
		return false
	}
	list, err := p.tids()
	has := func(tid string) bool { // one that is gone meanwhile is ENOENT, too
		_, err := unix.Readlinkat(p.dir, "task/"+tid+"/ns/mnt", make([]byte, 64))
		return err != unix.ENOENT
	}
	return err == nil && !slices.ContainsFunc(list, has) && p.Alive()
}

// Status is how a process ends that has let go of all: as wait(2) will have it. Who may not trace the process finds 0, and so does who has an old kernel.
func (p *Process) Status() syscall.WaitStatus {
	status, _ := ExitStatus(p.fields("stat"))
	return status
}

// ExitStatus is how a process that has ended did that, by its [Fields], as wait(2) will have it: 0 for who may not trace it, and false where it is not among them.
func ExitStatus(f [][]byte) (status syscall.WaitStatus, ok bool) {
	const code = 52 - 3 // exit_code
	if len(f) <= code {
		return 0, false
	}
	n, err := strconv.Atoi(string(f[code]))
	return syscall.WaitStatus(n), err == nil
}

// exiting and threads read fields of proc_pid_stat(5): the 9th, and the 20th.
func exiting(f [][]byte) bool {
	const exiting = 4 // PF_EXITING of the kernel's linux/sched.h
	flags, err := strconv.ParseUint(string(f[6]), 10, 64)
	return err == nil && flags&exiting != 0
}

func threads(f [][]byte) string { return string(f[17]) }

// Stopped reports whether the process stands still by SIGSTOP or the like; a debugger's does not count.
func (p *Process) Stopped() bool {
	f := p.fields("stat")
	return f != nil && f[0][0] == 'T'
}

// fields are those of a file stat of /proc/PID, from the third on: none when the process, or the thread, is gone.
func (p *Process) fields(stat string) [][]byte {
	fd, err := unix.Openat(p.dir, stat, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	buf := make([]byte, 1024)
	n, err := unix.Read(fd, buf)
	if err != nil || n <= 0 {
		return nil
	}
	return Fields(buf[:n])
}

// Fields are those of a text of proc_pid_stat(5), from the third on, the state: none of one that is cut short.
func Fields(stat []byte) [][]byte {
	// The name in parentheses may hold anything.
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return nil
	}
	if f := bytes.Fields(stat[i+1:]); len(f) >= 20 {
		return f
	}
	return nil
}

// Descends reports whether this process is a child of another one, or a child's child, and so on.
func Descends(pid int) bool {
	for above := unix.Getppid(); above > 0; {
		if above == pid {
			return true
		}
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(above) + "/stat")
		f := Fields(stat)
		if err != nil || f == nil {
			return false
		}
		above, _ = strconv.Atoi(string(f[1]))
	}
	return false
}

// Dir is the descriptor of /proc/PID, the Process's own.
func (p *Process) Dir() int { return p.dir }

// Doomed reports whether the process got a SIGKILL, or has ended: that is asked last, since who waits for it takes the signal away.
func (p *Process) Doomed() bool { return p.killed() || p.Wait(0) }

// killed reports whether the process got a SIGKILL that it has not ended by yet.
func (p *Process) killed() bool {
	fd, err := unix.Openat(p.dir, "status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	buf := make([]byte, 8192)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return false
	}
	// The signals that the whole process was sent: who ends by one keeps it here until the end.
	_, rest, _ := bytes.Cut(buf[:n], []byte("\nShdPnd:\t"))
	mask, _, _ := bytes.Cut(rest, []byte("\n"))
	pending, err := strconv.ParseUint(string(mask), 16, 64)
	return err == nil && pending>>(unix.SIGKILL-1)&1 == 1
}

// Witness names the process.
func (p *Process) Witness() Witness { return Witness{p.pid, p.begun} }

// FD is the pidfd, the Process's own.
func (p *Process) FD() int { return p.pidfd }

// A File is one that this process has open, by what it is known by in others.
type File struct {
	dev, ino uint64
	shown    uint64 // its number in fdinfo, which differs with an overlay; 0 where the kernel has none
}

// FileOf returns the file of a descriptor.
func FileOf(fd int) (File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return File{}, os.NewSyscallError("fstat", err)
	}
	f := File{dev: st.Dev, ino: st.Ino, shown: st.Ino}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		f.shown, _ = inode(unix.AT_FDCWD, "/proc/self/fdinfo/"+strconv.Itoa(fd))
	}
	return f, nil
}

// Keeps reports whether a process, which is surely of this number, has a file open. Who may not see that is told that it has. No file system is asked: the process may have files
// open of one that answers nothing.
func Keeps(pid int, file File) bool {
	dir, err := os.Open("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		return true
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	return err != nil || slices.ContainsFunc(names, func(name string) bool {
		if _, err := unix.Readlinkat(int(dir.Fd()), name, make([]byte, 1)); err != nil {
			return err != unix.ENOENT
		}
		return file.is(int(dir.Fd()), name)
	})
}

// is reports whether a descriptor of a directory fd of proc(5) is one of the file. Its number in fdinfo, which the kernel has by itself, leaves few to look closer at, by what is known
// already. What the file system shows nobody else is another file.
func (f File) is(dir int, name string) bool {
	if shown, ok := inode(dir, "../fdinfo/"+name); ok && shown != f.shown {
		return false
	}
	var st unix.Statx_t
	err := unix.Statx(dir, name, unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st)
	return err == nil && st.Ino == f.ino && unix.Mkdev(st.Dev_major, st.Dev_minor) == f.dev
}

// inode is the number of an open file, as proc_pid_fdinfo(5) has it since Linux 5.14.
func inode(dir int, fdinfo string) (ino uint64, ok bool) {
	fd, err := unix.Openat(dir, fdinfo, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	buf := make([]byte, 512)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return 0, false
	}
	_, rest, _ := bytes.Cut(buf[:n], []byte("\nino:\t"))
	digits, _, _ := bytes.Cut(rest, []byte("\n"))
	ino, err = strconv.ParseUint(string(digits), 10, 64)
	return ino, err == nil
}

// Signal sends a signal to the process, never to another one of its number. One that has ended is os.ErrProcessDone.
func (p *Process) Signal(sig syscall.Signal) error {
	if err := unix.PidfdSendSignal(p.pidfd, sig, nil, 0); err == unix.ESRCH {
		return os.ErrProcessDone
	} else if err != nil {
		return err
	}
	return nil
}

// Wake has the process go on if it was stopped by a signal, and tells warn of it, which may be nil, by what the process is called. It reports whether it was.
func (p *Process) Wake(called string, warn func(text string)) bool {
	if !p.Stopped() {
		return false
	}
	text := called + ", was stopped by a signal: it goes on now"
	if err := p.Signal(unix.SIGCONT); err != nil {
		text = fmt.Sprintf("%s, was stopped by a signal: `kill -CONT %d` has it go on: %v", called, p.pid, err)
	}
	if warn != nil {
		warn(text)
	}
	return true
}

// Again looks again and again, which is how who waits for a process learns that it was stopped, until done ends that.
func Again(every time.Duration, look func()) (done func()) {
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				look()
			}
		}
	}()
	return func() {
		close(quit)
		<-gone
	}
}

// Close closes the descriptors.
func (p *Process) Close() {
	for _, fd := range []int{p.dir, p.pidfd} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// Wait waits until the process has ended, or for the time given, and tells whether it has.
func (p *Process) Wait(limit time.Duration) bool {
	n, _ := wait.Poll([]unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}, limit)
	return n > 0
}
