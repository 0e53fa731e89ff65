package engine

import (
	"bufio"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// terminal is a new one, at which nobody types: what a program has of it.
func terminal(t *testing.T) (slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return slave
}

func isCooked(t *testing.T, f *os.File) bool {
	t.Helper()
	mode, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return mode.Lflag&unix.ICANON != 0 && mode.Lflag&unix.ECHO != 0
}

// A signal that ends the command leaves the terminal as it was.
func TestRawTerminalEnds(t *testing.T) {
	nstest.Root(t)
	for _, sig := range deadly {
		slave := terminal(t)
		c := nstest.Part("raw")
		c.Stdin = slave
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		line, _ := bufio.NewReader(out).ReadString('\n')
		if line != "raw\n" || isCooked(t, slave) {
			t.Errorf("%v: %q, and the terminal is not raw", sig, line)
		}
		c.Process.Signal(sig)
		c.Wait()
		if c.ProcessState.Success() || !isCooked(t, slave) {
			t.Errorf("%v: %v, the terminal as before: %v", sig, c.ProcessState, isCooked(t, slave))
		}
	}
}

// raw makes its terminal raw, says so, and waits for a signal.
func raw([]string) int {
	makeRaw(os.Stdin, true)
	fmt.Println("raw")
	time.Sleep(time.Minute)
	return 0
}

type writerFunc func(p []byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }

// Who is attached to the output of a terminal alone keeps a terminal of his own at which Ctrl-C is a signal.
func TestAttachWithoutStdinIsCooked(t *testing.T) {
	nstest.Root(t)
	root := nstest.RootFS(t)
	e := open(t)
	cfg := asleep(root)
	cfg.TTY, cfg.Interactive, cfg.Command = true, true, []string{"sh", "-c", "while :; do echo out; sleep 0.1; done"}
	c := started(t, e, cfg)
	for _, without := range []bool{true, false} {
		slave := terminal(t)
		came := make(chan bool, 1)
		done := make(chan error, 1)
		go func() {
			_, err := e.Attach(t.Context(), c.ID, AttachOptions{NoStdin: without}, Streams{In: slave, Terminal: slave, Out: writerFunc(func(p []byte) (int, error) {
				select {
				case came <- true:
				default:
				}
				return len(p), nil
			})})
			done <- err
		}()
		select {
		case <-came:
		case err := <-done:
			t.Fatal(err)
		}
		if isCooked(t, slave) != without {
			t.Errorf("without stdin %v: cooked %v", without, !without)
		}
		if without {
			continue
		}
		if err := e.Remove(t.Context(), c.ID, RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
		<-done
	}
}
