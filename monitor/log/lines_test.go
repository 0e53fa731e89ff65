package log

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// A notebook is a driver that takes notes, and refuses as long as full says.
type notebook struct {
	got  []string
	full error
	room int // entries that it takes of a batch while it is full
}

func (n *notebook) keep(list []entry) (int, error) {
	for i, e := range list {
		if n.full != nil && i >= n.room {
			return i, n.full
		}
		end := "$"
		if e.more {
			end = "+"
		}
		n.got = append(n.got, fmt.Sprintf("%v %s%s", e.stream, e.line, end))
	}
	return len(list), nil
}

func (n *notebook) close() error { return nil }

// TestLines: whatever the pieces of a stream, its lines are those that Docker's copier would find: of 16 KiB at most, and what has
// no end without one.
func TestLines(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	text := "one\n\n" + x(pieceSize-1) + "\n" + x(pieceSize) + "\n" + x(2*pieceSize+3) + "\nlast"
	want := []string{
		"stdout one$", "stdout $", "stdout " + x(pieceSize-1) + "$",
		"stdout " + x(pieceSize) + "+", "stdout $",
		"stdout " + x(pieceSize) + "+", "stdout " + x(pieceSize) + "+", "stdout xxx$",
		"stdout last+",
	}
	for _, size := range []int{1, 2, 3, 7, 1000, pieceSize - 1, pieceSize, pieceSize + 1, 3 * pieceSize, len(text)} {
		n := &notebook{}
		l := &lines{out: counter{driver: n}}
		for p := []byte(text); len(p) > 0; {
			k := min(size, len(p))
			// Whoever writes uses its buffer again.
			piece := bytes.Clone(p[:k])
			l.Write(Stdout, piece, time.Now())
			clear(piece)
			p = p[k:]
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if !reflect.DeepEqual(n.got, want) {
			t.Errorf("pieces of %d: %d lines, want %d: %.100q", size, len(n.got), len(want), n.got)
		}
	}
}

// TestLineTime: of the lines of one write, and of writes at one time, each has a later stamp than the one before.
func TestLineTime(t *testing.T) {
	var got []entry
	l := &lines{out: counter{driver: keeper(func(list []entry) (int, error) { got = append(got, list...); return len(list), nil })}}
	at := time.Unix(100, 0)
	l.Write(Stdout, []byte("one\ntwo\nthree\n"), at)
	l.Write(Stderr, []byte("four\n"), at)
	l.Write(Stdout, []byte("five\n"), at.Add(10))
	var s []string
	for _, e := range got {
		s = append(s, fmt.Sprintf("%s %d", e.line, e.at.Sub(at)))
	}
	want := []string{"one 0", "two 1", "three 2", "four 3", "five 10"}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("stamps %q, want %q", s, want)
	}
}

// TestStamp: the time of a line in a json-file is as time.RFC3339Nano has it, whatever line was before it.
func TestStamp(t *testing.T) {
	f := &jsonForm{}
	for _, at := range []time.Time{
		time.Unix(100, 0), time.Unix(100, 1), time.Unix(100, 10), time.Unix(100, 999999999), time.Unix(101, 500000000), time.Unix(99, 123450000),
		time.Unix(1800000000, 7).In(time.FixedZone("", 5400)),
	} {
		got := string(f.append(nil, &entry{stream: Stdout, at: at, line: []byte("x")}))
		want := `{"log":"x\n","stream":"stdout","time":"` + at.UTC().Format(time.RFC3339Nano) + "\"}\n"
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestPartTime: all parts of a long line have the time of its first one, and a number that tells which line they are of.
func TestPartTime(t *testing.T) {
	var got []entry
	l := &lines{out: counter{driver: keeper(func(list []entry) (int, error) { got = append(got, list...); return len(list), nil })}}
	first := time.Unix(100, 0)
	l.Write(Stdout, bytes.Repeat([]byte("x"), pieceSize), first)
	l.Write(Stderr, []byte("other\n"), first.Add(1))
	l.Write(Stdout, []byte("end\nnext\n"), first.Add(2))
	var s []string
	for _, e := range got {
		s = append(s, fmt.Sprint(e.stream, e.at.Sub(first), e.part, e.serial, e.more))
	}
	want := []string{"stdout0s1 1 true", "stderr1ns0 0 false", "stdout0s2 1 false", "stdout2ns0 0 false"}
	for i := range want {
		want[i] = strings.ReplaceAll(want[i], " ", "")
	}
	for i := range s {
		s[i] = strings.ReplaceAll(s[i], " ", "")
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("%q, want %q", s, want)
	}
}

type keeper func([]entry) (int, error)

func (k keeper) keep(l []entry) (int, error) { return k(l) }
func (k keeper) close() error                { return nil }

// TestLost: lines that could not be kept are counted, and the log says so before the next one that can.
func TestLost(t *testing.T) {
	n := &notebook{full: unix.ENOSPC, room: 1}
	l := &lines{out: counter{driver: n}}
	l.Write(Stdout, []byte("a\nb\nc\n"), time.Now())
	n.room = 0
	l.Write(Stdout, []byte("d\ne\n"), time.Now())
	n.full = nil
	l.Write(Stderr, []byte("f\n"), time.Now())
	want := []string{"stdout a$", "stderr kakuri: 4 lines are missing from the log here: no space left on device$", "stderr f$"}
	if !reflect.DeepEqual(n.got, want) {
		t.Errorf("%q, want %q", n.got, want)
	}
	n.full = unix.ENOSPC
	l.Write(Stdout, []byte("g\n"), time.Now())
	if err := l.Close(); err == nil || !strings.Contains(err.Error(), "1 lines") {
		t.Errorf("closed with a line lost at the end: %v", err)
	}
}

// TestRing: a driver that hangs holds up nobody, memory is bounded, and the log says what is missing.
func TestRing(t *testing.T) {
	hang, started := make(chan struct{}), make(chan struct{}, 100)
	n := &notebook{}
	d := keeper(func(l []entry) (int, error) { started <- struct{}{}; <-hang; return n.keep(l) })
	l := &lines{out: counter{driver: newRing(d, 4*(1000+entryCost))}}
	line := append(bytes.Repeat([]byte("x"), 1000), '\n')
	l.Write(Stdout, line, time.Now())
	<-started // the first is with the driver, and still counts
	for range 10 {
		l.Write(Stdout, line, time.Now())
	}
	close(hang)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if len(n.got) != 5 || !strings.HasPrefix(n.got[4], "stderr kakuri: 7 lines are missing from the log here: the buffer of mode=non-blocking was full") {
		t.Errorf("%d entries, the last: %.200q", len(n.got), n.got[len(n.got)-1])
	}
}

// TestRingOverfilled: one write of more lines than the buffer has room for is not the end of the log, and whoever closes it does not wait for ever.
func TestRingOverfilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &notebook{}
		l := &lines{out: counter{driver: newRing(n, 4*entryCost)}}
		synctest.Wait() // who hands on waits for something to do
		l.Write(Stdout, bytes.Repeat([]byte("\n"), 10), time.Now())
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		want := []string{"stdout $", "stdout $", "stdout $", "stdout $", "stderr kakuri: 6 lines are missing from the log here: " + errFull.Error() + "$"}
		if !reflect.DeepEqual(n.got, want) {
			t.Errorf("%q, want %q", n.got, want)
		}
	})
}
