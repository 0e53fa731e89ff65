package callers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/seccomp"
	"golang.org/x/sys/unix"
)

// getpid32 makes the call getpid in the way of 32-bit programs, from a page of memory that has just that: the
// answer is the pid, a negative error, or the end of the process.
func getpid32() (int32, error) {
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, err
	}
	copy(page, []byte{0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3}) // mov $20, %eax; int $0x80; ret
	code := unsafe.Pointer(&page[0])
	closure := unsafe.Pointer(&code)
	call := *(*func() int32)(unsafe.Pointer(&closure))
	return call(), nil
}

// loadedFilters reads the filters of a process back from the kernel: ptrace(2), PTRACE_SECCOMP_GET_FILTER.
func loadedFilters(pid int) ([][]seccomp.Instruction, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceSeize(pid); err != nil {
		return nil, fmt.Errorf("seize: %w", err)
	}
	defer unix.PtraceDetach(pid)
	if err := unix.PtraceInterrupt(pid); err != nil {
		return nil, fmt.Errorf("interrupt: %w", err)
	}
	if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != nil {
		return nil, fmt.Errorf("wait: %w", err)
	}
	const getFilter = 0x420c
	var filters [][]seccomp.Instruction
	for i := uintptr(0); ; i++ {
		n, _, errno := unix.Syscall6(unix.SYS_PTRACE, getFilter, uintptr(pid), i, 0, 0, 0)
		if errno == unix.ENOENT {
			return filters, nil
		} else if errno != 0 {
			return nil, fmt.Errorf("filter %d: %w", i, errno)
		}
		filter := make([]seccomp.Instruction, n)
		if _, _, errno = unix.Syscall6(unix.SYS_PTRACE, getFilter, uintptr(pid), i, uintptr(unsafe.Pointer(&filter[0])), 0, 0); errno != 0 {
			return nil, fmt.Errorf("filter %d: %w", i, errno)
		}
		filters = append(filters, filter)
	}
}

// inspector waits for the process whose last argument is args[0], and prints what can be seen of it from outside only: how
// many calls its filters let through, and the limits of its control group.
func inspector(args []string) int {
	pid, err := findProcess(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	filters, err := loadedFilters(pid)
	if err != nil {
		fmt.Fprintln(os.Stderr, "filters:", err)
		return 1
	}
	allowed := 0
	for i := range abi.SyscallCount {
		nr, ok := abi.ArchX86_64.SyscallAt(i)
		if !ok {
			continue
		}
		if !slices.ContainsFunc(filters, func(f []seccomp.Instruction) bool {
			return !slices.Contains(seccomp.Reach(f, abi.ArchX86_64, nr), abi.SeccompRetAllow)
		}) {
			allowed++
		}
	}
	fmt.Printf("%s: %d\n", callsRow, allowed)
	fmt.Printf("%s: %s\n", pidsRow, groupValue(pid, "pids", "pids.max", "max"))
	fmt.Printf("%s: %s\n", memoryRow, groupValue(pid, "memory", "memory.max", "max", "memory.limit_in_bytes", "9223372036854771712"))
	return 0
}

// findProcess finds the process whose last argument is word.
func findProcess(word string) (int, error) {
	for range 600 {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range files {
			data, _ := os.ReadFile(f)
			args := strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
			if len(args) > 1 && args[len(args)-1] == word && args[0] == "/bin/probe" {
				return strconv.Atoi(filepath.Base(filepath.Dir(f)))
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return 0, errors.New("no process has the argument " + word)
}

// groupValue reads a limit of a process's control group, by pairs of a file and what stands in it without a limit.
func groupValue(pid int, controller string, files ...string) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 || f[1] != "" && !slices.Contains(strings.Split(f[1], ","), controller) {
			continue
		}
		for i := 0; i < len(files); i += 2 {
			text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", f[1], f[2], files[i]))
			if err != nil {
				continue
			}
			if v := strings.TrimSpace(string(text)); v != files[i+1] {
				return v
			}
			return "none"
		}
	}
	return "none"
}

// raw makes a system call with numbers, and gives its error.
func raw(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}
