package engine

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// thief looks, as a container's process, for a way to write to a file of the host, by its
// device and inode (args): through the programs and the memory maps of other processes.
// It prints what it found when its standard input ends.
func thief(args []string) int {
	device, _ := strconv.ParseUint(args[0], 10, 64)
	inode, _ := strconv.ParseUint(args[1], 10, 64)
	fmt.Println("ready")
	done := untilEOF()
	held := map[int]bool{} // descriptors of the file
	processes, found := 0, 0
	for {
		select {
		case <-done:
			fmt.Printf("looked at %d, held %d, wrote %d\n", processes, len(held), found)
			return 0
		default:
		}
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, d := range dirs {
			if filepath.Base(d) == strconv.Itoa(os.Getpid()) {
				continue
			}
			processes++
			for _, way := range append(mappedFiles(d), d+"/exe") {
				fd, err := unix.Open(way, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					continue
				}
				var st unix.Stat_t
				if unix.Fstat(fd, &st) != nil || uint64(st.Dev) != device || st.Ino != inode || len(held) > 20 {
					unix.Close(fd)
					continue
				}
				held[fd] = true
			}
		}
		// A program that runs cannot be written; one that has ended can.
		for fd := range held {
			if w, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
				found++
				unix.Write(w, []byte("stolen"))
				unix.Close(w)
			}
		}
	}
}

// mappedFiles lists ways to the files that a process has mapped.
func mappedFiles(dir string) []string {
	list, _ := filepath.Glob(dir + "/map_files/*")
	return list
}

// opener prints which socket families, and which forms of them, can be opened.
func opener(args []string) int {
	var ok []string
	try := func(name string, family, kind, protocol uintptr) {
		if fd, _, e := syscall.RawSyscall(syscall.SYS_SOCKET, family, kind, protocol); e == 0 {
			ok = append(ok, name)
			unix.Close(int(fd))
		}
	}
	const high = 1 << 32 // a bit that the kernel does not read
	for f := range uintptr(64) {
		for _, kind := range []uintptr{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET} {
			name := fmt.Sprintf("%d/%d", f, kind)
			try(name, f, kind, 0)
			try(name+"+", f|high, kind, 0)
		}
	}
	for p := range uintptr(23) {
		try(fmt.Sprintf("netlink %d", p), unix.AF_NETLINK, unix.SOCK_RAW, p)
		try(fmt.Sprintf("netlink %d+", p), unix.AF_NETLINK|high, unix.SOCK_RAW, p|high)
	}
	try("raw", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	fmt.Println(strings.Join(ok, " "))
	for name, call := range map[string]func() syscall.Errno{
		"user namespace": func() syscall.Errno {
			_, _, e := syscall.RawSyscall(syscall.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0)
			return e
		},
		"io_uring": func() syscall.Errno { _, _, e := syscall.RawSyscall(unix.SYS_IO_URING_SETUP, 1, 0, 0); return e },
		"bpf":      func() syscall.Errno { _, _, e := syscall.RawSyscall(unix.SYS_BPF, 0, 0, 0); return e },
		"userfaultfd": func() syscall.Errno {
			_, _, e := syscall.RawSyscall(unix.SYS_USERFAULTFD, 1, 0, 0)
			return e
		},
		"add_key": func() syscall.Errno { _, _, e := syscall.RawSyscall6(unix.SYS_ADD_KEY, 0, 0, 0, 0, 0, 0); return e },
		"perf":    func() syscall.Errno { _, _, e := syscall.RawSyscall(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0); return e },
	} {
		fmt.Printf("%s: %v\n", name, call())
	}
	return 0
}

// onHost runs args[2:] on a machine of which args[0] is the root directory, as the user
// args[1]: its own mounts, and nothing else of this one.
func onHost(args []string) int {
	runtime.LockOSThread() // a mount namespace is a thread's
	root := args[0]
	id, _ := strconv.Atoi(args[1])
	mount := func(source, dest, kind string, flags uintptr) error {
		if err := unix.Mount(source, root+dest, kind, flags, ""); err != nil {
			return fmt.Errorf("%s: %w", dest, err)
		}
		return nil
	}
	for _, step := range []func() error{
		func() error { return unix.Unshare(unix.CLONE_NEWNS) },
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return mount(root, "", "", unix.MS_BIND) },
		func() error { return mount("proc", "/proc", "proc", 0) },
		func() error { return mount("/sys", "/sys", "", unix.MS_BIND|unix.MS_REC) },
		func() error { return mount("/dev", "/dev", "", unix.MS_BIND|unix.MS_REC) },
		func() error { return mountIf(root+"/opt/mounted", mount) },
		func() error { return unix.Chdir(root) },
		func() error { return unix.PivotRoot(".", ".") },
		func() error { return unix.Unmount(".", unix.MNT_DETACH) },
		func() error { return unix.Chdir("/") },
		func() error { return syscall.Setgroups(nil) },
		func() error { return syscall.Setgid(id) },
		func() error { return syscall.Setuid(id) },
		func() error {
			return unix.Exec(args[2], args[2:], []string{"PATH=/bin", "XDG_RUNTIME_DIR=/run/user", "XDG_DATA_HOME=/run/user/data", "KAKURI_SECRET=of the caller"})
		},
	} {
		if err := step(); err != nil {
			return complain(err)
		}
	}
	return 1
}

