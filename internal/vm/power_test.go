package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"testing"
)

// A client of a recorder, as qemu is.
type client struct {
	t *testing.T
	net.Conn
}

func dial(t *testing.T, r *recorder, export string) client {
	t.Helper()
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	go r.serve(l)
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); l.Close() })
	c := client{t, conn}
	if hello := c.read(18); binary.BigEndian.Uint64(hello) != nbdMagic {
		t.Fatalf("%x", hello)
	}
	c.send(uint32(nbdFixedNewstyle | nbdNoZeroes))
	// An option that it does not know, and one that it does.
	c.send(uint64(nbdOptMagic), uint32(7), uint32(3), []byte("abc"))
	if a := c.read(20); binary.BigEndian.Uint32(a[12:]) != nbdRepUnsupported {
		t.Fatalf("%x", a)
	}
	c.send(uint64(nbdOptMagic), uint32(nbdOptExportName), uint32(len(export)), []byte(export))
	return c
}

func (c client) send(parts ...any) {
	c.t.Helper()
	for _, p := range parts {
		if err := binary.Write(c, binary.BigEndian, p); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c client) read(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		c.t.Fatal(err)
	}
	return b
}

// do is one request; the answer is its error's number.
func (c client) do(kind, flags int, at int64, long int, data string) uint32 {
	c.t.Helper()
	c.send(uint32(nbdRequestMagic), uint16(flags), uint16(kind), uint64(99), uint64(at), uint32(long), []byte(data))
	a := c.read(16)
	if binary.BigEndian.Uint32(a) != nbdSimpleMagic || binary.BigEndian.Uint64(a[8:]) != 99 {
		c.t.Fatalf("%x", a)
	}
	return binary.BigEndian.Uint32(a[4:])
}

func (c client) write(at int64, data string, flags int) {
	c.t.Helper()
	if e := c.do(nbdWrite, flags, at, len(data), data); e != 0 {
		c.t.Fatal(e)
	}
}

// What was flushed is on the disk after a cut; what was not is there or not; nothing that came later is.
func TestRecorder(t *testing.T) {
	base := bytes.Repeat([]byte("."), 4*block)
	r := newRecorder(base)
	disk, marks := dial(t, r, diskExport), dial(t, r, markExport)
	if size := binary.BigEndian.Uint64(disk.read(10)); size != uint64(len(base)) {
		t.Errorf("%d bytes", size)
	}
	if size := binary.BigEndian.Uint64(marks.read(10)); size != markSize {
		t.Errorf("%d bytes", size)
	}
	disk.write(0, "first", 0)
	if e := disk.do(nbdFlush, 0, 0, 0, ""); e != 0 {
		t.Error(e)
	}
	marks.write(0, "has thing one\n\x00\x00", 0)
	disk.write(0, "FI", 0)
	disk.write(3*block-2, "both", 0)
	marks.write(0, "going thing one\n", 0)
	disk.write(block, "last", nbdFlagFUA)
	marks.write(0, lastMark+"\n", 0)
	<-r.ended
	for _, wrong := range []struct {
		kind int
		at   int64
		long int
	}{{nbdRead, 4*block - 1, 2}, {nbdRead, -1, 1}, {9, 0, 1}} {
		if e := disk.do(wrong.kind, 0, wrong.at, wrong.long, ""); e != nbdEINVAL {
			t.Errorf("%+v: %d", wrong, e)
		}
	}
	if e := disk.do(nbdRead, 0, 0, 6, ""); e != 0 || string(disk.read(6)) != "FIrst." {
		t.Errorf("error %d", e)
	}

	all, none := func() bool { return true }, func() bool { return false }
	text := func(b []byte) string {
		return fmt.Sprintf("%s %s %s", b[:5], b[block:block+4], b[3*block-2:3*block+2])
	}
	for _, test := range []struct {
		at   int
		keep func() bool
		want string
		have string
	}{
		{0, all, "..... .... ....", "[]"},
		{1, none, "..... .... ....", "[]"},
		{1, all, "first .... ....", "[]"},
		{2, none, "first .... ....", "[]"},
		{3, none, "first .... ....", "[thing one]"},
		{5, none, "first .... ....", "[thing one]"},
		{5, all, "FIrst .... both", "[thing one]"},
		{6, all, "FIrst .... both", "[]"},
		{7, none, "first .... ....", "[]"}, // the write that came with its own flush, before that
		{8, none, "FIrst last both", "[]"},
		{9, none, "FIrst last both", "[]"},
	} {
		log := r.log[:test.at]
		if got, have := text(cut(base, log, test.keep)), fmt.Sprint(held(log)); got != test.want || have != test.have {
			t.Errorf("after %d: %q %s, want %q %s", test.at, got, have, test.want, test.have)
		}
	}

	// A list of what has to be there lies behind the disk, and the same seed gives the same disks.
	var before map[string]string
	for range 2 {
		files, err := r.cuts(t.TempDir(), 5, rand.New(rand.NewPCG(7, 0)))
		if err != nil || len(files) != 5 {
			t.Fatalf("%v %v", files, err)
		}
		read := map[string]string{}
		for name, file := range files {
			data, err := os.ReadFile(file)
			if err != nil || len(data) <= len(base) || !bytes.HasPrefix(data[len(base):], []byte("have\x00")) {
				t.Errorf("%s: %v, %d bytes", name, err, len(data))
			}
			read[name] = string(data)
		}
		for name := range before {
			if before[name] != read[name] {
				t.Errorf("%s is another disk", name)
			}
		}
		before = read
	}
	if slices.Equal([]byte(before[cutName(0)]), []byte(before[cutName(4)])) && slices.Equal([]byte(before[cutName(1)]), []byte(before[cutName(3)])) {
		t.Error("all cuts are at the same moment")
	}
}
