package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kakuri/kakuri/internal/nstest"
	"golang.org/x/sys/unix"
)

// TestFullDisk: a full disk costs lines and holds up nobody. What is in the file is whole, and says what is missing as soon as there is room.
func TestFullDisk(t *testing.T) {
	nstest.Root(t)
	for _, driver := range []string{"json-file", "local"} {
		dir := nstest.Dir(t)
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		ballast, file := filepath.Join(dir, "ballast"), filepath.Join(dir, "c.log")
		if err := os.WriteFile(ballast, make([]byte, 32<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Config{Driver: driver, File: file})
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(1e9, 0)
		for range 3 {
			s.Write(Stdout, bytes.Repeat([]byte("a line of some length\n"), 1000), at)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		s.Write(Stdout, []byte("after\n"), at)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		data, _ := os.ReadFile(file)
		kept := bytes.Count(data, []byte("a line of"))
		note := fmt.Sprintf("kakuri: %d lines are missing from the log here: no space left on device", 3000-kept)
		if kept == 0 || !bytes.Contains(data, []byte(note)) || !bytes.Contains(data, []byte("after")) || bytes.Index(data, []byte(note)) > bytes.Index(data, []byte("after")) {
			t.Errorf("%s: %d lines kept; the end: %.400q", driver, kept, data[max(0, len(data)-400):])
		}
		if driver == "json-file" && (bytes.Count(data, []byte("\n")) != kept+2 || bytes.Count(data, []byte(`{"log":"`)) != kept+2) {
			t.Errorf("a line is not whole")
		}
	}
}

// TestAppend: a log goes on where it was.
func TestAppend(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.log")
	for range 2 {
		s, err := Open(Config{File: file})
		if err != nil {
			t.Fatal(err)
		}
		s.Write(Stdout, []byte("x\n"), time.Now())
		s.Close()
	}
	if data, _ := os.ReadFile(file); bytes.Count(data, []byte("\n")) != 2 {
		t.Errorf("%q", data)
	}
	if err := os.Symlink(file, file+".link"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{File: file + ".link"}); err == nil {
		t.Error("a link is followed")
	}
	if err := unix.Mkfifo(file+".fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{File: file + ".fifo"}); err == nil {
		t.Error("a FIFO is a log")
	}
}

// listen makes a socket of this process, and returns its messages.
func listen(t *testing.T, kind int, sa unix.Sockaddr) (fd int) {
	t.Helper()
	family := unix.AF_UNIX
	if _, ok := sa.(*unix.SockaddrInet4); ok {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, 5)
	}
	if err != nil {
		t.Fatal(err)
	}
	limit := unix.NsecToTimeval(int64(10 * time.Second))
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func receive(t *testing.T, fd int) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Read(fd, buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// fields reads a message of the journal's native protocol.
func fields(t *testing.T, msg string) map[string]string {
	m := map[string]string{}
	for msg != "" {
		line, rest, ok := strings.Cut(msg, "\n")
		if !ok {
			t.Fatalf("no end of a field in %q", msg)
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			n := binary.LittleEndian.Uint64([]byte(rest))
			name, value, rest = line, rest[8:8+n], rest[9+n:]
		}
		m[name], msg = value, rest
	}
	return m
}

// TestJournal: the journal gets Docker's fields, and whatever a line has in it is no field of its own.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	fd := listen(t, unix.SOCK_DGRAM, &unix.SockaddrUnix{Name: path})
	id := strings.Repeat("0123456789abcdef", 4)
	j := newJournal(path, Config{Tag: "tag", Attrs: map[string]string{"com.example/a": "1\nPRIORITY=0", "_x": "2"}, Labels: Labels{ID: id, Name: "web", Image: "nginx"}})
	l := &lines{out: counter{driver: j}}
	defer l.Close()
	at := time.Unix(1e9, 5)
	l.Write(Stderr, []byte("PRIORITY=0\n"), at)
	got := fields(t, receive(t, fd))
	for k, v := range map[string]string{
		"MESSAGE": "PRIORITY=0", "PRIORITY": "3", "CONTAINER_ID": id[:12], "CONTAINER_ID_FULL": id, "CONTAINER_NAME": "web", "CONTAINER_TAG": "tag", "IMAGE_NAME": "nginx",
		"SYSLOG_IDENTIFIER": "tag", "COM_EXAMPLE_A": "1\nPRIORITY=0", "X": "2", "SYSLOG_TIMESTAMP": "2001-09-09T01:46:40.000000005Z",
	} {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
	l.Write(Stdout, append(bytes.Repeat([]byte("x"), pieceSize+1), '\n'), at)
	first, second := fields(t, receive(t, fd)), fields(t, receive(t, fd))
	if first["CONTAINER_PARTIAL_MESSAGE"] != "true" || first["CONTAINER_PARTIAL_LAST"] != "false" || second["CONTAINER_PARTIAL_LAST"] != "true" ||
		first["CONTAINER_PARTIAL_ID"] != second["CONTAINER_PARTIAL_ID"] || second["CONTAINER_PARTIAL_ORDINAL"] != "2" || second["MESSAGE"] != "x" {
		t.Errorf("parts: %v, %v", first["CONTAINER_PARTIAL_ID"], second)
	}
}

// TestJournalGone: no journal costs lines, which it is told of when it is there again.
func TestJournalGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := newJournal(path, Config{})
	l := &lines{out: counter{driver: j}}
	defer l.Close()
	l.Write(Stdout, []byte("a\nb\n"), time.Now())
	fd := listen(t, unix.SOCK_DGRAM, &unix.SockaddrUnix{Name: path})
	j.socket.failed = time.Time{} // as if some time had passed
	l.Write(Stdout, []byte("c\n"), time.Now())
	if got := fields(t, receive(t, fd))["MESSAGE"]; !strings.HasPrefix(got, "kakuri: 2 lines are missing") {
		t.Errorf("%q", got)
	}
	if got := fields(t, receive(t, fd))["MESSAGE"]; got != "c" {
		t.Errorf("%q", got)
	}
}

// loopback has 127.0.0.1 answer in the network namespace of these tests.
func loopback(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil && os.Geteuid() == 0 {
		t.Fatal(err)
	}
}

// TestSyslog: each transport and each form.
func TestSyslog(t *testing.T) {
	dir := t.TempDir()
	host, _ := os.Hostname()
	at := time.Date(2026, 11, 6, 12, 0, 0, 123456789, time.UTC)
	pid := os.Getpid()
	port := func(fd int) int {
		sa, err := unix.Getsockname(fd)
		if err != nil {
			t.Fatal(err)
		}
		return sa.(*unix.SockaddrInet4).Port
	}
	loopback(t)
	local := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	udp, tcp := listen(t, unix.SOCK_DGRAM, local), listen(t, unix.SOCK_STREAM, local)
	stream, gram := listen(t, unix.SOCK_STREAM, &unix.SockaddrUnix{Name: dir + "/s"}), listen(t, unix.SOCK_DGRAM, &unix.SockaddrUnix{Name: dir + "/g"})
	for _, test := range []struct {
		address, format string
		fd              int
		accept          bool
		want            string
	}{
		{fmt.Sprintf("udp://127.0.0.1:%d", port(udp)), "", udp, false, fmt.Sprintf("<27>Nov  6 12:00:00 tag[%d]: line\n", pid)},
		{fmt.Sprintf("tcp://127.0.0.1:%d", port(tcp)), "rfc3164", tcp, true, fmt.Sprintf("<27>Nov  6 12:00:00 %s tag[%d]: line\n", host, pid)},
		{"unix://" + dir + "/s", "rfc5424", stream, true, fmt.Sprintf("<27>1 2026-11-06T12:00:00Z %s tag %d tag - line\n", host, pid)},
		{"unix://" + dir + "/g", "rfc5424micro", gram, false, fmt.Sprintf("<27>1 2026-11-06T12:00:00.123456Z %s tag %d tag - line\n", host, pid)},
		{"unixgram://" + dir + "/g", "", gram, false, fmt.Sprintf("<27>Nov  6 12:00:00 tag[%d]: line\n", pid)},
	} {
		file := filepath.Join(t.TempDir(), "copy")
		s, err := Open(Config{Driver: "syslog", Tag: "tag", File: file, Server: []byte{127, 0, 0, 1}, Options: map[string]string{"syslog-address": test.address, "syslog-format": test.format}})
		if err != nil {
			t.Errorf("%s: %v", test.address, err)
			continue
		}
		if err := Reach(s); err != nil {
			t.Errorf("%s: %v", test.address, err)
		}
		s.Write(Stderr, []byte("\nline\n"), at) // an empty line says nothing
		fd := test.fd
		if test.accept {
			if fd, _, err = unix.Accept(test.fd); err != nil {
				t.Fatal(err)
			}
		}
		if got := receive(t, fd); got != test.want {
			t.Errorf("%s %s: %q, want %q", test.address, test.format, got, test.want)
		}
		if test.accept {
			unix.Close(fd)
		}
		s.Close()
		if data, _ := os.ReadFile(file); !bytes.Contains(data, []byte("line")) {
			t.Errorf("%s: no copy", test.address)
		}
	}
}

// TestSyslogGone: the copy has all lines, even if the server has none.
func TestSyslogGone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "copy")
	s, err := Open(Config{Driver: "syslog", File: file, Options: map[string]string{"syslog-address": "unix:///nowhere", "syslog-facility": "local0"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := Reach(s); !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v", err)
	}
	for range 3 {
		s.Write(Stdout, []byte("line\n"), time.Now())
	}
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "3 lines are missing") {
		t.Errorf("%v", err)
	}
	data, _ := os.ReadFile(file)
	if bytes.Count(data, []byte("line")) != 3 || bytes.Contains(data, []byte("missing")) {
		t.Errorf("%q", data)
	}
}

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		driver, options, want string
	}{
		{"", "max-size=10m max-file=3 compress=true tag={{.Name}} labels=a,b env=c mode=non-blocking max-buffer-size=4m", ""},
		{"local", "max-size=1.5g", ""}, {"journald", "tag=a labels-regex=^a", ""}, {"none", "", ""},
		{"syslog", "syslog-address=udp://[::1]:514 syslog-facility=local7 syslog-format=rfc5424", ""},
		{"syslog", "syslog-address=tcp://log.example.org", ""}, {"syslog", "syslog-facility=23 cache-disabled=true", ""},
		{"json-file", "max-size=-1 max-file=1", ""},
		{"fluentd", "", "no log driver named 'fluentd'"},
		{"json-file", "syslog-address=udp://a", "unknown log opt 'syslog-address' for json-file log driver"},
		{"none", "max-size=1m", "unknown log opt"},
		{"", "max-size=1x", "no size"}, {"", "max-size=0", "no size"}, {"", "max-size=m", "no size"}, {"", "max-size=1mm", "no size"}, {"", "max-size=nan", "no size"},
		{"", "max-file=0", "one file or more"}, {"", "max-size=-1 max-file=3", "must be bounded"},
		{"", "compress=true max-file=1", "compress cannot be true"},
		{"local", "tag=a", "unknown log opt 'tag'"}, {"local", "labels=a", "unknown log opt 'labels'"}, {"local", "env=a", "unknown log opt 'env'"},
		{"", "mode=fast", "logging mode not supported: fast"}, {"", "max-buffer-size=1m", "only supported with 'mode=non-blocking'"},
		{"syslog", "syslog-address=tcp+tls://a", ""}, {"syslog", "syslog-address=tcp+tls://a:b", "HOST[:PORT]"}, {"syslog", "syslog-address=localhost", "form"}, {"syslog", "syslog-address=udp://a:b", "HOST[:PORT]"},
		{"syslog", "syslog-address=unix://rel", "absolute"}, {"syslog", "syslog-facility=x", "facility"}, {"syslog", "syslog-format=x", "rfc3164"},
	} {
		m := map[string]string{}
		for _, o := range strings.Fields(test.options) {
			k, v, _ := strings.Cut(o, "=")
			m[k] = v
		}
		err := Check(test.driver, m)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %s: %v, want %q", test.driver, test.options, err, test.want)
		}
	}
}

