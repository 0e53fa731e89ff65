package oci

import (
	"bufio"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// headless ends its first thread, says so, and goes on.
func headless([]string) int {
	for firstThread() != 'Z' {
		go func() { // on one thread after the other, until it is the first
			runtime.LockOSThread()
			if unix.Gettid() == unix.Getpid() {
				unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
			}
			select {}
		}()
		time.Sleep(time.Millisecond)
	}
	unix.Write(1, []byte("up\n"))
	time.Sleep(time.Hour)
	return 1
}

// firstThread is the state of this process's first thread, as proc_pid_stat(5) has it.
func firstThread() byte {
	fd, err := unix.Open("/proc/self/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	buf := make([]byte, 512)
	n, _ := unix.Read(fd, buf)
	for i := n - 1; i > 0; i-- {
		if buf[i] == ')' {
			return buf[i+2]
		}
	}
	return 0
}

// TestFirstThreadEnded: a process whose first thread has ended runs as long as another one does, though /proc has a Z for it.
func TestFirstThreadEnded(t *testing.T) {
	c := exec.Command("/proc/self/exe")
	c.Args = []string{"headless"}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Process.Kill()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "up\n" {
		t.Fatalf("%q, %v", line, err)
	}
	p := OpenProcess(c.Process.Pid)
	if p == nil {
		t.Fatal("a process whose first thread has ended counts as ended")
	}
	defer p.Close()
	w := p.Witness()
	if !w.Alive() || p.Ending() {
		t.Error("it does not run, or is to end")
	}
	c.Process.Kill()
	if !p.Ending() {
		t.Error("it does not end, and was killed")
	}
	c.Wait()
	if w.Alive() {
		t.Error("it runs after it was killed")
	}
}

// TestDoomed: a process that was killed is known to end, at each moment until somebody has waited for it and after.
func TestDoomed(t *testing.T) {
	for n := range 300 {
		c := exec.Command("/bin/busybox", "sleep", "1000")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		p := OpenProcess(c.Process.Pid)
		if p.Doomed() {
			t.Errorf("process %d is, and was not killed", n)
		}
		c.Process.Kill()
		waited := make(chan error, 1)
		go func() { waited <- c.Wait() }()
		for over := false; !over; {
			select {
			case <-waited:
				over = true
			default:
			}
			if !p.Doomed() {
				t.Fatalf("process %d was killed, and is not", n)
			}
		}
		p.Close()
	}
}
