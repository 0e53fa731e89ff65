package monitor

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kakuri/kakuri/internal/seqpacket"
	"golang.org/x/sys/unix"
)

// TestEnding: whatever the pieces, the last whole lines are kept, and no more than a few kilobytes.
func TestEnding(t *testing.T) {
	var all strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&all, "line %d\n", i)
	}
	for _, size := range []int{1, 7, 100, lastBytes - 1, lastBytes, lastBytes + 1, 16 << 10, all.Len()} {
		var e ending
		for p := all.String(); p != ""; {
			n := min(size, len(p))
			e.add([]byte(p[:n]))
			p = p[n:]
			if len(e.buf) > 2*lastBytes {
				t.Fatalf("%d bytes kept", len(e.buf))
			}
		}
		got := e.lines()
		var want []string
		for i := 3000 - lastLines; i < 3000; i++ {
			want = append(want, fmt.Sprintf("line %d", i))
		}
		if !slices.Equal(got, want) {
			t.Errorf("pieces of %d: %q", size, got)
		}
	}
	var e ending
	e.add([]byte("one\r\ntwo\xff"))
	if got := e.lines(); !slices.Equal(got, []string{"one", "two\ufffd"}) {
		t.Errorf("%q", got)
	}
	if got := e.lines(); got != nil {
		t.Errorf("a second time: %q", got)
	}
	for _, end := range []string{"", "\n"} {
		e.add([]byte("before\n" + strings.Repeat("x", 3*lastBytes) + "the end" + end))
		if got := e.lines(); len(got) != 1 || !strings.HasSuffix(got[0], "xthe end") || len(got[0]) > lastBytes {
			t.Errorf("one long line: %q", got)
		}
	}
}

// TestNote: who is about to send a signal has it noted before, not at the same time.
func TestNote(t *testing.T) {
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	c := &Client{conn: ours}
	var returned atomic.Bool
	heard := make(chan string)
	go func() {
		buf := make([]byte, 4<<10)
		n, _, err := seqpacket.Receive(theirs, buf, 0)
		_, _, end := seqpacket.Receive(theirs, make([]byte, 1), 0)
		heard <- fmt.Sprintf("%q, %v, %v, late %v", buf[:min(n, 5)], err, end, returned.Load())
		theirs.Close()
	}()
	told := make(chan error)
	go func() {
		err := c.Note(unix.SIGUSR1)
		returned.Store(true)
		c.Close()
		told <- err
	}()
	if got, want := <-heard, fmt.Sprintf("%q, <nil>, EOF, late false", "B\n\x00\x00\x00"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if err := <-told; err != nil {
		t.Error(err)
	}
}
