package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
	"github.com/kakuri/kakuri/monitor"
	"golang.org/x/sys/unix"
)

// victim is a monitor that ends, as kill -9 would end it, before a step of its launch, and with "both" its command before it. $HOME, which a monitor gets of
// its command, is a directory, the number of the step, and this word, with commas between. The directory's file steps counts how far it has come.
func victim([]string) int {
	// No file is opened before the monitor begins: what is open then is closed, the Go runtime's own descriptors as well.
	home, word, _ := strings.Cut(os.Getenv("HOME"), ",")
	word, both := strings.CutSuffix(word, ",both")
	at, err := strconv.Atoi(word)
	if err != nil {
		return complain(err)
	}
	command := os.Getppid()
	monitor.BeforeStep = func(n int) {
		if n < at {
			_ = os.WriteFile(home+"/steps", []byte(strconv.Itoa(n+1)), 0o600)
			return
		}
		if both {
			_ = unix.Kill(command, unix.SIGKILL)
		}
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
	return monitor.Main()
}

// The monitor is killed when it comes to a step of the plan, for each step, alone or with the command that waits for it: that command says so, and the
// next one takes away whatever there is.
func TestKilledAtEveryStep(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	nstest.NoLeaks(t)
	output(t, kakuri(t, "run", "--rm", "--rootfs", root, "true")) // what stays is made now
	output(t, kakuri(t, "ps"))                                    // by who sweeps, too
	before := recordsNow(t)
	home := nstest.Dir(t)
	run := func(at, flags string) (out string, code int) {
		t.Helper()
		c := kakuri(t, append(append([]string{"run"}, strings.Fields(flags)...), "sh", "-c", "exit 7")...)
		c.Env = append(os.Environ(), "HOME="+home+","+at, "KAKURI_RUNTIME="+nstest.PartPath("victim"))
		said, _ := c.CombinedOutput()
		return string(said), c.ProcessState.ExitCode()
	}
	every := 1
	if testing.Short() {
		every = 5
	}
	for i, flags := range []string{"--rootfs " + root, "--rm --init --pid host --rootfs " + root, "--userns host --name killed --rootfs " + root, "host"} {
		if out, code := run(fmt.Sprint(1<<20), flags); code != 7 {
			t.Fatalf("%s: code %d: %s", flags, code, out)
		}
		steps, err := strconv.Atoi(readFile(filepath.Join(home, "steps")))
		if err != nil || steps < 20 {
			t.Fatalf("%d steps: %v", steps, err)
		}
		nothingLeft(t, before, flags)
		for n := i % every; n < steps; n += every {
			if i > 0 && n%3 != 0 {
				continue
			}
			ways := []string{"", ",both"}
			if testing.Short() {
				ways = ways[n/every%2:][:1] // in turns
			}
			for _, how := range ways {
				when := fmt.Sprintf("%s, killed before step %d%s", flags, n+1, how)
				out, code := run(fmt.Sprint(n)+how, flags)
				if how == "" && (code != 125 || out == "") || how != "" && code != -1 {
					t.Errorf("%s: code %d: %s", when, code, out)
				}
				nothingLeft(t, before, when)
				if t.Failed() {
					return
				}
			}
		}
	}
}
