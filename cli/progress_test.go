package cli

import (
	"bytes"
	"testing"

	"github.com/kakuri/kakuri/image"
	"golang.org/x/sys/unix"
)

func TestProgressText(t *testing.T) {
	for _, c := range []struct {
		e       image.Event
		columns int
		want    string
	}{
		{image.Event{ID: "f00", Status: "Waiting"}, 80, "f00: Waiting"},
		{image.Event{Status: "Digest: sha256:x"}, 80, "Digest: sha256:x"},
		{image.Event{ID: "f00", Status: "Downloading", Current: 5e6, Total: 1e7}, 50, "f00: Downloading [===========>          ] 5MB/10MB"},
		{image.Event{ID: "f00", Status: "Downloading", Current: 1e7, Total: 1e7}, 50, "f00: Downloading [=====================] 10MB/10MB"},
		{image.Event{ID: "f00", Status: "Downloading", Current: 2e7, Total: 1e7}, 30, "f00: Downloading 10MB/10MB"},
		{image.Event{ID: "f00", Status: "Extracting", Current: 1234}, 80, "f00: Extracting 1.23kB"},
		{image.Event{ID: "f00", Status: "Downloading", Current: 1, Total: 1e7}, 12, "f00: Downlo…"},
	} {
		if got := progressText(c.e, c.columns); got != c.want {
			t.Errorf("%+v in %d columns: %q, want %q", c.e, c.columns, got, c.want)
		}
	}
}

// Without a terminal each new status is a line, and no step of a bar; what a registry
// says cannot act on a terminal that reads it later.
func TestProgressLines(t *testing.T) {
	var errs bytes.Buffer
	p := showProgress(&errs)
	for _, e := range []image.Event{
		{ID: "latest", Status: "Pulling from library/busybox"}, {ID: "f00", Status: "Pulling fs layer"}, {ID: "f00", Status: "Downloading", Current: 1, Total: 2},
		{ID: "f00", Status: "Downloading", Current: 2, Total: 2}, {ID: "f00", Status: "Pull complete"}, {ID: "f00", Status: "Pull complete"}, {Status: "Status: \x1b[2Jdone"},
	} {
		p.tell(e)
	}
	p.done()
	const want = "latest: Pulling from library/busybox\nf00: Pulling fs layer\nf00: Pull complete\nStatus: \\x1b[2Jdone\n"
	if errs.String() != want {
		t.Errorf("%q, want %q", &errs, want)
	}
}

// On a terminal each blob has a line, which is written over.
func TestProgressTerminal(t *testing.T) {
	master, tty := terminal(t)
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 3, Col: 40}); err != nil {
		t.Fatal(err)
	}
	p := showProgress(tty)
	for _, e := range []image.Event{{ID: "a", Status: "Waiting"}, {ID: "b", Status: "Waiting"}, {ID: "a", Status: "Pull complete"}, {ID: "c", Status: "x\x1b[2J"}, {Status: "Status: done"}} {
		p.tell(e)
	}
	p.done()
	p.done()
	tty.WriteString("END")
	var got []byte
	for buf := make([]byte, 1024); !bytes.HasSuffix(got, []byte("END")); {
		n, err := master.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:n]...)
	}
	const line = "\x1b[K\r\n"
	want := "\ra: Waiting" + line +
		"\x1b[1A\ra: Waiting" + line + "\rb: Waiting" + line +
		"\x1b[2A\ra: Pull complete" + line + "\rb: Waiting" + line +
		"\x1b[2A\rb: Waiting" + line + "\rc: x\\x1b[2J" + line +
		"\x1b[2A\rb: Waiting" + line + "\rc: x\\x1b[2J" + line + "Status: done\r\nEND"
	if string(got) != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}