// A relay takes the lines for a server that the monitor cannot speak to. Where there is none, the log is not opened.
func TestRelay(t *testing.T) {
	o := map[string]string{"syslog-address": "tcp+tls://localhost:6514", "syslog-format": "rfc5424", "cache-disabled": "true"}
	if got := Encrypted("syslog", o); got != "localhost:6514" {
		t.Errorf("%q", got)
	}
	if _, err := Open(Config{Driver: "syslog", Options: o}); err == nil || !strings.Contains(err.Error(), "no program was named") {
		t.Errorf("%v", err)
	}
	out := t.TempDir() + "/out"
	relay := func(script string) []string { return []string{"/bin/sh", "sh", "-c", script} }
	s, err := Open(Config{Driver: "syslog", Options: o, Tag: "tag", Relay: relay(`printf '\000' >&0; exec cat >` + out)})
	if err != nil {
		t.Fatal(err)
	}
	s.Write(Stdout, []byte("one\ntwo\n"), time.Now())
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	// RFC 5425: each message has its length before it. A line's end is the last byte of it.
	data, err := os.ReadFile(out)
	for _, want := range []string{"one", "two"} {
		size, rest, _ := strings.Cut(string(data), " ")
		n, nerr := strconv.Atoi(size)
		if err != nil || nerr != nil || n > len(rest) || !strings.HasPrefix(rest, "<30>1 ") || !strings.HasSuffix(rest[:n], " "+want+"\n") {
			t.Fatalf("%v: %q, want %s", err, data, want)
		}
		data = []byte(rest[n:])
	}
	if len(data) != 0 {
		t.Errorf("%q is left", data)
	}
	s, err = Open(Config{Driver: "syslog", Options: o, Relay: relay(`printf 'the certificate is of another' >&0`)})
	if err != nil {
		t.Fatal(err)
	}
	s.Write(Stdout, []byte("lost\n"), time.Now())
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "the certificate is of another") {
		t.Errorf("%v", err)
	}
}

