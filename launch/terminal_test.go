package launch_test

import (
	"bufio"
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kakuri/kakuri/abi"
	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/launch"
	"github.com/kakuri/kakuri/plan"
)

// onTerminal runs a plan of ttySteps whose program is program, and gives its
// process and what comes out of the terminal, line by line.
func onTerminal(t *testing.T, program plan.Step, more ...plan.Step) (*launch.Process, *bufio.Reader) {
	t.Helper()
	steps := ttySteps(t)
	steps[0] = clone(abi.NSMount, abi.NSPID)
	steps = slices.Insert(steps, 5, in(&plan.Bind{Source: nstest.Exe, Dest: "/counter"}))
	steps = slices.Concat(steps[:len(steps)-1], more, []plan.Step{in(&plan.Sigmask{}), program})
	p, err := launch.Run(context.Background(), plan.Plan{Steps: steps}, launch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Master == nil {
		t.Fatal("no master side")
	}
	// A test that hangs ends with its program, and an error of the read.
	timer := time.AfterFunc(2*time.Minute, func() { p.Signal(syscall.SIGKILL) })
	t.Cleanup(func() { timer.Stop(); p.Signal(syscall.SIGKILL); p.Wait(); p.Master.Close() })
	return p, bufio.NewReader(p.Master)
}

func line(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	text, err := r.ReadString('\n')
	if err != nil && text == "" {
		t.Fatal(err)
	}
	return strings.TrimRight(text, "\r\n")
}

// Both sides talk through the terminal, which is /dev/console as well, has the
// size and owner that were asked for, and controls the session.
func TestTerminal(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p, out := onTerminal(t, sh(`tty; stty size; stat -c '%t:%T' /dev/console /dev/pts/0; stat -c '%u:%g' /dev/pts/0; `+
		`for n in 0 1 2; do test -t $n || echo no terminal on $n; done; echo to the caller >/dev/tty; read a; echo "got <$a>"; read b; exit 9`))
	for _, want := range []string{"/dev/pts/0", "33 101", "88:0", "88:0", "7:0", "to the caller"} {
		if got := line(t, out); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if _, err := p.Master.WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"hello", "got <hello>"} { // the echo, then the answer
		if got := line(t, out); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if _, err := p.Master.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	if st, err := p.Wait(); err != nil || st.ExitStatus() != 9 {
		t.Errorf("%v: code %d", err, st.ExitStatus())
	}
}

// The program sees its own session, and no other descriptor than the terminal.
func TestTerminalSession(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	steps := ttySteps(t)
	steps = slices.Insert(steps, len(steps)-1, in(&plan.CloseFDs{First: 3}))
	p, err := launch.Run(context.Background(), plan.Plan{Steps: steps}, launch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Master.Close()
	out := bufio.NewReader(p.Master)
	text, _ := out.ReadString('}')
	for {
		more, err := out.ReadString('}')
		text += more
		if err != nil {
			break // EIO: the other side is closed
		}
	}
	st, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	v := parseView(t, result{strings.ReplaceAll(text, "\r\n", "\n"), st})
	if v.SID != v.PID || v.TTY != "33 101" {
		t.Errorf("pid %d in session %d, its terminal: %s", v.PID, v.SID, v.TTY)
	}
	for _, n := range []string{"0", "1", "2"} {
		if v.FDs[n] != "/dev/pts/0" {
			t.Errorf("descriptor %s is %s", n, v.FDs[n])
		}
	}
	onlyStreams(t, v)
}

// Control characters are signals to the foreground, once each.
func TestTerminalInterrupt(t *testing.T) {
	nstest.Root(t)
	for name, more := range map[string][]plan.Step{"command is the leader": nil, "init is the leader": {in(&plan.Init{})}} {
		t.Run(name, func(t *testing.T) {
			nstest.NoLeaks(t)
			p, out := onTerminal(t, in(&plan.Exec{Args: []string{"/counter"}}), more...)
			if got := line(t, out); got != "ready" {
				t.Fatalf("%q", got)
			}
			if _, err := p.Master.WriteString("\x03"); err != nil {
				t.Fatal(err)
			}
			interrupts := 0
			for got := ""; got != "15"; {
				if got = strings.TrimPrefix(line(t, out), "^C"); got == "2" {
					interrupts++
					p.Signal(syscall.SIGTERM)
				}
			}
			if interrupts != 1 {
				t.Errorf("%d interrupts for one control-C", interrupts)
			}
			if st, err := p.Wait(); err != nil || st.ExitStatus() != 5 {
				t.Errorf("%v: code %d", err, st.ExitStatus())
			}
		})
	}
}

// When the caller's side goes away, the session is told.
func TestTerminalHangup(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	p, out := onTerminal(t, sh(`trap 'exit 3' HUP; echo up; while :; do sleep 0.05; done`), in(&plan.DefaultSignals{Signals: []abi.Signal{abi.SIGHUP}}))
	if got := line(t, out); got != "up" {
		t.Fatalf("%q", got)
	}
	p.Master.Close()
	if st, err := p.Wait(); err != nil || st.ExitStatus() != 3 {
		t.Errorf("%v: ended by %#x", err, int(st))
	}
}

// A failure after the terminal was handed over gives its master side back.
func TestTerminalOfAFailure(t *testing.T) {
	nstest.Root(t)
	nstest.NoLeaks(t)
	steps := ttySteps(t)
	steps[len(steps)-1] = in(&plan.Exec{Args: []string{"/no/such"}})
	if _, err := launchSteps(t, launch.Options{}, steps...); err == nil {
		t.Error("a missing program worked")
	}
}
