package criu

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain plays CRIU where the test binary is started by that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == Program {
		play(os.Args[1:])
		return
	}
	os.Exit(m.Run())
}

// The script of a played CRIU is in the environment, a word for each message that it waits for:
//
//	HEX    it answers with these bytes
//	end    it ends
//	hang   it waits to be killed
//	fd:HEX it answers with these bytes and two descriptors
const scriptVar = "TEST_CRIU_SCRIPT"

func play(args []string) {
	if !slices.Equal(args, []string{"swrk", "3"}) {
		fmt.Println("arguments", args)
		os.Exit(9)
	}
	buf := make([]byte, 64<<10)
	for word := range strings.FieldsSeq(os.Getenv(scriptVar)) {
		n, err := unix.Read(3, buf)
		if err != nil || n == 0 {
			os.Exit(8)
		}
		text, fds := strings.CutPrefix(word, "fd:")
		switch text {
		case "end":
			os.Exit(7)
		case "leave": // a process that has the socket open until its end, and ends
			null, _ := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			os.StartProcess("/bin/cat", []string{"cat"}, &os.ProcAttr{Files: []*os.File{os.NewFile(3, ""), null, null}})
			os.Exit(7)
		case "hang":
			unix.Pause()
		}
		b, _ := hex.DecodeString(text)
		var rights []byte
		if fds {
			rights = unix.UnixRights(1, 2)
		}
		if err := unix.Sendmsg(3, b, rights, nil, 0); err != nil {
			os.Exit(6)
		}
	}
	// CRIU ends at the end of the socket.
	for {
		if n, err := unix.Read(3, buf); err != nil || n == 0 {
			return
		}
	}
}