func TestSplitPort(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a 514", "a:1": "a 1", "[::1]:2": "::1 2", "[::1]": "::1 514", "::1": "::1 514", "[::1]2": " ", ":3": " 3",
	} {
		if host, port := splitPort(in); host+" "+port != want {
			t.Errorf("%s: %q %q, want %q", in, host, port, want)
		}
	}
}

// BenchmarkWrite measures what a container's output costs its monitor.
func BenchmarkWrite(b *testing.B) {
	line := []byte("2026-11-26T12:00:00 some program says \"something\" of a <usual> length, with a few words more\n")
	chunk := bytes.Repeat(line, 32<<10/len(line))
	for _, driver := range []string{"json-file", "local"} {
		b.Run(driver, func(b *testing.B) {
			s, err := Open(Config{Driver: driver, File: filepath.Join(b.TempDir(), "c.log"), Options: map[string]string{"compress": "false"}})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			for b.Loop() {
				s.Write(Stdout, chunk, time.Now())
			}
			s.Close()
		})
	}
}

// TestRefused: a port of UDP that nobody listens at is not asked for each of the lines of a container that floods its log, which all have to be dealt with before it
// can end; and it is asked again.
func TestRefused(t *testing.T) {
	l, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.LocalAddr().(*net.UDPAddr).Port
	l.Close()
	synctest.Test(t, func(t *testing.T) { // whose time stands still
		s := &socket{kind: unix.SOCK_DGRAM, sa: &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}, fd: -1}
		defer s.close()
		for range 2 {
			sent := 0
			for s.send([]byte("line")) == nil {
				if sent++; sent == 10_000 {
					t.Fatal("each line was sent")
				}
			}
			if sent == 0 {
				t.Error("it was not asked again")
			}
			for range 100 {
				if s.send([]byte("line")) == nil || s.fd >= 0 {
					t.Fatal("it was asked in the pause")
				}
			}
			time.Sleep(pause)
		}
	})
}
