package storage

import (
	"bufio"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
)

func contextOf() context.Context { return context.Background() }

// A lifeProcess plays [life].
type lifeProcess struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

func startLife(t *testing.T, dir, driver string) *lifeProcess {
	t.Helper()
	cmd := nstest.Part("life", dir, driver)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l := &lifeProcess{cmd, bufio.NewReader(pipe)}
	if line, err := l.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return l
}

// kill ends it somewhere in its work: any moment is right.
func (l *lifeProcess) kill(t *testing.T, upTo int) {
	t.Helper()
	time.Sleep(time.Duration(rand.IntN(upTo*2000+1)) * time.Microsecond)
	if err := l.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	rest, _ := io.ReadAll(l.out)
	l.cmd.Wait()
	if s := strings.TrimSpace(string(rest)); s != "" {
		t.Errorf("it failed before: %s", s)
	}
}