// played starts a CRIU with a script.
func played(t *testing.T, script ...string) *Session {
	t.Helper()
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(exe, filepath.Join(dir, Program)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Setenv(scriptVar, strings.Join(script, " "))
	s, err := Start(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// answer writes criu_resp by hand: pairs of a field and its value.
func answer(pairs ...any) string {
	var e encoder
	for i := 0; i < len(pairs); i += 2 {
		field := pairs[i].(int)
		switch v := pairs[i+1].(type) {
		case int:
			e.number(field, int64(v))
		case string:
			if b, err := hex.DecodeString(strings.TrimPrefix(v, "x")); err == nil && strings.HasPrefix(v, "x") {
				v = string(b)
			}
			e.must(field, v)
		}
	}
	return hex.EncodeToString(e.b)
}

func notice(script string, pid int) string {
	return answer(1, 6, 2, 1, 5, "x"+answer(1, script, 2, pid))
}

// Each option is the field of criu_opts that rpc.proto has for it.
func TestOptions(t *testing.T) {
	o := &Opts{
		ImagesDir: 5, PID: 77, LeaveRunning: true, ExtUnixSk: true, TCPEstablished: true, EvasiveDevices: true, ShellJob: true, FileLocks: true,
		LogLevel: 4, LogFile: "l", PageServer: &PageServer{"::1", 300}, Notify: true, Root: "/r", Parent: "p", TrackMem: true, AutoDedup: true,
		WorkDir: 6, LinkRemap: true, ExtMounts: []ExtMount{{"k", "n"}, {"", ""}}, CgroupRoots: []CgroupRoot{{"", "/c"}, {"pids", "/d"}},
		Sibling: true, Inherit: []Inherit{{"i", 9}}, Cgroups: CgroupStrict, External: []string{"e", "f"}, EmptyNS: 0x40000000, Join: []Join{{"ipc", "/x"}},
		FreezeCgroup: "/f", TCPSkipInFlight: true, LazyPages: true, StatusFD: 8, OrphanPts: true, ConfigFile: "c", LSMProfile: "a:b", LSMMountContext: "m",
	}
	want := []string{
		"1=5", "2=77", "3=1", "4=1", "5=1", "6=1", "7=1", "8=1", "9=4", "10=l", "11={1=::1 2=300}", "12=1", "13=/r", "14=p", "15=1", "16=1", "17=6", "18=1",
		"23={1=k 2=n}", "23={1= 2=}", "24=1", "25={1= 2=/c}", "25={1=pids 2=/d}", "26=1", "27={1=i 2=9}", "34=5", "37=e", "37=f", "38=1073741824",
		"39={1=ipc 2=/x}", "44=/f", "46=1", "48=1", "49=8", "50=1", "51=c", "53=a:b", "63=m",
	}
	got := describe(t, Request{Type: Dump, Opts: o, KeepOpen: true, Features: &Features{true, true}}.encode(), "2", "2.11", "2.23", "2.25", "2.27", "2.39", "5")
	if want := "1=1 2={" + strings.Join(want, " ") + "} 4=1 5={1=1 2=1}"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// The zero value has what is required, and no more.
	if got := describe(t, Request{Type: Restore, Opts: &Opts{Cgroups: CgroupIgnore}}.encode(), "2"); got != "1=2 2={1=0 24=1 34=0}" {
		t.Error(got)
	}
	// Each field of Opts is one that is written.
	for v, i := reflect.ValueOf(o).Elem(), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not in this test", v.Type().Field(i).Name)
		}
	}
}

// describe writes a message out; messages are the fields that are messages again.
func describe(t *testing.T, b []byte, messages ...string) string {
	t.Helper()
	var walk func(b []byte, at string) string
	walk = func(b []byte, at string) string {
		var list []string
		err := eachField(b, func(field, kind int, n uint64, data, _ []byte) error {
			name := fmt.Sprint(field)
			switch {
			case kind == wireVarint:
				list = append(list, fmt.Sprintf("%s=%d", name, int64(n)))
			case slices.Contains(messages, strings.TrimPrefix(at+"."+name, ".")):
				list = append(list, fmt.Sprintf("%s={%s}", name, walk(data, strings.TrimPrefix(at+"."+name, "."))))
			default:
				list = append(list, fmt.Sprintf("%s=%s", name, data))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(list, " ")
	}
	return walk(b, "")
}

func TestDecode(t *testing.T) {
	for _, test := range []struct {
		hex  string
		want Answer
		bad  bool
	}{
		{hex: answer(1, 10, 2, 1, 10, "x"+answer(1, 4, 2, 2, 4, 1)), want: Answer{Type: Version, Success: true, Version: 40201}},
		{hex: answer(1, 10, 2, 1, 10, "x"+answer(1, 3, 2, 17, 3, "v3.17-5", 4, 2)), want: Answer{Type: Version, Success: true, Version: 31800}},
		{hex: answer(1, 1, 2, 0, 7, 52, 9, "no", 77, "a field to come"), want: Answer{Type: Dump, Errno: 52, Message: "no"}},
		{hex: answer(1, 2, 2, 1, 4, "x"+answer(1, 99)), want: Answer{Type: Restore, Success: true, Pid: 99}},
		{hex: answer(1, 9, 2, 1, 8, "x"+answer(1, 1, 2, 0)), want: Answer{Type: FeatureCheck, Success: true, Features: Features{MemTrack: true}}},
		{hex: notice("post-restore", 12), want: Answer{Type: Notify, Success: true, Notice: Notice{Script: "post-restore", PID: 12}}},
		{hex: "0801" + "15" + "01020304" + "19" + "0102030405060708" + "1001", want: Answer{Type: Dump, Success: true}},
		{hex: answer(2, 1), bad: true},                  // no type
		{hex: "08", bad: true},                          // cut short
		{hex: "0801" + "2a05" + "00", bad: true},        // longer than there is
		{hex: "0801" + "13", bad: true},                 // a group
		{hex: "0801" + "00", bad: true},                 // field 0
		{hex: "08ffffffffffffffffff7f", bad: true},      // more than 64 bits
		{hex: "0801" + "15" + "010203", bad: true},      // of four bytes, three
		{hex: "0801" + "2a02" + "08" + "80", bad: true}, // within
	} {
		b, err := hex.DecodeString(test.hex)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(b)
		if (err != nil) != test.bad || !test.bad && !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, %+v, want %+v", test.hex, err, got, test.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{answer(1, 10, 2, 1, 10, "x"+answer(1, 4, 2, 2, 4, 1)), notice("a", 1), answer(1, 1, 7, -1)} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		decode(b)
		// Whatever is a message is copied without a change.
		same, err := mapFields(b, func(_ int, data []byte) ([]byte, bool, error) { return data, true, nil })
		if err != nil {
			return
		}
		again, err := mapFields(same, func(_ int, data []byte) ([]byte, bool, error) { return data, true, nil })
		if err != nil || !bytes.Equal(same, again) {
			t.Fatalf("%v: %x, copied %x", err, same, again)
		}
	})
}

// A session asks, sees the stages with their descriptors, and gets its answer; the descriptors are closed then.
func TestSession(t *testing.T) {
	s := played(t, answer(1, 10, 2, 1, 10, "x"+answer(1, 4, 2, 0)), notice("pre-dump", 0), "fd:"+notice("orphan-pts-master", 3), answer(1, 1, 2, 1))
	a, err := s.Do(context.Background(), Request{Type: Version, KeepOpen: true}, nil)
	if err != nil || a.Version != 40000 {
		t.Fatalf("%v: %+v", err, a)
	}
	var seen []string
	var fds []int
	a, err = s.Do(context.Background(), Request{Type: Dump, Opts: &Opts{}}, func(n Notice) error {
		seen = append(seen, fmt.Sprint(n.Script, n.PID))
		fds = append(fds, n.FDs...)
		for _, fd := range n.FDs {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags != unix.FD_CLOEXEC {
				t.Errorf("descriptor %d: %v, flags %d", fd, err, flags)
			}
		}
		return nil
	})
	if err != nil || !a.Success || !slices.Equal(seen, []string{"pre-dump0", "orphan-pts-master3"}) || len(fds) != 2 {
		t.Fatalf("%v: %+v, %v, %v", err, a, seen, fds)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A key that CRIU would read as another one is not sent.
func TestKeys(t *testing.T) {
	for key, good := range map[string]bool{"/a": true, "/a]": true, "/a:]": true, "/a]:": false, "/a]:/etc": false, "/x/]:]:": false} {
		s := played(t, answer(1, 1, 2, 1))
		_, err := s.Do(context.Background(), Request{Type: Dump, Opts: &Opts{ExtMounts: []ExtMount{{"/b]", "n]:"}, {key, "n"}}}}, nil)
		if (err == nil) != good {
			t.Errorf("%s: %v", key, err)
		}
		s.Close()
	}
}

// An error at a stage is told to CRIU, and is what Do returns.
func TestRefusedStage(t *testing.T) {
	no := errors.New("no")
	s := played(t, notice("setup-namespaces", 5), answer(1, 2, 2, 0))
	if _, err := s.Do(context.Background(), Request{Type: Restore, Opts: &Opts{}}, func(Notice) error { return no }); err != no {
		t.Error(err)
	}
	if want := "1=6 3=0"; describe(t, notified(false)) != want || describe(t, notified(true)) != "1=6 3=1" {
		t.Errorf("refusal is %s", describe(t, notified(false)))
	}
}

func TestSessionErrors(t *testing.T) {
	req := Request{Type: Dump, Opts: &Opts{}}
	for name, test := range map[string]struct {
		script []string
		want   string
	}{
		"failure":      {[]string{answer(1, 1, 2, 0, 7, 52, 9, "why")}, "criu failed: type dump errno 52 (invalid exchange): why"},
		"other answer": {[]string{answer(1, 2, 2, 1)}, "an answer of restore to a request of dump"},
		"no message":   {[]string{"ff"}, "no protocol buffer"},
		"ended":        {[]string{"end"}, "it ended without an answer: exit status 7"},
		"left behind":  {[]string{"leave"}, "it ended without an answer: exit status 7"},
		"ended later":  {[]string{notice("pre-dump", 0), "end"}, "it ended without an answer: exit status 7"},
	} {
		t.Run(name, func(t *testing.T) {
			s := played(t, test.script...)
			_, err := s.Do(context.Background(), req, func(Notice) error { return nil })
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// The end of the context ends a CRIU that does not answer.
func TestCancelled(t *testing.T) {
	s := played(t, notice("pre-dump", 0), "hang")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := s.Do(ctx, Request{Type: Dump, Opts: &Opts{}}, func(Notice) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "killed") {
		t.Error(err)
	}
}

// A criu is looked for in absolute directories of PATH, and none has a word on where to get it.
func TestNone(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"", dir, "relative:" + dir} {
		t.Setenv("PATH", path)
		if _, err := Start(Options{}); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "install the package criu") {
			t.Errorf("PATH=%s: %v", path, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, Program), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Options{}); !errors.Is(err, ErrNone) {
		t.Errorf("a file that is no program: %v", err)
	}
}

// core is an image file of a process with these thread_core fields.
func core(thread string) []byte {
	b, _ := hex.DecodeString(answer(1, 1, 2, "registers", 3, "task", 5, "x"+thread))
	out := binary.LittleEndian.AppendUint32(nil, magicCommon)
	out = binary.LittleEndian.AppendUint32(out, magicCore)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(b)))
	return append(out, b...)
}

func TestForgetParentDeath(t *testing.T) {
	path := t.TempDir()
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	file := filepath.Join(path, "core-1.img")
	with, without := core(answer(1, 0, 2, 0, 3, 0, 7, "sas", 8, 9, 12, 0)), core(answer(1, 0, 2, 0, 3, 0, 7, "sas", 12, 0))
	for _, before := range [][]byte{with, without} {
		before, without := append(before, "rest"...), append(without, "rest"...)
		if err := os.WriteFile(file, before, 0o640); err != nil {
			t.Fatal(err)
		}
		if err := ForgetParentDeath(dir, 1); err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(after, without) {
			t.Errorf("%v: %x became %x, want %x", err, before, after, without)
		}
	}
	list, err := os.ReadDir(path)
	if err != nil || len(list) != 1 {
		t.Errorf("%v: there are %v", err, list)
	}
	for name, data := range map[string][]byte{"empty": {}, "another": append([]byte("12345678"), with[8:]...), "short": with[:len(with)-1]} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := ForgetParentDeath(dir, 1); err == nil {
			t.Errorf("%s: no error", name)
		}
		if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, data) {
			t.Errorf("%s: %v: it was changed", name, err)
		}
	}
	// Not through a link.
	if err := errors.Join(os.Remove(file), os.WriteFile(path+"/real", with, 0o600), os.Symlink("real", file)); err != nil {
		t.Fatal(err)
	}
	if err := ForgetParentDeath(dir, 1); !errors.Is(err, unix.ELOOP) {
		t.Error(err)
	}
}
