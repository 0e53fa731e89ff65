package launch

import (
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Dedicate is for a command that does nothing but make one container or process. It locks the calling goroutine to its thread for good, and has the
// thread by which the Go runtime watches the others wake once a millisecond.
//
// Otherwise that thread sleeps for 20 µs, and looks, for as long as anything runs: half of the context switches of a start, and a tenth
// of its processor time. It looks for goroutines that could have a processor whose thread is in a long system call, and here
// there are none that a millisecond matters to.
//
// The means is the slack of its timers, /proc/PID/timerslack_ns, which asks for CAP_SYS_NICE: for others nothing changes. A thread hands its slack down to
// those that it makes, and those to the programs that they become. So the goroutine that clones is locked to a thread that is older.
func Dedicate() {
	runtime.LockOSThread()
	if tid := watcher(); tid != 0 {
		const slack = "1000000" // ns
		if fd, err := unix.Open("/proc/"+strconv.Itoa(tid)+"/timerslack_ns", unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
			unix.Write(fd, []byte(slack))
			unix.Close(fd)
		}
	}
}

// watcher is the thread called sysmon, the first that the Go runtime makes; 0 where that cannot be told.
func watcher() int {
	fd, err := unix.Open("/proc/self/task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	// As the kernel lists them, the threads are in the order in which they were made. A program that has just begun has a handful.
	var buf [512]byte
	n, err := unix.ReadDirent(fd, buf[:])
	if err != nil {
		return 0
	}
	_, _, names := unix.ParseDirent(buf[:n], -1, nil)
	if len(names) < 2 {
		return 0
	}
	tid, err := strconv.Atoi(names[1])
	if err != nil || tid == unix.Gettid() {
		return 0
	}
	return tid
}