// mountIf mounts a tmpfs on a directory of a machine that has one.
func mountIf(dir string, mount func(source, dest, kind string, flags uintptr) error) error {
	if !exists(dir) {
		return nil
	}
	return mount("tmpfs", "/opt/mounted", "tmpfs", 0)
}

// swapper exchanges two names, over and over, until its standard input ends.
func swapper(args []string) int {
	fmt.Println("ready")
	done := untilEOF()
	for {
		select {
		case <-done:
			return 0
		default:
		}
		for range 100 {
			if err := unix.Renameat2(unix.AT_FDCWD, args[0], unix.AT_FDCWD, args[1], unix.RENAME_EXCHANGE); err != nil {
				return complain(err)
			}
		}
	}
}

// uncover is root of a container with every capability: it takes away what lies over
// the root file system in every way there is, and prints the files it finds, with what they
// hold. args are inodes of the host.
func uncover(args []string) int {
	points := func() (list []string) {
		data, _ := os.ReadFile("/proc/self/mountinfo")
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); len(f) > 4 && f[4] != "/" && !strings.HasPrefix(f[4], "/proc") {
				list = append(list, f[4])
			}
		}
		slices.Reverse(list)
		return list
	}
	show := func(how, p string) {
		if st, err := os.Lstat(p); err != nil || !st.Mode().IsRegular() || st.Size() > 20 {
			return
		}
		if data, err := os.ReadFile(p); err == nil {
			fmt.Printf("%s %s %s\n", how, p, strings.TrimSpace(string(data)))
		}
	}
	walk := func(how, root string) {
		filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if d != nil && d.IsDir() && (p == "/proc" || p == "/sys" || p == "/tmp/bind/proc") {
				return filepath.SkipDir
			}
			show(how, p)
			return nil
		})
	}
	walk("first", "/")
	// By a handle with generation 0, which ext4 takes for any.
	for _, at := range append(points(), "/") {
		fd, err := unix.Open(at, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			continue
		}
		for _, ino := range args {
			n, _ := strconv.ParseUint(ino, 10, 32)
			handle := binary.LittleEndian.AppendUint32(nil, uint32(n))
			file, err := unix.OpenByHandleAt(fd, unix.NewFileHandle(1, append(handle, 0, 0, 0, 0)), unix.O_RDONLY)
			if err == nil {
				buf := make([]byte, 20)
				k, _ := unix.Read(file, buf)
				fmt.Printf("by handle %s %s", ino, buf[:k])
			}
		}
	}
	// Beside the mounts, which a bind without them leaves out.
	os.MkdirAll("/tmp/bind", 0o755)
	if unix.Mount("/", "/tmp/bind", "", unix.MS_BIND, "") == nil {
		walk("bind", "/tmp/bind")
		unix.Unmount("/tmp/bind", unix.MNT_DETACH)
	}
	for _, p := range points() {
		to := "/tmp/moved" + strings.ReplaceAll(p, "/", "_")
		os.MkdirAll(to, 0o755)
		if unix.Mount(p, to, "", unix.MS_MOVE, "") == nil {
			fmt.Println("moved", p)
			walk("moved", p)
			unix.Mount(to, p, "", unix.MS_MOVE, "")
		}
	}
	for again := true; again; {
		again = false
		for _, p := range points() {
			if unix.Unmount(p, unix.MNT_DETACH) == nil {
				fmt.Println("unmounted", p)
				again = true
			}
		}
	}
	unix.Unmount("/", unix.MNT_DETACH)
	walk("unmounted", "/")
	return 0
}

// typist pushes a character into its terminal by TIOCSTI and TIOCLINUX, and prints what
// the kernel says; then it asks for the terminal's size, as programs do.
func typist([]string) int {
	for _, request := range []uint{0x5412, 0x541c, 1<<32 | 0x5412, 1<<63 | 0x541c} {
		err := unix.IoctlSetPointerInt(0, request, 'x')
		errno, _ := err.(syscall.Errno)
		fmt.Printf("%x %d\n", request, int(errno))
	}
	_, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	fmt.Println("size", err)
	return 0
}
