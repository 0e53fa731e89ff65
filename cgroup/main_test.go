package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/internal/nstest"
)

func TestMain(m *testing.M) {
	os.Exit(nstest.Main(m, nstest.Options{Parts: map[string]func([]string) int{
		"hold": hold, "eat": eat, "keep": keep, "burn": burn, "open": openEach, "spawn": spawn, "write": write,
	}}))
}

// await waits for a line on standard input: a process starts before it is in its cgroup.
func await() {
	var b [1]byte
	for {
		n, err := os.Stdin.Read(b[:])
		if n == 0 || err != nil || b[0] == '\n' {
			return
		}
	}
}

// hold stays until its standard input ends.
func hold([]string) int {
	await()
	return 0
}

// eat takes 256 MB of memory.
func eat([]string) int {
	await()
	m, err := unix.Mmap(-1, 0, 256<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		fmt.Println(err)
		return 2
	}
	for i := 0; i < len(m); i += 4096 {
		m[i] = 1
	}
	return 0
}

// keep takes 64 MB of memory, prints a line, and stays until its standard input ends.
func keep([]string) int {
	await()
	m, err := unix.Mmap(-1, 0, 64<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		fmt.Println(err)
		return 2
	}
	for i := 0; i < len(m); i += 4096 {
		m[i] = 1
	}
	fmt.Println("kept")
	await()
	return int(m[0]) - 1
}

// burn prints a line, and uses processor time until it is ended.
func burn([]string) int {
	await()
	fmt.Println("burning")
	for i := 0; ; i++ {
		if i < 0 {
			return 1
		}
	}
}

// openEach opens the files it is given for reading, and prints the error of each, or "ok".
func openEach(args []string) int {
	await()
	for _, name := range args {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
			fmt.Println(name, "ok")
			continue
		}
		fmt.Println(name, err)
	}
	return 0
}

// spawn starts itself again and again, and leaves the copies to themselves.
func spawn([]string) int {
	await()
	for {
		c := exec.Command("/proc/self/exe")
		c.Args = []string{"spawn"}
		if c.Start() != nil {
			unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil) // as many as it may have
		}
	}
}

// write writes a value to a file again and again, as fast as it can.
func write(args []string) int {
	await()
	fd, err := unix.Open(args[0], unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		fmt.Println(err)
		return 2
	}
	fmt.Println("writing")
	for {
		unix.Pwrite(fd, []byte(args[1]), 0)
	}
}
