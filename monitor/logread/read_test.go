package logread

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kakuri/kakuri/monitor/log"
	"golang.org/x/sys/unix"
)

var begin = time.Date(2026, 11, 26, 12, 0, 0, 123456789, time.UTC)

func open(t testing.TB, driver, file string, options map[string]string) log.Sink {
	t.Helper()
	s, err := log.Open(log.Config{Driver: driver, File: file, Options: options})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func text(t testing.TB, driver, file string, o Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := Read(context.Background(), driver, file, o, func(l Line) error { b.Write(l.Text); return nil }); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func all() Options { return Options{Tail: -1} }

func forms(t *testing.T, f func(t *testing.T, driver string)) {
	for _, driver := range []string{"json-file", "local"} {
		t.Run(driver, func(t *testing.T) { f(t, driver) })
	}
}

// TestRead: whatever bytes a container writes, its log has them, streams and times with them.
func TestRead(t *testing.T) {
	forms(t, func(t *testing.T, driver string) {
		file := filepath.Join(t.TempDir(), "c.log")
		s := open(t, driver, file, nil)
		every := make([]byte, 256)
		for i := range every {
			every[i] = byte(i)
		}
		lines := []string{"plain\n", "\n", "<a href=\"b\">&c\\\u2028\u2029\ufffd\U0001f600\r\n", "\t\x1b[1mbold\x7f\n", strings.Repeat("é", 20000) + "\n", "no end"}
		if driver == "local" {
			lines[3] += string(every[11:]) + "\n" // JSON has no words for what is no UTF-8
		}
		for i, l := range lines {
			s.Write(log.Stream(1+i%2), []byte(l), begin.Add(time.Duration(i)))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		want := lines[0] + lines[1] + lines[2] + lines[3] + lines[4] + lines[5]
		if driver == "json-file" {
			// 16 KiB is not the end of a character.
			cut := strings.ToValidUTF8(lines[4][:0], "")
			for p := []byte(strings.TrimSuffix(lines[4], "\n")); len(p) > 0; p = p[min(16384, len(p)):] {
				cut += strings.ToValidUTF8(string(p[:min(16384, len(p))]), "\ufffd")
			}
			want = lines[0] + lines[1] + lines[2] + lines[3] + cut + "\n" + lines[5]
		}
		if got := text(t, driver, file, all()); got != want {
			t.Errorf("got  %.300q\nwant %.300q", got, want)
		}
		i := 0
		Read(context.Background(), driver, file, all(), func(l Line) error {
			if i < 4 && (!l.Time.Equal(begin.Add(time.Duration(i))) || l.Stream != log.Stream(1+i%2)) {
				t.Errorf("entry %d: %v %v", i, l.Time, l.Stream)
			}
			i++
			return nil
		})
	})
}

// TestDockersForm compares what is written with what Docker's json-file writes for the same.
func TestDockersForm(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.log")
	s, err := log.Open(log.Config{File: file, Attrs: map[string]string{"tag": "t/<1>", "env": "a\"b"}})
	if err != nil {
		t.Fatal(err)
	}
	s.Write(log.Stderr, []byte("a<\t\"\\\x01\xff\r\n"), begin)
	s.Write(log.Stdout, []byte("x"), begin.Add(time.Hour))
	s.Close()
	got, _ := os.ReadFile(file)
	first, last, _ := strings.Cut(string(got), "\n")
	want := `{"log":"a\u003c\u0009\"\\\u0001\ufffd\r\n","stream":"stderr","attrs":{"env":"a\"b","tag":"t/\u003c1\u003e"},"time":"2026-11-26T12:00:00.123456789Z"}`
	if first != want {
		t.Errorf("got  %s\nwant %s", first, want)
	}
	if !strings.HasPrefix(last, `{"log":"x","stream":"stdout","attrs":`) || !strings.HasSuffix(last, "\"}\n") {
		t.Errorf("a line without an end: %s", last)
	}
	var attrs map[string]string
	Read(context.Background(), "", file, all(), func(l Line) error { attrs = l.Attrs; return nil })
	if len(attrs) != 2 || attrs["env"] != `a"b` {
		t.Errorf("attributes %v", attrs)
	}
}

// TestRotate: a log takes no more room than it may, and its older files are read with it, packed or not.
func TestRotate(t *testing.T) {
	forms(t, func(t *testing.T, driver string) {
		for _, compress := range []string{"false", "true"} {
			dir := t.TempDir()
			file := filepath.Join(dir, "c.log")
			s := open(t, driver, file, map[string]string{"max-size": "4k", "max-file": "3", "compress": compress})
			var want strings.Builder
			for i := range 1000 {
				line := fmt.Sprintf("line %d\n", i)
				want.WriteString(line)
				s.Write(log.Stdout, []byte(line), begin.Add(time.Duration(i)*time.Second))
			}
			s.Close()
			list, _ := os.ReadDir(dir)
			if len(list) != 3 {
				t.Errorf("compress %s: files %v", compress, list)
			}
			for _, e := range list {
				if i, _ := e.Info(); i.Size() > 4096+100 { // by an entry
					t.Errorf("%s has %d bytes", e.Name(), i.Size())
				}
			}
			if _, err := os.Stat(file + ".1.gz"); (err == nil) != (compress == "true") {
				t.Errorf("compress %s: %v", compress, err)
			}
			got := text(t, driver, file, all())
			if len(got) < 500 || !strings.HasSuffix(want.String(), got) {
				t.Fatalf("compress %s: the end of what was written is not what is read: %.100q … %q", compress, got, got[max(0, len(got)-40):])
			}
			kept := strings.SplitAfter(got, "\n")
			kept = kept[:len(kept)-1]
			for n := 0; n <= len(kept)+1; n++ {
				want := strings.Join(kept[max(0, len(kept)-n):], "")
				if got := text(t, driver, file, Options{Tail: n}); got != want {
					t.Fatalf("compress %s: the last %d: %d bytes, want %d: %.80q", compress, n, len(got), len(want), got)
				}
			}
			o := Options{Tail: -1, Since: begin.Add(995 * time.Second), Until: begin.Add(997 * time.Second)}
			if got := text(t, driver, file, o); got != "line 995\nline 996\nline 997\n" {
				t.Errorf("compress %s: since and until: %q", compress, got)
			}
		}
	})
}

// TestOneFile: a log of one file begins anew when it is full.
func TestOneFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.log")
	s := open(t, "json-file", file, map[string]string{"max-size": "1k", "max-file": "1"})
	for i := range 100 {
		s.Write(log.Stdout, []byte(strconv.Itoa(i)+"\n"), begin)
	}
	s.Close()
	got := text(t, "json-file", file, all())
	list, _ := os.ReadDir(dir)
	if st, err := os.Stat(file); err != nil || len(list) != 1 || st.Size() > 1024+100 || !strings.HasSuffix(got, "\n98\n99\n") {
		t.Errorf("%d files, of %d bytes: %q", len(list), st.Size(), got)
	}
}

// TestPackedBefore: a log whose older files were packed once, and are not any more, has none too many, and none twice.
func TestPackedBefore(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.log")
	options := map[string]string{"max-size": "200", "max-file": "3", "compress": "true"}
	for _, compress := range []string{"true", "false"} {
		options["compress"] = compress
		s := open(t, "json-file", file, options)
		for i := range 20 {
			s.Write(log.Stdout, []byte(compress+strconv.Itoa(i)+"\n"), begin)
		}
		s.Close()
	}
	list, _ := os.ReadDir(dir)
	if got := text(t, "json-file", file, all()); len(list) != 3 || strings.Contains(got, "true") || !strings.HasSuffix(got, "\nfalse18\nfalse19\n") {
		t.Errorf("%v: %q", list, got)
	}
}

// TestTorn: an entry that a killed process left unfinished is taken away by the next one that writes, and is no matter for who reads.
func TestTorn(t *testing.T) {
	forms(t, func(t *testing.T, driver string) {
		file := filepath.Join(t.TempDir(), "c.log")
		s := open(t, driver, file, nil)
		s.Write(log.Stdout, []byte("one\ntwo\nthree\n"), begin)
		s.Close()
		whole, _ := os.ReadFile(file)
		for cut := 1; cut < 30; cut++ {
			if err := os.WriteFile(file, whole[:len(whole)-cut], 0o600); err != nil {
				t.Fatal(err)
			}
			if got := text(t, driver, file, all()); got != "one\ntwo\n" {
				t.Fatalf("cut by %d: %q", cut, got)
			}
			if got := text(t, driver, file, Options{Tail: 1}); driver == "json-file" && got != "two\n" {
				t.Fatalf("cut by %d, the last one: %q", cut, got)
			}
			s := open(t, driver, file, nil)
			s.Write(log.Stdout, []byte("four\n"), begin)
			s.Close()
			if got := text(t, driver, file, all()); got != "one\ntwo\nfour\n" {
				t.Fatalf("cut by %d, and then written to: %q", cut, got)
			}
		}
	})
}

// TestPresentEnd: who does not follow gets what there was, and no more than was asked for, however fast the container goes on.
func TestPresentEnd(t *testing.T) {
	forms(t, func(t *testing.T, driver string) {
		for _, options := range []map[string]string{nil, {"max-size": "1k", "max-file": "100"}} {
			for tail, want := range map[int]int{-1: 30, 1: 1, 20: 20} {
				file := filepath.Join(t.TempDir(), "c.log")
				s := open(t, driver, file, options)
				for range 30 {
					s.Write(log.Stdout, []byte("before\n"), begin)
				}
				got := 0
				err := Read(t.Context(), driver, file, Options{Tail: tail}, func(Line) error {
					if got++; got > want {
						return errors.New("there are more")
					}
					s.Write(log.Stdout, []byte("after\nafter\n"), begin)
					return nil
				})
				if err != nil || got != want {
					t.Errorf("%v, of the last %d: %d, want %d: %v", options, tail, got, want, err)
				}
				s.Close()
			}
		}
	})
}

// TestDamage: what is damaged is left out, and said; all else is read.
func TestDamage(t *testing.T) {
	forms(t, func(t *testing.T, driver string) {
		file := filepath.Join(t.TempDir(), "c.log")
		s := open(t, driver, file, nil)
		s.Write(log.Stdout, []byte("one\ntwo\nthree\n"), begin)
		s.Close()
		data, _ := os.ReadFile(file)
		i := bytes.Index(data, []byte("two"))
		copy(data[i-5:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
		os.WriteFile(file, data, 0o600)
		var got strings.Builder
		err := Read(context.Background(), driver, file, all(), func(l Line) error { got.Write(l.Text); return nil })
		if got.String() != "one\nthree\n" || err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%q, %v", got.String(), err)
		}
	})
}

// TestNoFile: what is in the place of a log's file is named, and nobody waits for who would write to it.
func TestNoFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.log")
	if err := unix.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	none := func([]byte) error { return errors.New("a line of a FIFO") }
	reads := map[string]func() error{
		"Read": func() error {
			return Read(context.Background(), "", file, all(), func(l Line) error { return none(l.Text) })
		},
		"Read tail": func() error {
			return Read(context.Background(), "", file, Options{Tail: 1}, func(l Line) error { return none(l.Text) })
		},
		"ReadLines": func() error {
			return ReadLines(context.Background(), file, all(), func([]byte) (time.Time, error) { return begin, nil }, none)
		},
	}
	for name, read := range reads {
		if err := read(); err == nil || err.Error() != file+" is no regular file" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := log.Open(log.Config{File: file}); err == nil || err.Error() != "log driver json-file: "+file+" is no regular file" {
		t.Errorf("Open: %v", err)
	}
}

// TestLinks: a link in the place of a log's file, or of an older one, is named, and nobody looks for ever for what it names.
func TestLinks(t *testing.T) {
	for _, name := range []string{"c.log", "c.log.1"} {
		for _, to := range []string{"none", "another"} {
			dir := t.TempDir()
			if err := errors.Join(os.WriteFile(dir+"/another", nil, 0o600), os.Symlink(to, filepath.Join(dir, name))); err != nil {
				t.Fatal(err)
			}
			err := Read(context.Background(), "", dir+"/c.log", all(), func(Line) error { return errors.New("a line") })
			if !errors.Is(err, unix.ELOOP) || !strings.Contains(err.Error(), filepath.Join(dir, name)) {
				t.Errorf("%s to %s: %v", name, to, err)
			}
		}
	}
}

// TestDamagedPack: an older file that cannot be unpacked costs what is in it.
func TestDamagedPack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.log")
	s := open(t, "json-file", file, nil)
	s.Write(log.Stdout, []byte("new\n"), begin)
	s.Close()
	for _, data := range []string{"", "no gzip", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"} {
		os.WriteFile(file+".1.gz", []byte(data), 0o600)
		for _, n := range []int{-1, 5} {
			var got strings.Builder
			err := Read(context.Background(), "", file, Options{Tail: n}, func(l Line) error { got.Write(l.Text); return nil })
			if got.String() != "new\n" || err == nil {
				t.Errorf("%q, tail %d: %q, %v", data, n, got.String(), err)
			}
		}
	}
}

// TestFollow: who follows gets every line once and in order, however often the log's file changes, packed or not, and ends when
// there is no more to come.
func TestFollow(t *testing.T) {
	for _, options := range []map[string]string{
		{"max-size": "64k", "max-file": "50"},
		{"max-size": "64k", "max-file": "50", "compress": "true"},
	} {
		forms(t, func(t *testing.T, driver string) {
			file := filepath.Join(t.TempDir(), "c.log")
			s := open(t, driver, file, options)
			s.Write(log.Stdout, []byte("line 0\n"), begin)
			const lines = 20000
			ended := make(chan struct{})
			ready := make(chan struct{})
			go func() {
				<-ready
				for i := 1; i < lines; {
					n := 1 + rand.IntN(200) // of one time, as what is read at once is
					var b []byte
					for ; n > 0 && i < lines; n, i = n-1, i+1 {
						b = fmt.Appendf(b, "line %d\n", i)
					}
					s.Write(log.Stdout, b, begin.Add(time.Duration(i)))
				}
				s.Close()
				close(ended)
				os.WriteFile(filepath.Join(filepath.Dir(file), "state.json"), nil, 0o600)
			}()
			next := 0
			more := func() bool {
				select {
				case <-ended:
					return false
				default:
					return true
				}
			}
			ctx, stop := context.WithTimeout(context.Background(), time.Minute)
			defer stop()
			err := Read(ctx, driver, file, Options{Tail: -1, Follow: true, More: more}, func(l Line) error {
				if next == 0 {
					close(ready)
				}
				if want := fmt.Sprintf("line %d\n", next); string(l.Text) != want {
					return fmt.Errorf("%q, want %q", l.Text, want)
				}
				next++
				return nil
			})
			if err != nil || next != lines {
				t.Errorf("%v: %d lines, %v", options, next, err)
			}
		})
	}
}

// TestFollowUntil: an end that is named ends the wait for it.
func TestFollowUntil(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.log")
	s := open(t, "json-file", file, nil)
	s.Write(log.Stdout, []byte("a\n"), time.Now())
	if got := text(t, "json-file", file, Options{Tail: -1, Follow: true, Until: time.Now().Add(50 * time.Millisecond)}); got != "a\n" {
		t.Errorf("%q", got)
	}
	// What was written before that end and is found after it belongs to it; what is newer does not.
	until := time.Now().Add(10 * time.Millisecond)
	written := false
	o := Options{Tail: -1, Follow: true, Until: until, More: func() bool {
		if !written {
			written = true
			time.Sleep(time.Until(until.Add(time.Millisecond)))
			s.Write(log.Stdout, []byte("b\n"), until)
			s.Write(log.Stdout, []byte("c\n"), until.Add(1))
		}
		return true
	}}
	if got := text(t, "json-file", file, o); got != "a\nb\n" {
		t.Errorf("%q", got)
	}
	s.Close()
	stopped := errors.New("enough")
	err := Read(context.Background(), "json-file", file, Options{Tail: -1, Follow: true}, func(Line) error { return stopped })
	if err != stopped {
		t.Errorf("%v", err)
	}
	if err := Read(context.Background(), "none", file, all(), nil); err != ErrNoReading {
		t.Errorf("%v", err)
	}
}

// FuzzJSON: the short way reads what encoding/json reads, or leaves it to that.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"log":"a\n","stream":"stdout","time":"2026-11-26T12:00:00.123456789Z"}`))
	f.Add([]byte(`{"log":"\u003c\ud83d\ude00\"","stream":"stderr","time":"2026-11-26T12:00:00+01:00"}`))
	f.Add([]byte(`{"log":"\u00`))
	f.Add([]byte(`{"log":"a","stream":"stdout","attrs":{"a":"b"},"time":"2026-11-26T12:00:00Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, ok := parsePlain(b)
		if !ok {
			return
		}
		var x struct {
			Log    string    `json:"log"`
			Stream string    `json:"stream"`
			Time   time.Time `json:"time"`
		}
		if err := json.Unmarshal(b, &x); err != nil {
			t.Fatalf("%q: encoding/json: %v", b, err)
		}
		if x.Log != string(l.Text) || x.Stream != l.Stream.String() || !x.Time.Equal(l.Time) {
			t.Errorf("%q: %q, encoding/json has %q", b, l, x)
		}
	})
}

// FuzzRead: no file is too damaged to be read to its end, forwards or from the end, and the last lines are the last ones.
func FuzzRead(f *testing.F) {
	file := filepath.Join(f.TempDir(), "c.log")
	for _, driver := range []string{"json-file", "local"} {
		s := open(f, driver, file, nil)
		s.Write(log.Stdout, []byte("one\ntwo\nthree"), begin)
		s.Close()
		data, _ := os.ReadFile(file)
		f.Add(data, driver == "local", 1)
		f.Add(append(data, "\x00\x00\x00\x05"...), driver == "local", 2)
		os.Remove(file)
	}
	f.Fuzz(func(t *testing.T, data []byte, local bool, n int) {
		file := filepath.Join(t.TempDir(), "c.log")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		driver := "json-file"
		if local {
			driver = "local"
		}
		read := func(o Options) (lines []string, err error) {
			err = Read(context.Background(), driver, file, o, func(l Line) error { lines = append(lines, string(l.Text)); return nil })
			return lines, err
		}
		whole, err := read(all())
		last, _ := read(Options{Tail: max(n, 0)})
		if err == nil && len(whole) >= max(n, 0) && !local && (len(last) != max(n, 0) || strings.Join(whole[len(whole)-len(last):], "") != strings.Join(last, "")) {
			t.Errorf("the last %d of %q: %q", n, whole, last)
		}
	})
}
