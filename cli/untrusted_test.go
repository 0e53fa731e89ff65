package cli

import (
	"bytes"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/internal/nstest"
)

// What strangers name, label and write cannot act on the terminal of who lists it, in no
// format; logs and exec are raw, as the container's own terminal would be.
func TestUntrustedOnTerminal(t *testing.T) {
	place(t)
	nstest.NoLeaks(t, "/run/kakuri/containers")
	const evil = "\x1b]0;owned\a\u202e\u009b2J\r"
	root := nstest.RootFS(t)
	create := exec.Command("kakuri", "create", "--name", "untrusted", "--label", "evil="+evil, "-e", "EVIL="+evil, "--rootfs", root, "sh", "-c", ": "+evil)
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer exec.Command("kakuri", "rm", "-f", "untrusted").Run()
	for _, args := range [][]string{
		{"ps", "-a", "--no-trunc"}, {"ps", "-a", "--format", "{{.Labels}} {{.Command}}"}, {"ps", "-a", "--format", "{{.Label \"evil\"}}"}, {"ps", "-a", "--format", "json"}, {"ps", "-a", "--format", "table {{.Labels}}"},
		{"inspect", "untrusted"}, {"inspect", "-f", "{{.Config.Env}} {{index .Config.Labels \"evil\"}}", "untrusted"},
		{"rm", "untrusted" + evil}, {"events", "--since", "1h", "--until", "0s"}, {"events", "--since", "1h", "--until", "0s", "--format", "{{.Actor.Attributes}}"},
	} {
		text := onTerminal(t, args...)
		if i := strings.IndexAny(text, "\x1b\a\u202e\u009b"); i >= 0 || strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\r") {
			t.Errorf("kakuri %q writes control characters: %q", args, text)
		}
		if args[0] != "events" && !strings.Contains(text, "owned") {
			t.Errorf("kakuri %q does not show what it should: %q", args, text)
		}
	}
}

// onTerminal is what a command line writes to the terminal that it has.
func onTerminal(t *testing.T, args ...string) string {
	t.Helper()
	master, tty := terminal(t)
	c := exec.Command("kakuri", args...)
	c.Stdin, c.Stdout, c.Stderr = tty, tty, tty
	var all bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(&all, master)
	}()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	tty.Close() // the last one: the master's reader ends
	<-done
	return all.String()
}

// What an image's labels have of lines is within the event's own.
func TestEventIsOneLine(t *testing.T) {
	var e engine.Event
	e.Type, e.Action = "container", "start"
	e.Actor.ID, e.Actor.Attributes = "abc", map[string]string{"a": "x\n2030-01-01T00:00:00Z container die abc\x1b[2J"}
	if text := eventText(e); strings.ContainsAny(text, "\n\x1b") || !strings.HasSuffix(text, `container start abc (a=x\n2030-01-01T00:00:00Z container die abc\x1b[2J)`) {
		t.Errorf("%q", text)
	}
}
