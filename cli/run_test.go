package cli

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// Signals that kakuri run gets go to the command.
func TestRunSignals(t *testing.T) {
	place(t)
	nstest.NoLeaks(t, "/run/kakuri/containers")
	const shell = `for s in HUP INT QUIT TERM USR1 USR2 WINCH; do trap "echo got $s; exit 3" $s; done; echo up; while :; do sleep 0.01; done`
	for _, c := range []struct {
		options string
		sent    syscall.Signal
		got     string
	}{
		{"", syscall.SIGTERM, "TERM"},
		{"", syscall.SIGINT, "INT"},
		{"", syscall.SIGHUP, "HUP"},
		{"", syscall.SIGQUIT, "QUIT"},
		{"", syscall.SIGUSR1, "USR1"},
		{"--init", syscall.SIGUSR2, "USR2"},
		{"--init", syscall.SIGTERM, "TERM"},
		{"--stop-signal USR1", syscall.SIGTERM, "TERM"}, // the stop signal is stop's, as with Docker
		{"--stop-signal USR1", syscall.SIGINT, "INT"},
		{"--pid host", syscall.SIGTERM, "TERM"},
	} {
		args := append(append([]string{"run", "--rm"}, strings.Fields(c.options)...), "host", "sh", "-c", shell)
		run := exec.Command("kakuri", args...)
		out, err := run.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		if line, err := lines.ReadString('\n'); err != nil || line != "up\n" {
			t.Fatalf("%s: %q, %v", c.options, line, err)
		}
		nstest.Until(t, "signals are passed on", func() bool { return attends(run.Process.Pid) })
		run.Process.Signal(c.sent)
		line, _ := lines.ReadString('\n')
		run.Wait()
		if code := shellCode(run.ProcessState); line != "got "+c.got+"\n" || code != 3 {
			t.Errorf("%s, %v: %q, exit code %d; want %s", c.options, c.sent, line, code, c.got)
		}
	}
}

// Who leaves attach or exec by the detach keys is told so, and gets 1, as with Docker: the command has not ended. With start -a it is 0.
func TestDetachedCode(t *testing.T) {
	place(t)
	nstest.NoLeaks(t, "/run/kakuri/containers")
	if out, err := exec.Command("kakuri", "run", "-dit", "--name", "left", "host", "sh").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer exec.Command("kakuri", "rm", "-f", "left").Run()
	config := t.TempDir()
	if err := os.WriteFile(config+"/config.json", []byte(`{"detachKeys": "x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args, says string
		code       int
	}{
		{"attach --detach-keys x left", "kakuri: read escape sequence\n", 1}, {"start -ai --detach-keys x left", "", 0},
		{"--config " + config + " attach left", "kakuri: read escape sequence\n", 1}, {"--config " + config + " start -ai left", "", 0},
		{"--config " + config + " exec -it left sh", "kakuri: read escape sequence\n", 1},
	} {
		master, tty := terminal(t)
		go io.Copy(io.Discard, master)
		run := exec.Command("kakuri", strings.Fields(c.args)...)
		var says bytes.Buffer
		run.Stdin, run.Stdout, run.Stderr = tty, tty, &says
		run.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		nstest.Until(t, "it reads keys", func() bool {
			now, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
			return err == nil && now.Lflag&unix.ICANON == 0
		})
		master.WriteString("x")
		run.Wait()
		if code := shellCode(run.ProcessState); code != c.code || says.String() != c.says {
			t.Errorf("%s: exit code %d, %q; want %d, %q", c.args, code, says.String(), c.code, c.says)
		}
		if out, err := exec.Command("kakuri", "inspect", "-f", "{{.State.Running}}", "left").CombinedOutput(); string(out) != "true\n" {
			t.Errorf("%s: it runs: %s %v", c.args, out, err)
		}
	}
}

// Keys that are none end run with 1, as with Docker, where somebody could type them: nothing is left of it. With -d nobody asks.
func TestDetachKeysThatAreNone(t *testing.T) {
	place(t)
	config := t.TempDir()
	if err := os.WriteFile(config+"/config.json", []byte(`{"detachKeys": "foo-bar"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, code := range map[string]int{
		"run --rm --detach-keys foo-bar host true": 1, "run --rm -d --detach-keys foo-bar host true": 0,
		"--config " + config + " run --rm host true": 1, "--config " + config + " run --rm -d host true": 0, "--config " + config + " run --rm --detach-keys a host true": 0,
	} {
		run := exec.Command("kakuri", strings.Fields(args)...)
		out, _ := run.CombinedOutput()
		if got := shellCode(run.ProcessState); got != code || (code == 1) != strings.Contains(string(out), "invalid detach keys (foo-bar)") {
			t.Errorf("%s: exit code %d, %s", args, got, out)
		}
	}
	nstest.Until(t, "they are gone", func() bool {
		out, err := exec.Command("kakuri", "ps", "-aq").Output()
		return err == nil && len(out) == 0
	})
}

// terminal is a pseudo terminal with its two ends.
func terminal(t *testing.T) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); tty.Close() })
	return master, tty
}

// On a terminal, run -it hands over size, control characters and mode, and gives back
// the mode as it was.
func TestRunTerminal(t *testing.T) {
	place(t)
	nstest.NoLeaks(t, "/run/kakuri/containers")
	master, tty := terminal(t)
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 77}); err != nil {
		t.Fatal(err)
	}
	before, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	run := exec.Command("kakuri", "run", "--rm", "-it", "host", "sh", "-c", `stty size; trap 'stty size' WINCH; trap 'echo interrupted' INT; sleep 0.1; echo ready
		while :; do read -r line || continue; echo "line $line"; [ "$line" = end ] && exit 5; done`)
	run.Stdin, run.Stdout, run.Stderr = tty, tty, tty
	run.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	defer run.Wait()
	seen := make(chan string)
	go func() {
		defer close(seen)
		var all bytes.Buffer
		for buf := make([]byte, 4096); ; {
			n, err := master.Read(buf)
			if err != nil {
				return
			}
			all.Write(buf[:n])
			seen <- all.String()
		}
	}()
	text := ""
	until := func(want string) {
		t.Helper()
		for limit := time.After(2 * time.Minute); !strings.Contains(text, want); {
			select {
			case more, ok := <-seen:
				if !ok {
					t.Fatalf("no %q: %q", want, text)
				}
				text = more
			case <-limit:
				run.Process.Kill()
				t.Fatalf("no %q: %q", want, text)
			}
		}
	}
	until("33 77\r\n")
	until("ready\r\n")
	if now, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS); err != nil || now.Lflag&unix.ICANON != 0 {
		t.Errorf("the caller's terminal is not raw: %v", err)
	}
	master.WriteString("hello\r")
	until("line hello\r\n")
	master.WriteString("\x03")
	master.WriteString("\r") // the signal may come just before the read, and its trap then runs after it
	until("interrupted\r\n")
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 44, Col: 88}); err != nil {
		t.Fatal(err)
	}
	// A shell runs traps between lines, and the signal may come just before it reads one.
	quit, quiet := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(quiet)
		for {
			master.WriteString("\r")
			select {
			case <-quit:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	until("44 88\r\n")
	close(quit)
	<-quiet
	master.WriteString("end\r")
	until("line end\r\n")
	go func() {
		for range seen {
		}
	}()
	run.Wait()
	if code := shellCode(run.ProcessState); code != 5 {
		t.Errorf("exit code %d", code)
	}
	if after, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS); err != nil || *after != *before {
		t.Errorf("the terminal's mode: %+v, %v, was %+v", after, err, before)
	}
	tty.Close()
}
