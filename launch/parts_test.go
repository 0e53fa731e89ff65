package launch_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
	"golang.org/x/sys/unix"
)

// The programs that the test binary plays, beside the probe in main_test.go.

// holder waits until its standard input ends, in the namespaces it was given.
func holder([]string) int {
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// orphaner makes a process that waits for its word, tells its pid, and never gives the word.
func orphaner([]string) int {
	hands, afterClone := pidOf(func(pid int) {
		fmt.Println(pid)
		time.Sleep(time.Hour) // where nothing can wake a program of Go, it ends by itself
	})
	launch.Run(context.Background(), plan.Plan{Steps: []plan.Step{clone(), afterClone, rt(&plan.Sync{What: "word"}), probeHere()}}, launch.Options{Hands: hands, KeepFDs: true})
	return 1
}

// family leaves orphans to pid 1 that end at once, and prints how many zombies are
// left when the last one is gone.
func family(args []string) int {
	if len(args) > 1 { // a child: makes its own and ends before it
		c := exec.Command("/proc/self/exe", "0")
		c.Path, c.Args[0] = "/proc/self/exe", "family"
		c.Start()
		return 0
	}
	if n, _ := strconv.Atoi(args[0]); n == 0 {
		return 0
	}
	n, _ := strconv.Atoi(args[0])
	for range n {
		c := exec.Command("/proc/self/exe", "1", "child")
		c.Args[0] = "family"
		if err := c.Run(); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	// The orphans end soon, and pid 1 waits for them.
	for range 2000 {
		if others() == "" {
			break
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
	fmt.Printf("left: %s\n", others())
	return 7
}

// others lists processes beside this one and pid 1, with their state.
func others() string {
	var out []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		pid := filepath.Base(d)
		if pid == "1" || pid == strconv.Itoa(os.Getpid()) {
			continue
		}
		if _, after, ok := strings.Cut(read(d+"/stat"), ") "); ok {
			out = append(out, pid+after[:1])
		}
	}
	return strings.Join(out, " ")
}

// counter prints the signals that it gets, one a line, until SIGTERM.
func counter(args []string) int {
	ch := make(chan os.Signal, 64)
	signal.Notify(ch, syscall.SIGHUP, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGTERM, syscall.SIGCONT, syscall.Signal(40))
	fmt.Println("ready")
	for s := range ch {
		fmt.Println(int(s.(syscall.Signal)))
		if s == syscall.SIGTERM {
			return 5
		}
	}
	return 1
}

// nest launches itself in namespaces within its own, args[0] times, and holds in the
// innermost ones.
func nest(args []string) int {
	n, _ := strconv.Atoi(args[0])
	fmt.Printf("level %d pid %d uid %d\n", n, os.Getpid(), os.Getuid())
	if n == 0 {
		io.Copy(io.Discard, os.Stdin)
		return 42
	}
	one := []plan.IDMapping{{Size: 1}}
	runtime.LockOSThread()
	p, err := launch.Run(context.Background(), plan.Plan{Steps: []plan.Step{
		clone(abi.NSUser, abi.NSPID, abi.NSMount, abi.NSUTS), rt(&plan.DenySetgroups{}),
		rt(&plan.WriteIDMap{Map: one}), rt(&plan.WriteIDMap{Group: true, Map: one}), rt(&plan.Sync{What: "id maps written"}),
		in(&plan.Setresgid{}), in(&plan.Setresuid{}), in(&plan.OpenRoot{Path: "/"}),
		in(&plan.Mount{Type: "proc", Source: "proc", Dest: "/proc"}),
		in(&plan.Sigmask{}), in(&plan.Exec{Args: []string{nstest.PartPath("nest"), strconv.Itoa(n - 1)}}),
	}}, launch.Options{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	st, err := p.Wait()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return st.ExitStatus()
}

// spy looks, as root of a container, for what it can see of the other processes
// there, until its standard input ends: descriptors above 2, the program, ptrace.
// A program of the container is its own business; what is of the host is printed.
func spy(args []string) int {
	done := make(chan struct{})
	go func() { io.Copy(io.Discard, os.Stdin); close(done) }()
	fmt.Println("ready")
	runtime.LockOSThread() // ptrace is a thread's
	looked := 0
	for {
		select {
		case <-done:
			fmt.Printf("looked %d\n", looked)
			return 0
		default:
		}
		for _, name := range list("/proc") {
			pid, err := strconv.Atoi(name)
			if err != nil || pid == os.Getpid() {
				continue
			}
			looked++
			spyOn(pid)
		}
	}
}

func spyOn(pid int) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	open := map[string]string{}
	for _, fd := range list(dir + "fd") {
		if to, err := os.Readlink(dir + "fd/" + fd); err == nil && fd > "2" {
			open[fd] = to
		}
	}
	// Within an execve the kernel lets root of the process's user namespace see what is about to be closed. The pipes
	// that are to be the program's streams anyway are nothing new; a process that has no streams any more has ended.
	streams := map[string]bool{}
	for _, fd := range []string{"0", "1", "2"} {
		if to, err := os.Readlink(dir + "fd/" + fd); err == nil {
			streams[to] = true
		}
	}
	for fd, to := range open {
		if len(streams) > 0 && !streams[to] {
			fmt.Printf("descriptor %s of %d: %s\n", fd, pid, to)
		}
	}
	if exe, err := os.Readlink(dir + "exe"); err == nil && strings.Contains(exe, "nstest") {
		fmt.Printf("program of %d: %s\n", pid, exe)
	}
	if env := read(dir + "environ"); strings.Contains(env, "KAKURI_SECRET") {
		fmt.Printf("environment of %d\n", pid)
	}
	if err := unix.PtraceSeize(pid); err != nil {
		return
	}
	// Before its execve it has the name of the runtime.
	if exe, _ := os.Readlink(dir + "exe"); strings.Contains(exe, "nstest") {
		fmt.Printf("traced %d: %s\n", pid, exe)
	}
	unix.PtraceInterrupt(pid)
	var st syscall.WaitStatus
	syscall.Wait4(pid, &st, 0x40000000, nil) // __WALL
	unix.PtraceDetach(pid)
}

// swapper exchanges two names of a directory, over and over, until its standard input
// ends.
func swapper(args []string) int {
	done := make(chan struct{})
	go func() { io.Copy(io.Discard, os.Stdin); close(done) }()
	fmt.Println("ready")
	n := 0
	for {
		select {
		case <-done:
			fmt.Printf("swapped %d\n", n)
			return 0
		default:
		}
		for range 100 {
			if err := unix.Renameat2(unix.AT_FDCWD, args[0], unix.AT_FDCWD, args[1], unix.RENAME_EXCHANGE); err != nil {
				fmt.Println(err)
				return 1
			}
			n++
		}
	}
}

// probeWord is the probe with a task.
func probeWord(word string) int {
	switch word {
	case "tiocsti":
		// Types into its own terminal.
		for _, c := range []byte("typed\n") {
			b := []byte{c}
			if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, 0, unix.TIOCSTI, bytesPtr(b)); e != 0 {
				fmt.Println("refused:", e)
				return 0
			}
		}
		fmt.Println("typed")
		return 0
	}
	fmt.Println("no such task:", word)
	return 99
}
