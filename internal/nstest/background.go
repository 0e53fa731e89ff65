package nstest

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Background starts a command, and gives the first line that it prints, without its end, and its standard input.
func Background(t testing.TB, c *exec.Cmd) (line string, stdin io.Closer) {
	t.Helper()
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr // why it did not start
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for one := make([]byte, 1); ; {
		if _, err := stdout.Read(one); err != nil || one[0] == '\n' {
			return b.String(), stdin
		}
		b.WriteByte(one[0])
	}
}
