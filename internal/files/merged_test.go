package files

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

func mergedPipes(t *testing.T) (r, w [2]*os.File) {
	t.Helper()
	for i := range r {
		var err error
		if r[i], w[i], err = os.Pipe(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r[i].Close(); w[i].Close() })
	}
	return r, w
}

// readAll reads until all have ended: what came, each piece with the pipe that it came from.
func readAll(m *Merged, size int) (string, error) {
	var out strings.Builder
	b := make([]byte, size)
	var last error
	for m.Open() {
		from, n, err := m.Read(b)
		if n > 0 {
			fmt.Fprintf(&out, "%d%s ", from, b[:n])
		}
		if err != nil {
			last = err
			fmt.Fprintf(&out, "%d! ", from)
		}
	}
	return out.String(), last
}

// TestMerged: what came to two pipes before anybody reads is read in its order, whichever the first one is, and a pipe that has ended does not hold up the other one.
func TestMerged(t *testing.T) {
	for first := range 2 {
		r, w := mergedPipes(t)
		m, err := Merge(r[:]...)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		second := 1 - first
		write := func(i int, text string) {
			if _, err := w[i].WriteString(text); err != nil {
				t.Fatal(err)
			}
		}
		write(first, "a")
		write(second, "b")
		w[first].Close()
		var got string
		b, ended := make([]byte, 10), false
		for !ended {
			from, n, err := m.Read(b)
			got += fmt.Sprintf("%d%s ", from, b[:n])
			ended = err != nil
		}
		write(second, "c")
		w[second].Close()
		rest, err := readAll(m, 10)
		if got, want := got+rest, fmt.Sprintf("%da %db %d %dc %d! ", first, second, first, second, second); got != want || err != io.EOF {
			t.Errorf("%q, %v: want %q", got, err, want)
		}
	}
}

// TestMergedRest: after the deadline that is read which is there then, in its order, and no more.
func TestMergedRest(t *testing.T) {
	r, w := mergedPipes(t)
	m, err := Merge(r[:]...)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	w[1].WriteString("ab")
	w[0].WriteString("cd")
	if err := m.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if from, n, err := m.Read(b); from != 1 || n != 1 || err != nil || b[0] != 'a' {
		t.Fatalf("%d, %d, %v, %q", from, n, err, b)
	}
	w[1].WriteString("now")
	if got, err := readAll(m, 1); got != "0c 1b 0d 0! " || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q, %v", got, err)
	}
	// It begins anew, by another one.
	next, err := Merge(r[:]...)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	w[0].Close()
	w[1].Close()
	if got, err := readAll(next, 10); got != "0! 1now 1! " && got != "1now 0! 1! " || err != io.EOF {
		t.Errorf("%q, %v", got, err)
	}
}

// TestMergedWaits: a deadline ends a read that waits.
func TestMergedWaits(t *testing.T) {
	r, _ := mergedPipes(t)
	m, err := Merge(r[:]...)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	time.AfterFunc(10*time.Millisecond, func() { m.SetReadDeadline(time.Now()) })
	if got, err := readAll(m, 10); got != "0! " || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q, %v", got, err)
	}
}
